"""The picture's size, and what is written where there is a terminal and where there is none."""

from __future__ import annotations

import io
import pty
import re
import termios

import pytest

from mukernel.demo.load import Account, Rates
from mukernel.demo.picture import HEIGHT, Picture, Row, clipped, laid_out
from mukernel.demo.screen import ENTER, LEAVE, LiveScreen, PlainLines, screen_for
from mukernel.demo.summary import WIDTH, Calls, Event, Indexed, PluginLedger, Results, Summary, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def full_picture() -> Picture:
    names = ("files", "parser", "index", "ranker", "search")
    return Picture(
        "mukernel demo",
        elapsed=21.0,
        doing="next: kill -9 everything",
        rows=[Row(name, "C" * 30, "process", "serving", [12345] * 3, 99999.0, 12) for name in names],
        rates=Rates(99999.0, 0.9, 9.9),
        history=[float(rate) for rate in range(100)],
        account=Account(made=999_999, right=999_990, wrong=1),
        ledger=PluginLedger(999_999, 999_990, 5, 2, 2, 0),
        results=Results("a query of many words " * 9, ["before " * 20] * 5, ["after " * 20] * 5),
        events=[Event(at, "serves again", "ranker", "detail " * 30, 1.5) for at in range(30)],
    )


def text_of(written: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)


def test_the_fullest_picture_fits_a_terminal_of_100_by_30() -> None:
    lines = laid_out(full_picture())
    assert len(lines) <= HEIGHT
    for line in lines:
        assert sum(len(text) for text, _ in clipped(line, WIDTH)) <= WIDTH


@pytest.mark.parametrize("height", range(1, HEIGHT + 2))
def test_a_low_terminal_shows_the_newest_events_and_what_comes_next(height: int) -> None:
    lines = ["".join(text for text, _ in line) for line in laid_out(full_picture(), height)]
    assert len(lines) <= height
    assert lines[-1].strip() == "next: kill -9 everything"
    shown = [float(line.partition("s")[0]) for line in lines if "detail" in line]
    assert shown == [float(at) for at in range(30 - len(shown), 30)]
    assert len(shown) >= min(5, height - 1)
    if height >= 17:
        assert lines[0].startswith("mukernel demo")
    if height >= 24:
        assert sum("before" in line for line in lines) >= 2


def test_events_to_come_move_nothing() -> None:
    picture = full_picture()
    events, picture.events = picture.events, []
    places = set()
    for event in events:
        picture.events.append(event)
        lines = ["".join(text for text, _ in line) for line in laid_out(picture, 24)]
        places.add(next(number for number, line in enumerate(lines) if line.lstrip().startswith("AT")))
    assert len(places) == 1


def test_a_picture_before_the_load_fits_too() -> None:
    picture = full_picture()
    picture.account, picture.progress = Account(), (5, 10)
    lines = laid_out(picture, 4)
    assert len(lines) == 4
    assert lines[-1] == [("next: kill -9 everything", "cyan")]


def test_a_terminal_that_is_resized_is_filled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # what a shell exports says what was so when it began
    monkeypatch.setenv("LINES", "200")
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream, open(ours, "rb", buffering=0) as seen:
        screen = screen_for(stream, {"TERM": "xterm"})
        for width, height in ((80, 24), (60, 12), (120, 40)):
            termios.tcsetwinsize(stream.fileno(), (height, width))
            screen.draw(full_picture())
            shown = b""
            while shown.count(b"\r\r\n") < min(height, HEIGHT) - 1 or b"29.0s" not in shown:  # it comes in pieces
                shown += seen.read(65536)
            lines = text_of(shown.decode(errors="replace")).split("\r\r\n")  # the terminal's own one, too
            assert len(lines) == min(height, HEIGHT)
            assert max(map(len, lines)) <= width
            assert "29.0s" in lines[-2]


@pytest.mark.parametrize("width", range(1, 12))
def test_clipping_keeps_to_the_width(width: int) -> None:
    shown = "".join(text for text, _ in clipped([("abc", ""), ("", "red"), ("defgh", "bold")], width))
    assert shown == ("abcdefgh" if width >= 8 else "abcdefgh"[: width - 1] + "…")


def test_a_terminal_is_redrawn_in_place_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "10")
    stream = Terminal()
    screen = screen_for(stream, {"TERM": "xterm"})
    assert isinstance(screen, LiveScreen)
    screen.draw(full_picture())
    screen.draw(full_picture())
    screen.close()
    screen.close()
    written = stream.getvalue()
    assert written.startswith(ENTER) and written.endswith(LEAVE)
    assert (written.count(ENTER), written.count(LEAVE)) == (1, 1)
    lines = text_of(written.partition("\x1b[H")[2].partition("\x1b[H")[0]).split("\r\n")
    assert len(lines) == 10
    assert max(map(len, lines)) <= 60


def test_no_color_leaves_the_colours_out() -> None:
    stream = Terminal()
    screen_for(stream, {"TERM": "xterm", "NO_COLOR": "1"}).draw(full_picture())
    assert not re.search(r"\x1b\[[0-9;]*m", stream.getvalue())


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}])
def test_a_terminal_that_can_not_be_redrawn_gets_lines(environment: dict[str, str]) -> None:
    assert isinstance(screen_for(Terminal(), environment), PlainLines)


def test_plain_lines_hold_no_escape_sequence() -> None:
    stream = io.StringIO()
    screen = screen_for(stream, {"TERM": "xterm"})
    indexing = Picture("demo", progress=(50, 100))
    screen.draw(indexing)
    screen.draw(full_picture())
    screen.happened(full_picture().events[0])
    screen.compared(Results("seek", ["a"], ["b", "c"]))
    screen.close()
    written = stream.getvalue()
    assert "\x1b" not in written
    assert "indexing: 50 of 100 files" in written
    assert "999,999 made, 1 wrong, failed or hung" in written
    assert "serves again  ranker" in written


def test_a_name_with_control_characters_takes_one_line() -> None:
    name = "a\x1b]0;title\x07\nb"
    stream, lines = Terminal(), io.StringIO()
    picture = full_picture()
    picture.title, picture.results = name, Results("q", [name] * 5, [name] * 5)
    for screen in (screen_for(stream, {"TERM": "xterm"}), screen_for(lines)):
        screen.draw(picture)
        screen.happened(Event(1.0, "swap", "ranker", name))
        screen.compared(picture.results)
    assert "a?]0;title??b" in stream.getvalue() and "\x1b]" not in stream.getvalue()
    assert lines.getvalue().count("a?]0;title??b") == 11 and "\x1b" not in lines.getvalue()


def test_the_summary_tells_what_was_left_out() -> None:
    indexed = Indexed("code", 2, 9, 1, 1.0, 3, True, True, {"links": 1_000, "folders of tests": 2}, {"a reason": 1})
    assert indexed.gaps == ["unreadable: a reason (1)", "left out: folders of tests (2), links (1,000)"]
    calls = Calls(1, 1, 0, 0, 0, 1, 1.0, 1.0, 1.0, 1.0, {})
    lines = table(Summary(True, "3.11", indexed, 1.0, calls, {}, [], Results("q", [], []), []))
    assert lines[1:3] == [f"          {gap}" for gap in indexed.gaps]
