"""What the demo has found, as data for scripts and as a table for people."""

from __future__ import annotations

from itertools import zip_longest

import msgspec

from mukernel import Ledger

from .load import Load, percentile

MS = 1000.0  # milliseconds in a second
WIDTH = 100  # columns that a line may take
EVENT_HEAD = f"{'AT':>6}  {'EVENT':<14}{'PLUG-IN':<9}{'PAUSE':>9}  DETAIL"


class Event(msgspec.Struct, frozen=True):
    """One thing that was done to a plug-in.

    `at`: seconds since the load began. `pause`: seconds in which the plug-in started no call, None where that
    has no meaning. `good`: it went as the demo wanted.
    """

    at: float
    what: str
    plugin: str
    detail: str
    pause: float | None = None
    good: bool = True


class Calls(msgspec.Struct, frozen=True):
    """The load's own account. `errors`: the failed ones by the type of the error."""

    made: int
    right: int
    wrong: int
    failed: int
    hung: int
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    errors: dict[str, int]


class PluginLedger(msgspec.Struct, frozen=True):
    """The kernel's account of the calls that one plug-in's mailboxes accepted, taken when all was quiet."""

    accepted: int
    replied: int
    refused: int
    running: int
    waiting: int
    lost: int


class Indexed(msgspec.Struct, frozen=True):
    """What was indexed. `unreadable`: files that could not be read or parsed, and folders that could not be
    entered. `found`: all the files that there are, as far as the folder was walked; `walked`: to its end; `complete`:
    every file had its turn before the time for indexing was over. `left_out`: how many files and folders were left out
    by rule, and `unreadable_by_reason`: how many were unreadable, for each reason."""

    folder: str
    files: int
    symbols: int
    unreadable: int
    seconds: float
    found: int
    walked: bool
    complete: bool
    left_out: dict[str, int]
    unreadable_by_reason: dict[str, int]

    @property
    def files_text(self) -> str:
        """How many files, and of how many where there was no time for all."""
        if self.complete:
            return f"{self.files:,} files"
        more = "" if self.walked else "more than "
        return f"{self.files:,} of {more}{self.found:,} files (the first {self.seconds:.0f} s of it)"

    @property
    def gaps(self) -> list[str]:
        """What of the folder is not in the index, and why, in words."""
        gaps = {"unreadable": self.unreadable_by_reason, "left out": self.left_out}
        return [
            f"{what}: {', '.join(f'{reason} ({count:,})' for reason, count in sorted(counts.items()))}"
            for what, counts in gaps.items()
            if counts
        ]


class Results(msgspec.Struct, frozen=True):
    """The first results of one query, before and after the ranker was swapped."""

    query: str
    before: list[str]
    after: list[str]


class Summary(msgspec.Struct, frozen=True):
    """The whole run. `problems`: why `good` is false, in words."""

    good: bool
    python: str
    indexed: Indexed
    seconds: float
    calls: Calls
    ledgers: dict[str, PluginLedger]
    events: list[Event]
    results: Results
    problems: list[str]


def calls_of(load: Load, seconds: float) -> Calls:
    """The account of a load that has ended, and went on for so many seconds."""
    account, latencies = load.account, load.latencies
    return Calls(
        made=account.made,
        right=account.right,
        wrong=account.wrong,
        failed=account.failed.total(),
        hung=account.hung,
        callers=load.callers,
        per_second=round(len(latencies) / seconds, 1) if seconds else 0.0,
        p50_ms=round(percentile(latencies, 50) * MS, 3),
        p99_ms=round(percentile(latencies, 99) * MS, 3),
        longest_ms=round(max(latencies, default=0.0) * MS, 3),
        errors=dict(account.failed),
    )


def ledger_of(ledger: Ledger) -> PluginLedger:
    return PluginLedger(ledger.accepted, ledger.replied, ledger.refused, ledger.running, ledger.waiting, ledger.lost)


def problems_of(calls: Calls, ledgers: dict[str, PluginLedger]) -> list[str]:
    """Where the load's account or the kernel's ledger does not close, or the two contradict each other."""
    problems = []
    if not calls.made:
        problems.append("the load made no call")
    if calls.wrong or calls.failed or calls.hung:
        bad = f"{calls.wrong} were wrong, {calls.failed} failed, {calls.hung} hung"
        problems.append(f"of {calls.made} calls {bad}")
    outcomes = calls.right + calls.wrong + calls.failed + calls.hung
    if outcomes != calls.made:
        problems.append(f"the load made {calls.made} calls and knows {outcomes} outcomes")
    for name, ledger in ledgers.items():
        if ledger.lost:
            problems.append(f"{name}: the ledger misses {ledger.lost} of {ledger.accepted} accepted calls")
        if ledger.running or ledger.waiting:
            left = f"{ledger.running} calls run and {ledger.waiting} wait"
            problems.append(f"{name}: {left}, though nobody calls any more")
    # What a crash interrupted is sent, and accepted, again: the kernel may count more calls, never fewer.
    search = ledgers["search"]
    if search.accepted < calls.made:
        problems.append(f"search: the load made {calls.made} calls, the ledger accepted {search.accepted}")
    return problems


def table(summary: Summary) -> list[str]:
    """The summary in lines of at most WIDTH columns, problems aside."""
    calls, indexed = summary.calls, summary.indexed
    lines = [
        f"indexed   {indexed.symbols:,} symbols of {indexed.files_text} of {indexed.folder}"
        f" in {indexed.seconds:.1f} s{f', {indexed.unreadable} unreadable' if indexed.unreadable else ''}",
        *(f"          {gap}" for gap in indexed.gaps),
        f"load      {calls.callers} callers, {summary.seconds:.1f} s, {calls.per_second:,.0f} calls a second;"
        f" p50 {calls.p50_ms:.1f} ms, p99 {calls.p99_ms:.1f} ms, longest {calls.longest_ms:.1f} ms",
        f"calls     {calls.made:,} made = {calls.right:,} right + {calls.wrong} wrong"
        f" + {calls.failed} failed + {calls.hung} hung",
        "",
        EVENT_HEAD,
    ]
    lines += [event_line(event) for event in summary.events]
    lines += ["", *results_lines(summary.results)]
    lines += ["", *ledger_table(summary.ledgers), ""]
    if summary.good:
        lines.append("every call was answered, and answered rightly")
    else:
        lines += [f"problem: {problem}" for problem in summary.problems]
    return [line if line.startswith("problem") else shortened(line, WIDTH) for line in lines]


def shortened(text: str, width: int) -> str:
    """Text of at most `width` columns; an ellipsis stands for what is left out."""
    text = text.rstrip()
    return text if len(text) <= width else text[: width - 1] + "…"


def event_line(event: Event) -> str:
    pause, mark = pause_text(event.pause), "" if event.good else "NOT AS WANTED: "
    return f"{event.at:5.1f}s  {event.what:<14}{event.plugin:<9}{pause:>9}  {mark}{event.detail}"


def results_lines(results: Results) -> list[str]:
    """The two lists side by side."""
    column = WIDTH // 2 - 2
    rows = zip_longest(results.before, results.after, fillvalue="")
    return [
        f"results of {results.query!r}, before and after the swap of the ranker",
        *(f"  {shortened(before, column):<{column}}  {shortened(after, column)}" for before, after in rows),
    ]


def pause_text(pause: float | None) -> str:
    return "" if pause is None else f"{pause * MS:.1f} ms"


def ledger_table(ledgers: dict[str, PluginLedger]) -> list[str]:
    columns = PluginLedger.__struct_fields__
    lines = [f"{'LEDGER':<12}" + "".join(f"{column.upper():>10}" for column in columns)]
    for name, ledger in ledgers.items():
        numbers = "".join(f"{number:>10,}" for number in msgspec.structs.astuple(ledger))
        lines.append(f"{name:<12}{numbers}")
    return lines
