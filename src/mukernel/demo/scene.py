"""`mukernel demo`: a code search that is swapped, moved, scaled and killed under load, for you to watch.

It ends with 0 only if every call was answered, and answered rightly, and the kernel's ledger agrees.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import platform
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec

from mukernel import Clock, Kernel, MukernelError
from mukernel.core.standard_streams import accept_any_text

from .answers import known_answers
from .arguments import add_arguments, problem_of
from .folder import own_folder, unkept
from .frame import shown
from .interfaces import Index, Search
from .keep import keep_running
from .load import Load
from .picture import Picture
from .screen import Screen, screen_for, shown_text
from .signals import SIGNALLED, Signals
from .stage import NothingFound, Setting, set_up
from .story import Story
from .summary import Summary, calls_of, ledger_of, problems_of, table

GRACE = 30.0  # seconds beyond its own that the load may take, before the demo itself is given up
CALLED = ("index", "ranker", "search")  # the plug-ins that the load reaches, and whose ledgers must close
USAGE = 2


def run_command(arguments: Sequence[str] | None = None) -> int:
    """The demo as a command of its own, by default with the process's arguments. May raise SystemExit."""
    accept_any_text()
    parser = argparse.ArgumentParser(prog="python -m mukernel.demo", description=__doc__)
    add_arguments(parser)
    return main(parser.parse_args(arguments))


def main(arguments: argparse.Namespace) -> int:
    """Run the demo. 0: every call was answered rightly; 1: not so; 2: nothing to index; 128 + N: signal N."""
    folder = arguments.folder
    problem = None if folder is None else problem_of(folder)
    if problem is not None:
        print(f"mukernel demo: FOLDER: {problem}", file=sys.stderr)
        return USAGE
    setting = Setting(folder=folder or "", seconds=arguments.seconds)
    return run(setting, json=arguments.json, keep=arguments.keep)


def run(setting: Setting, json: bool = False, keep: bool = False) -> int:
    """As `main`, with every setting in the caller's hand."""
    screen = screen_for(sys.stderr if json else sys.stdout)

    def show(summary: Summary) -> None:
        screen.close()
        text = msgspec.json.format(msgspec.json.encode(summary)).decode() if json else "\n".join(["", *table(summary)])
        with contextlib.suppress(BrokenPipeError):  # the status says how it went, whether anybody reads this or not
            print(shown_text(text) if not json or sys.stdout.isatty() else text, flush=True)

    try:
        return asyncio.run(stopped_by_signals(setting, screen, show, keep))
    except KeyboardInterrupt:  # before there is a loop that hears it, or after
        return SIGNALLED + signal.SIGINT
    except NothingFound as error:
        screen.close()
        print(f"mukernel demo: {error}", file=sys.stderr)
        return USAGE
    except (MukernelError, OSError, sqlite3.OperationalError) as error:
        problem = unkept(error) or (str(error) if isinstance(error, MukernelError) else None)
        if problem is None:
            raise
        screen.close()
        print(shown_text(f"mukernel demo: {problem}"), file=sys.stderr)
        return 1
    finally:
        screen.close()


async def stopped_by_signals(setting: Setting, screen: Screen, show: Callable[[Summary], object], keep: bool) -> int:
    """`play`, which a signal ends in order: its exit status, or that of who was ended by a signal."""

    def end() -> None:
        task.cancel()

    signals = Signals(end, screen.close)
    task = asyncio.ensure_future(play(setting, screen, show, keep, signals))
    signals.hear()
    try:
        return await task
    except asyncio.CancelledError:
        if signals.number is None:
            raise
        return SIGNALLED + signals.number


async def play(
    setting: Setting, screen: Screen, show: Callable[[Summary], object], keep: bool, signals: Signals
) -> int:
    """The whole demo: set up, load, story, account. Whatever happens, no process and no file is left."""
    with (
        own_folder() as folder,
        logged(os.path.join(folder, "kernel.log")),
    ):
        async with Kernel("demo", log_folder=folder) as kernel:
            clock = kernel.get(Clock)
            searched = setting.folder or "the standard library"
            picture = Picture(f"mukernel demo   code search over {searched}")
            async with shown(kernel, screen, picture) as frame:
                indexed = await set_up(
                    kernel, setting, os.path.join(folder, "index.db"), frame.progressed, frame.next_part
                )
                if not indexed.symbols:
                    raise NothingFound(indexed)
                answers = await known_answers(kernel.get(Index))
                load = Load(kernel.get(Search), answers, clock, setting.callers)
                story = Story(kernel, load, answers, screen.happened, screen.compared, setting.patience)
                picture.title = f"mukernel demo   {indexed.files_text}, {indexed.symbols:,} symbols   {searched}"
                if not indexed.complete:
                    screen.noted(f"the time for indexing is over: {indexed.files_text}")
                frame.begin(load, story)
                seconds, problems = await played(story, load, setting)
            ledgers = {name: ledger_of(await kernel.ledger(name)) for name in CALLED}
            calls = calls_of(load, seconds)
            problems += [*story.problems, *problems_of(calls, ledgers), *load.problems]
            summary = Summary(
                not problems,
                platform.python_version(),
                indexed,
                round(seconds, 3),
                calls,
                ledgers,
                story.events,
                story.results,
                problems,
            )
            show(summary)
            if keep:
                await keep_running(kernel, signals)
    return 0 if summary.good else 1


async def played(story: Story, load: Load, setting: Setting) -> tuple[float, list[str]]:
    """The story under the load: how many seconds the load went on, and what was wrong with the whole."""
    problems = []
    load.start()
    try:
        async with asyncio.timeout(setting.seconds + GRACE):
            await story.play(setting.seconds)
    except TimeoutError:
        limit = setting.seconds + GRACE
        problems.append(f"the story did not end within {limit:g} s: it was at {story.doing!r}")
    finally:
        seconds = story.clock.now() - story.began
        await load.stop(setting.patience)
    return seconds, problems


class Log(logging.FileHandler):
    """What can't be written, as on a full disk, is lost: where it matters the index says so."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logged(path: str) -> Iterator[None]:
    """What the kernel logs goes to a file, where it does not disturb the picture."""
    log = logging.getLogger("mukernel")
    handler = Log(path, encoding="utf-8", errors="backslashreplace")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        handler.close()
