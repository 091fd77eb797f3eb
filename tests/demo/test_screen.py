"""The picture's size, and what is written where there is a terminal and where there is none."""

from __future__ import annotations

import io
import re

import pytest

from mukernel.demo.load import Account, Rates
from mukernel.demo.picture import HEIGHT, Picture, Row, clipped, laid_out
from mukernel.demo.screen import ENTER, LEAVE, LiveScreen, PlainLines, screen_for
from mukernel.demo.summary import WIDTH, Event, PluginLedger, Results


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
