"""Timing shared by every benchmark: round trips, calls a second, subjects side by side in one run, tables.

The method, and why the numbers of two runs are never compared, is in `README.md` beside this file. Times are
taken with `time.perf_counter_ns` and given in microseconds (µs). Nothing here imports mukernel or a peer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import math
import os
import platform
import sys
from array import array
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from time import perf_counter_ns
from typing import Any, Literal, TypeAlias, TypeVar

T = TypeVar("T")
BlockingCall: TypeAlias = Callable[[bytes], object]
AsyncCall: TypeAlias = Callable[[bytes], Awaitable[object]]

PAYLOAD = bytes(range(64))
"""What every subject is asked to echo: 64 bytes, all different, so that a wrong echo is noticed."""

BATCH_NS = 20_000
"""A batch lasts at least this long, so that reading the timer twice (about 0.1 µs) is under 1 % of it."""

LARGEST_BATCH = 1 << 20
"""Calibration stops here even if the timer still shows nothing."""

LONGEST = 3600
"""Seconds that one subject may be given."""

MOST_SLICES = 10_000
"""Turns that a subject's time may be cut into."""

WARM_SHARE = 0.1
"""Before a slice, this share of its time goes to calls that do not count: caches, pollers and cores wake."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to time whose call blocks the thread until the reply is there."""

    name: str
    call: BlockingCall


@dataclass(frozen=True, slots=True)
class AsyncSubject:
    """Something to time whose call is awaited on an event loop."""

    name: str
    call: AsyncCall


AnySubject: TypeAlias = Subject | AsyncSubject


class Samples:
    """Round-trip times in µs. Each value is the mean of one batch of `batch` calls, made one after the other.

    With `batch == 1` (calls of 20 µs and more) `p99` is that of single calls; above it, that of batch means,
    which is lower than that of single calls: tables print the batch size for that reason.
    """

    def __init__(self, times: Sequence[float], batch: int) -> None:
        """Take `times`, µs a call, one for each batch, and `batch`, calls in a batch.

        Raises ValueError if `times` is empty or `batch` is below 1.
        """
        if not times:
            raise ValueError("times: got none, wanted at least one measured batch")
        if batch < 1:
            raise ValueError(f"batch: got {batch}, wanted 1 or more calls")
        self.times = array("d", sorted(times))
        self.batch = batch

    @property
    def min(self) -> float:
        return self.times[0]

    @property
    def median(self) -> float:
        return median(self.times)

    @property
    def mean(self) -> float:
        return math.fsum(self.times) / len(self.times)

    @property
    def p99(self) -> float:
        """The nearest-rank 99th percentile: a value that was measured, never one between two."""
        return self.times[math.ceil(0.99 * len(self.times)) - 1]

    @property
    def calls(self) -> int:
        return len(self.times) * self.batch

    @classmethod
    def merged(cls, parts: Sequence[Samples]) -> Samples:
        """All values of `parts`, slices of one subject. Raises ValueError if their batch sizes differ."""
        sizes = {part.batch for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"parts: got batch sizes {sorted(sizes)}, wanted one: values of unlike weight mix")
        return cls([time for part in parts for time in part.times], sizes.pop())


def plan(seconds: float, batch: int | None = None, empty_loop_ns: float = 0.0) -> Generator[int, int, Samples]:
    """Decide what to time, without a clock: yields how many calls to make, is sent the nanoseconds they took.

    Warm-up first; then, unless `batch` is given, batches double until one lasts `BATCH_NS`; then batches
    until `seconds` are full. Returns the samples, less `empty_loop_ns` a call, the cost of the loop around.
    Raises ValueError if `seconds` is not above 0.
    """
    if seconds <= 0:
        raise ValueError(f"seconds: got {seconds}, wanted more than 0")
    limit = seconds * 1e9
    spent = yield 1
    while spent < limit * WARM_SHARE:
        spent += yield 1
    if batch is None:
        batch = 1
        while batch < LARGEST_BATCH:
            # The fastest of three: one interruption must not end the search at a batch that is too small.
            tries = ((yield batch), (yield batch), (yield batch))
            if min(tries) >= BATCH_NS:
                break
            batch *= 2
    times = array("d")
    spent = 0
    while spent < limit or not times:
        took = yield batch
        spent += took
        times.append(max(took / batch - empty_loop_ns, 0.0) / 1000)
    return Samples(times, batch)


def round_trips(call: BlockingCall, seconds: float, payload: bytes = PAYLOAD, batch: int | None = None) -> Samples:
    """Time `call(payload)`, one call at a time, for about `seconds`. Raises what `call` raises."""
    steps = plan(seconds, batch, empty_loop_ns())
    count = next(steps)
    while True:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            call(payload)
        took = perf_counter_ns() - started
        try:
            count = steps.send(took)
        except StopIteration as end:
            return _samples(end)


async def async_round_trips(
    call: AsyncCall, seconds: float, payload: bytes = PAYLOAD, batch: int | None = None
) -> Samples:
    """Time `await call(payload)`, one call at a time, for about `seconds`. Raises what `call` raises."""
    steps = plan(seconds, batch, empty_loop_ns())
    count = next(steps)
    while True:
        started = perf_counter_ns()
        for _ in repeat(None, count):
            await call(payload)
        took = perf_counter_ns() - started
        try:
            count = steps.send(took)
        except StopIteration as end:
            return _samples(end)


def _samples(end: StopIteration) -> Samples:
    samples: Samples = end.value
    return samples


@functools.cache
def empty_loop_ns() -> float:
    """Nanoseconds that one turn of the timing loop costs with nothing in it.

    Left in both times, it would bring the ratio of two short calls nearer to 1 than it is.
    """
    turns, fastest = 20_000, math.inf
    for _ in range(9):
        started = perf_counter_ns()
        for _ in repeat(None, turns):
            pass
        fastest = min(fastest, (perf_counter_ns() - started) / turns)
    return fastest


async def throughput(call: AsyncCall, callers: int, seconds: float, payload: bytes = PAYLOAD) -> float:
    """Calls a second of `callers` concurrent tasks, each with one call in flight the next right behind it.

    Counts the calls that end inside a window of `seconds`, which opens when all callers are at work and
    closes before any stops, so neither ramp is in the number. Raises ValueError for bad arguments, and, in
    an ExceptionGroup, what a call raises.
    """
    if callers < 1:
        raise ValueError(f"callers: got {callers}, wanted 1 or more tasks")
    if seconds <= 0:
        raise ValueError(f"seconds: got {seconds}, wanted more than 0")
    opens = perf_counter_ns() + int(seconds * 0.25e9)
    closes = opens + int(seconds * 1e9)

    async def caller() -> int:
        ended_inside = 0
        while True:
            await call(payload)
            # The clock, not a flag set by a timer: a call that never suspends would never let the timer run.
            now = perf_counter_ns()
            if now >= closes:
                return ended_inside
            if now >= opens:
                ended_inside += 1

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller()) for _ in range(callers)]
    return sum(task.result() for task in tasks) / seconds


@contextlib.contextmanager
def hold(runner: asyncio.Runner, context: contextlib.AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an async context on the runner's loop and keep it while the loop stands still between slices.

    One task enters and leaves, as a context that holds a task group or a timeout needs. Raises what the
    context raises.
    """
    leave = asyncio.Event()
    entered: asyncio.Future[T] = runner.get_loop().create_future()

    async def occupy() -> None:
        async with context as value:
            entered.set_result(value)
            await leave.wait()

    async def enter() -> asyncio.Task[None]:
        task = asyncio.create_task(occupy())
        waited: set[asyncio.Future[Any]] = {task, entered}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            await task
        return task

    async def finish(task: asyncio.Task[None]) -> None:
        leave.set()
        await task

    task = runner.run(enter())
    try:
        yield entered.result()
    finally:
        runner.run(finish(task))


def compare(
    runner: asyncio.Runner, subjects: Sequence[AnySubject], seconds: float, slices: int = 20
) -> dict[str, Samples]:
    """Time `subjects` turn about: `slices` rounds, a slice each, `seconds` for each subject in all.

    What else the machine does then hits all alike. Every round starts with another subject, so that the first
    place goes round too. Blocking subjects run while the loop stands still. Raises ValueError if two subjects
    share a name.
    """
    _check_names(subjects)
    parts: dict[str, list[Samples]] = {subject.name: [] for subject in subjects}
    for subject in _rounds(subjects, slices):
        done = parts[subject.name]
        batch = done[0].batch if done else None
        if isinstance(subject, AsyncSubject):
            done.append(runner.run(async_round_trips(subject.call, seconds / slices, batch=batch)))
        else:
            done.append(round_trips(subject.call, seconds / slices, batch=batch))
    return {name: Samples.merged(done) for name, done in parts.items()}


def compare_throughput(
    runner: asyncio.Runner,
    subjects: Sequence[AsyncSubject],
    callers: Sequence[int],
    seconds: float,
    slices: int = 3,
) -> dict[str, dict[int, float]]:
    """Calls a second for each subject and number of callers: the median of `slices` windows, turn about.

    `seconds` is for one subject at one number of callers, all its windows together.
    """
    _check_names(subjects)
    rates: dict[str, dict[int, float]] = {subject.name: {} for subject in subjects}
    for count in callers:
        windows: dict[str, list[float]] = {subject.name: [] for subject in subjects}
        for subject in _rounds(subjects, slices):
            windows[subject.name].append(runner.run(throughput(subject.call, count, seconds / slices)))
        for name, values in windows.items():
            rates[name][count] = median(values)
    return rates


def _rounds(subjects: Sequence[T], slices: int) -> Iterator[T]:
    if slices < 1:
        raise ValueError(f"slices: got {slices}, wanted 1 or more")
    for number in range(slices):
        first = number % len(subjects) if subjects else 0
        yield from (*subjects[first:], *subjects[:first])


def _check_names(subjects: Sequence[AnySubject]) -> None:
    names = [subject.name for subject in subjects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"subjects: the name {twice[0]!r} came twice, wanted each once")


@dataclass(frozen=True, slots=True)
class Table:
    """One printed table. `rows` hold raw numbers: rounding is for the eye, `--json` gives them whole."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]

    def text(self) -> str:
        """The table in plain text below its title; first column left-aligned, the others right-aligned."""
        cells = [list(self.columns)] + [[_cell(value) for value in row] for row in self.rows]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.columns))]
        rule = ["-" * width for width in widths]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
            for line in (cells[0], rule, *cells[1:])
        ]
        return "\n".join([self.title, *lines])

    def data(self) -> dict[str, Any]:
        """What `--json` prints of the table: its title, and each row by column."""
        return {"title": self.title, "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows]}


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # Three significant figures below 100; above, a decimal would be noise.
        return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def latency_table(
    title: str, results: Mapping[str, Samples], baseline: str, ratio: Literal["faster", "slower"] = "faster"
) -> Table:
    """A row for each subject, its median set against that of `baseline`, which must be among `results`.

    `ratio="faster"`: how many times as fast as the baseline a subject is; `"slower"`: how many times as slow.
    Raises KeyError if `baseline` was not measured: a ratio against another run would mean nothing.
    """
    _check_baseline(baseline, results)
    against = results[baseline].median
    rows = []
    for name, samples in results.items():
        above, below = (against, samples.median) if ratio == "faster" else (samples.median, against)
        times = above / below if below else None
        figures = (samples.min, samples.median, samples.mean, samples.p99, samples.batch, samples.calls)
        rows.append((name, *figures, times))
    last = f"times as {'fast' if ratio == 'faster' else 'slow'} as {baseline}"
    return Table(title, ("subject", "min µs", "median µs", "mean µs", "p99 µs", "batch", "calls", last), rows)


def throughput_table(title: str, rates: Mapping[str, Mapping[int, float]], baseline: str) -> Table:
    """A row for each subject and number of callers, with its calls a second against those of `baseline`.

    Raises KeyError if `baseline` is not among `rates`.
    """
    _check_baseline(baseline, rates)
    rows = [
        (name, callers, rate, rate / rates[baseline][callers] if rates[baseline][callers] else None)
        for name, by_callers in rates.items()
        for callers, rate in by_callers.items()
    ]
    return Table(title, ("subject", "callers", "calls/s", f"times as many as {baseline}"), rows)


def _check_baseline(baseline: str, measured: Mapping[str, object]) -> None:
    if baseline not in measured:
        raise KeyError(f"baseline: got {baseline!r}, wanted one measured in this run: {', '.join(measured)}")


def machine() -> dict[str, str | int | float]:
    """What the numbers depend on and do not show: interpreter, system, usable cores, load before the run."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark's command line the options all share: `--seconds`, `--slices`, `--json`."""
    parser.add_argument("--seconds", type=seconds_of, default=2.0, help="time for each subject (default: 2)")
    parser.add_argument("--slices", type=slices_of, default=20, help="turns a subject's time is cut into (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of tables")


def seconds_of(text: str) -> float:
    """Raises argparse.ArgumentTypeError for what is no time that a subject can be given."""
    with contextlib.suppress(ValueError):
        if 0 < (seconds := float(text)) <= LONGEST:
            return seconds
    raise argparse.ArgumentTypeError(f"got {text!r}, wanted a number of seconds above 0 and at most {LONGEST:,}")


def slices_of(text: str) -> int:
    """Raises argparse.ArgumentTypeError for what is no number of turns."""
    with contextlib.suppress(ValueError):
        if 1 <= (slices := int(text)) <= MOST_SLICES:
            return slices
    raise argparse.ArgumentTypeError(f"got {text!r}, wanted a whole number of at least 1 and at most {MOST_SLICES:,}")


def show(tables: Sequence[Table], about: Mapping[str, Any], as_json: bool) -> None:
    """Print `tables` and `about` (machine, versions) to standard output, as text or as one JSON object. Whoever reads
    it may stop before its end, as `head` does."""
    text = ", ".join(f"{key} {value}" for key, value in about.items())
    text = "\n".join([text, *(f"\n{table.text()}" for table in tables)])
    if as_json:
        whole = {"about": about, "tables": [table.data() for table in tables]}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
