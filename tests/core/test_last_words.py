"""What a plug-in has written, and what it has registered for the end, when it is let go of in order."""

import atexit
import gc
import os
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mukernel import Kernel


class Writer:
    """Never heard of mukernel: it closes nothing, as Python does that when a program ends."""

    def __init__(self, *, folder: str) -> None:
        self.folder = folder
        self.file = open(f"{folder}/report", "w")  # noqa: SIM115
        self.files = [open(f"{folder}/deep", "w")]  # noqa: SIM115

    async def report(self, line: str) -> None:
        for file in (self.file, *self.files):
            file.write(line)


class Reporter(Writer):
    def __init__(self, *, folder: str) -> None:
        super().__init__(folder=folder)
        self.scratch = tempfile.TemporaryDirectory(dir=folder, prefix="scratch")
        self.myself = self
        atexit.register(self.note, "registered")

    def note(self, what: str) -> None:
        Path(self.folder, what).touch()

    def __del__(self) -> None:
        Path(self.folder, "deleted").touch()


class Breaking(Reporter):
    def note(self, what: str) -> None:
        super().note(what)
        sys.exit("no more")


async def report(kernel: Kernel, folder: Path, placement: str, kind: type[Writer] = Reporter) -> None:
    await kernel.load(kind, name="reporter", placement=placement, config={"folder": str(folder)})
    await kernel.get(kind, plugin="reporter").report("a line\n")


@pytest.mark.parametrize("kind", [Reporter, Breaking])
@pytest.mark.parametrize("how", ["unload", "close", "swap"])
async def test_a_process_says_its_last_words(tmp_path: Path, how: str, kind: type[Reporter]) -> None:
    async with Kernel() as kernel:
        await report(kernel, tmp_path, "process", kind)
        if how == "unload":
            await kernel.unload("reporter")
        if how == "swap":
            (tmp_path / "next").mkdir()
            await kernel.swap("reporter", kind, config={"folder": str(tmp_path / "next")})
    assert (tmp_path / "report").read_text() == (tmp_path / "deep").read_text() == "a line\n"
    assert {each.name for each in tmp_path.iterdir()} - {"next"} == {"report", "deep", "registered", "deleted"}


class Stuck(Writer):
    """It has written to a pipe that nobody reads."""

    def __init__(self, *, folder: str) -> None:
        super().__init__(folder=folder)
        reader, writer = os.pipe()
        self.reader = reader
        self.pipe = open(writer, "wb", buffering=1 << 20)  # noqa: SIM115
        self.pipe.write(bytes((1 << 20) - 1))

    def __del__(self) -> None:
        os.close(self.reader)  # else Python itself would wait


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Python, that a file was left open
@pytest.mark.parametrize("kind", [Writer, Stuck])
@pytest.mark.parametrize("placement", ["inline", "process:shared"])
async def test_what_leaves_a_process_that_goes_on_has_written(
    tmp_path: Path, placement: str, kind: type[Writer]
) -> None:  # fmt: skip
    """And holds up nobody."""
    async with Kernel() as kernel:
        await report(kernel, tmp_path, placement, kind)
        await kernel.load(Waiting, name="stays", placement=placement)
        await kernel.unload("reporter")
        assert (tmp_path / "report").read_text() == "a line\n"
        await kernel.get(Waiting).nothing()
    gc.collect()  # so that the warning comes within this test


class Waiting:
    async def nothing(self) -> None: ...


class Hanging(Reporter):
    def note(self, what: str) -> None:
        Path(self.folder, "deep.seen").write_text(Path(self.folder, "deep").read_text())
        threading.Event().wait()


async def test_one_that_hangs_as_it_ends_is_ended(tmp_path: Path) -> None:
    async with Kernel() as kernel:
        await report(kernel, tmp_path, "process", Hanging)
        await kernel.unload("reporter")
        assert not kernel.places
    assert (tmp_path / "deep.seen").read_text() == "a line\n", "files are written first"
