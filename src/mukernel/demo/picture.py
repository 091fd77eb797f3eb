"""The live picture: what is to be seen at one moment, laid out as lines. It knows no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .load import Account, Rates
from .summary import EVENT_HEAD, MS, WIDTH, Event, PluginLedger, Results, pause_text, shortened

HEIGHT = 30  # lines that the picture needs to be seen whole; its columns are WIDTH
BARS = "▁▂▃▄▅▆▇█"
EVENTS = 8  # as many of the latest are shown
RESULTS = 5  # as many of a query are shown
# What gives way on a lower terminal, in this order: (empty lines between the parts, results, events).
LAYOUTS = (
    *((True, RESULTS, events) for events in range(EVENTS, 4, -1)),
    *((True, results, 5) for results in range(RESULTS - 1, 1, -1)),
    (False, 2, 5),
    (False, 0, 5),
)

Segment = tuple[str, str]  # a text and its style: "", "bold", "dim", "red", "green", "yellow" or "cyan"
Line = list[Segment]


@dataclass(slots=True)
class Row:
    """One plug-in in the table. `rate`: calls a second; None where it is called as a method, uncounted."""

    name: str
    use: str
    placement: str
    state: str
    pids: list[int]
    rate: float | None
    restarts: int


@dataclass(slots=True)
class Picture:
    """Everything that is shown. `progress`: files indexed, and in all; None when that is over."""

    title: str
    elapsed: float = 0.0
    progress: tuple[int, int] | None = None
    doing: str = ""
    rows: list[Row] = field(default_factory=list)
    rates: Rates = field(default_factory=Rates)
    history: list[float] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    ledger: PluginLedger | None = None
    results: Results | None = None
    events: list[Event] = field(default_factory=list)


def laid_out(picture: Picture, height: int = HEIGHT) -> list[Line]:
    """The picture's lines, from the top: at most `height`, with the newest event, and what comes next, at the end."""
    if not picture.account.made:  # the load has not begun
        bar = [] if picture.progress is None else [progress_bar(*picture.progress), []]
        return [*head(picture, True), [], *bar, [(picture.doing, "cyan")]][-height:]
    lines: list[Line] = []
    for spaced, results, events in LAYOUTS:
        space: list[Line] = [[]] if spaced else []
        lines = [*head(picture, spaced), *space, *load_lines(picture)]
        if picture.results is not None and results:
            lines += [*space, *results_table(picture.results, results)]
        lines += [*space, [(EVENT_HEAD, "dim")], *map(event_line, picture.events[-events:])]
        lines.append([(f"        {picture.doing}", "cyan")] if picture.doing else [])
        if len(lines) + max(0, events - len(picture.events)) <= height:  # with room for those that are to come
            return lines
    return lines[-height:]  # then the top


def head(picture: Picture, spaced: bool) -> list[Line]:
    title: Line = [(picture.title, "bold"), (f"   {picture.elapsed:.1f} s", "dim")]
    return [title, *([[]] if spaced else []), *plugin_table(picture.rows)]


def plugin_table(rows: Sequence[Row]) -> list[Line]:
    columns = f"{'PLUG-IN':<10}{'CLASS':<20}{'PLACEMENT':<11}{'STATE':<11}{'CALLS/S':>8}{'RESTARTS':>10}  PID"
    return [[(columns, "dim")], *(plugin_line(row) for row in rows)]


def plugin_line(row: Row) -> Line:
    rate = "direct" if row.rate is None else f"{row.rate:,.0f}"
    pids = " ".join(str(pid) for pid in row.pids)
    return [
        (f"{row.name:<10}", "bold"),
        (f"{row.use:<20.19}", ""),
        (f"{row.placement:<11}", "cyan" if row.placement == "inline" else "yellow"),
        (f"{row.state:<11}", "green" if row.state == "serving" else "red"),
        (f"{rate:>8}{row.restarts:>10}  {pids}", ""),
    ]


def progress_bar(done: int, total: int) -> Line:
    width = 40
    full = width * done // total if total else 0
    return [
        ("indexing  ", "bold"),
        ("█" * full, "green"),
        ("░" * (width - full), "dim"),
        (f"  {done:,} of {total:,} files", ""),
    ]


def load_lines(picture: Picture) -> list[Line]:
    rates, account = picture.rates, picture.account
    bad = account.wrong + account.hung + account.failed.total()
    lines: list[Line] = [
        [
            (f"{rates.calls:7,.0f} calls/s", "bold"),
            (f"   p50 {rates.p50 * MS:6.1f} ms   p99 {rates.p99 * MS:6.1f} ms   ", ""),
            (spark_line(picture.history), "cyan"),
        ],
        [
            (f"{account.made:7,} made   = {account.right:,} right + {account.under_way} under way + ", ""),
            (f"{bad} wrong, failed or hung", "red" if bad else "green"),
        ],
    ]
    ledger = picture.ledger
    if ledger is not None:
        account_of_kernel = (
            f"{ledger.accepted:7,} ledger = {ledger.replied:,} replied + {ledger.refused} refused"
            f" + {ledger.running} running + {ledger.waiting} waiting"
        )
        lines.append([(account_of_kernel, "")])
    return lines


def spark_line(values: Sequence[float], width: int = 30) -> str:
    shown = values[-width:]
    highest = max(shown, default=0.0)
    return "".join(BARS[int((len(BARS) - 1) * value / highest)] if highest else BARS[0] for value in shown)


def results_table(results: Results, count: int) -> list[Line]:
    column = WIDTH // 2
    query = shortened(f"results of {results.query!r}", column - 2)
    lines: list[Line] = [[(f"{query:<{column}}after the swap of the ranker", "bold")]]
    for place in range(count):
        before, after = (each[place] if place < len(each) else "" for each in (results.before, results.after))
        style = "green" if after and after not in results.before else ""
        lines.append(
            [
                (f"  {shortened(before, column - 4):<{column - 2}}", ""),
                (f"  {shortened(after, column - 4)}", style),
            ]
        )
    return lines


def event_line(event: Event) -> Line:
    return [
        (f"{event.at:5.1f}s  ", "dim"),
        (f"{event.what:<14}", "bold" if event.good else "red"),
        (f"{event.plugin:<9}", ""),
        (f"{pause_text(event.pause):>9}  ", "yellow"),
        (event.detail, "" if event.good else "red"),
    ]


def clipped(line: Line, width: int) -> Line:
    """What of a line fits into `width` columns; an ellipsis stands for the rest."""
    if sum(len(text) for text, _ in line) <= width:
        return line
    shown: Line = []
    left = width - 1
    for text, style in line:
        shown.append((text[:left], style))
        left -= len(text)
        if left < 0:
            break
    return [*shown, ("…", "dim")]
