"""An application that runs in a process of its own, as an operator's does, and the command line against
it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mukernel.cli.main import main

SHOP = '''
import os, sys
from collections.abc import AsyncIterator
from mukernel import Interface, Plugin, idempotent, oneway, raises
import msgspec

class Book(msgspec.Struct):
    title: str
    year: int

class SoldOut(Exception):
    pass

class Greeter(Interface, version="1.0"):
    """Greets people."""
    @idempotent
    async def greet(self, name: str, *, times: int = 1) -> str:
        """A greeting for `name`."""
    async def where(self) -> int: ...
    @oneway
    async def note(self, text: str) -> None: ...
    def count(self, upto: int) -> AsyncIterator[int]: ...
    def echo(self, words: AsyncIterator[str]) -> AsyncIterator[str]: ...
    def double(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...
    async def measure(self, size: int, data: bytes) -> int: ...
    async def fail(self) -> None: ...
    async def hang(self) -> None: ...

class Catalog(Interface):
    async def add(self, book: Book) -> int: ...
    async def books(self) -> list[Book]: ...
    @raises(SoldOut)
    async def buy(self, title: str) -> None: ...
    async def welcome(self, name: str) -> str: ...

class English(Plugin, Greeter):
    """Greets in English."""
    word = "Hello"
    def __init__(self, *, polite: bool = False) -> None:
        self.polite, self.notes = polite, 0
    async def greet(self, name: str, *, times: int = 1) -> str:
        return f"{'Dear' if self.polite else self.word} {name}" + "!" * times
    async def where(self) -> int: return os.getpid()
    async def note(self, text: str) -> None: print("noted", text, flush=True)
    async def count(self, upto):
        for number in range(upto): yield number
    async def echo(self, words):
        async for word in words: yield word.upper()
    async def double(self, numbers):
        total = 0
        async for number in numbers:
            total += 1
            yield 2 * number
        if total == 1: raise ValueError("wanted two numbers or more")
    async def measure(self, size: int, data: bytes) -> int: return len(data)
    async def fail(self) -> None: raise ValueError("no such thing")
    async def hang(self) -> None:
        import asyncio
        await asyncio.Event().wait()

class Loud(English):
    word = "HELLO"

class Broken(English):
    async def start(self) -> None: raise RuntimeError("it does not start")

class Shelf(Plugin, Catalog):
    """Keeps books."""
    def __init__(self, greeter: Greeter, path: str, size: int = 10) -> None:
        self.greeter, self.shelf = greeter, []
    async def add(self, book: Book) -> int:
        self.shelf.append(book)
        return len(self.shelf)
    async def books(self) -> list[Book]: return self.shelf
    async def buy(self, title: str) -> None: raise SoldOut(title)
    async def welcome(self, name: str) -> str: return await self.greeter.greet(name)
    def save(self) -> list[Book]: return self.shelf
    def restore(self, shelf: list[Book]) -> None: self.shelf = shelf
'''

APPLICATION = """
[app]
name = "shop"
[plugins.catalog]
use = "shop:Shelf"
placement = "process"
memory = "512M"
config = { path = "books.db" }
[plugins.greeter]
use = "shop:English"
placement = "process:talk"
"""
PATIENCE = 60.0  # seconds after which an application that does not say what is waited for, or does not end, is killed


class Running:
    """`mukernel run`, in a process of its own. `lines`: what it has printed so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.lines = folder, []
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mukernel.cli", "run", str(folder / "app.toml"), *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )  # fmt: skip

    def until(self, text: str) -> str:
        """Read what it prints up to a line that holds `text`."""
        assert self.process.stdout is not None
        late = threading.Timer(PATIENCE, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                self.lines.append(line.rstrip())
                if text in line:
                    return line.rstrip()
        finally:
            late.cancel()
        raise AssertionError(f"it ended without saying {text!r}:\n" + "\n".join(self.lines))

    def end(self, number: int | None = signal.SIGTERM) -> int:
        """Send it a signal (None: it ends by itself); return its exit status."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        late = threading.Timer(PATIENCE, self.process.kill)
        late.start()
        if not self.process.stdout.closed:
            self.lines += [line.rstrip() for line in self.process.stdout]
            self.process.stdout.close()
        status = self.process.wait()
        late.cancel()
        return status


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's runtime folder, and no application that runs elsewhere on this machine."""
    folder = tmp_path_factory.mktemp("rt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        (folder / "work").mkdir()  # Python imports from there, so that sandboxes see it, and must not see the rest
        patch.chdir(folder / "work")
        yield folder


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Running]]:
    """Start an application in a folder; all are ended with the test."""
    started: list[Running] = []

    def begin(folder: Path, *options: str, until: str = " runs;") -> Running:
        started.append(Running(folder, *options))
        started[-1].until(until)
        return started[-1]

    yield begin
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def shop(home: Path) -> Iterator[Running]:
    """The shop, running."""
    app = Running(write_shop(home / "shop"))
    app.until(" runs;")
    yield app
    assert app.end() == 0


def write_shop(folder: Path, application: str = APPLICATION) -> Path:
    folder.mkdir()
    (folder / "shop.py").write_text(SHOP)
    (folder / "app.toml").write_text(application)
    return folder


def piped_to_nobody(*words: str, folder: Path | None = None, errors_too: bool = False) -> int:
    """The exit status of a command that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "mukernel.cli", *words]
        errors = writing if errors_too else subprocess.DEVNULL
        return subprocess.run(command, stdout=writing, stderr=errors, cwd=folder, check=False).returncode
    finally:
        os.close(writing)


class Ended:
    """What a command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def good(self) -> str:
        """What it printed, where it succeeded."""
        assert self.status == 0, self.err
        return self.out.strip()


@pytest.fixture
def mukernel(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run one command in this process."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # `run` puts the application's folder on it

    def run(*words: str) -> Ended:
        capsys.readouterr()
        try:
            status = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run
