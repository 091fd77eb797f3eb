"""The demo's walker and its parser, each constructed directly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mukernel.demo.interfaces import NoSuchFile, UnreadableFile, Walk
from mukernel.demo.parser import AstParser
from mukernel.demo.walker import FolderWalker
from mukernel.kernel.clock import Clock

from .demo_samples import LONG, SOURCE, refuse, write

# --- walker ---------------------------------------------------------------------------------------


async def test_walker_finds_source_and_skips_what_is_not_the_folders_own(tmp_path: Path) -> None:
    for path in (
        "b.py",
        "a/z.py",
        "a/notes.txt",
        "a/tests/t.py",
        "a/__pycache__/c.py",
        "test/t.py",
        "site-packages/p.py",
        ".git/h.py",
        "env/lib/v.py",
    ):
        write(tmp_path, path)
    write(tmp_path, "env/pyvenv.cfg")
    write(tmp_path, "large.py", "#" * 101)
    (tmp_path / "link.py").symlink_to(tmp_path / "b.py")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)

    walker = FolderWalker(Clock(), folder=str(tmp_path), largest=100)
    left_out = {
        "folders of tests": 2,
        "folders of installed packages": 1,
        "hidden folders": 1,
        "virtual environments": 1,
        "links": 2,
        "files above 100 bytes": 1,
    }
    assert await walker.walk(LONG) == Walk(["a/z.py", "b.py"], {}, True, left_out)
    walker = FolderWalker(Clock(), folder=str(tmp_path), largest=100, skip=("a",))
    walk = await walker.walk(LONG)
    assert walk.paths == ["b.py", "site-packages/p.py", "test/t.py"]
    assert walk.left_out["folders named a"] == 1


async def test_walker_reads_below_its_folder_only(tmp_path: Path) -> None:
    write(tmp_path, "secret.py")
    write(tmp_path, "in/a.py", "y = 2\n")
    (tmp_path / "in/out.py").symlink_to(tmp_path / "secret.py")
    walker = FolderWalker(Clock(), folder=str(tmp_path / "in"))

    assert await walker.read("a.py") == b"y = 2\n"
    for path in ("../secret.py", str(tmp_path / "secret.py"), "out.py"):
        with pytest.raises(NoSuchFile, match="wanted a path below"):
            await walker.read(path)
    for path in ("gone.py", "", "a.py/b"):
        with pytest.raises(NoSuchFile, match="wanted a file below"):
            await walker.read(path)


async def test_walker_serves_regular_files_only(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / "pipe.py")
    walker = FolderWalker(Clock(), folder=str(tmp_path))
    assert await walker.walk(LONG) == Walk(["a.py"], {}, True, {"what is no regular file": 1})
    with pytest.raises(NoSuchFile, match="wanted a file below"):
        await walker.read("pipe.py")  # and does not wait for who writes to it
    with pytest.raises(NoSuchFile, match="wanted a file below"):
        await walker.read("a\0.py")


async def test_walker_tells_what_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("a.py", "locked/b.py", "listed.py"):
        write(tmp_path, path)
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("x = 1\n")
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    (tmp_path / os.fsdecode(b"\xff/in.py")).write_text("x = 1\n")
    refuse(monkeypatch, "scandir", tmp_path / "locked")
    refuse(monkeypatch, "stat", tmp_path / "listed.py")
    refuse(monkeypatch, "open", tmp_path / "a.py")
    walker = FolderWalker(Clock(), folder=str(tmp_path))
    walk = await walker.walk(LONG)
    assert walk.paths == ["a.py"]
    assert walk.unreadable == {
        "locked": "can't be read: Permission denied",
        "listed.py": "can't be read: Permission denied",
        "caf\\xe9.py": "its name is not UTF-8",
        "\\xff/in.py": "its name is not UTF-8",
    }
    with pytest.raises(UnreadableFile, match=r"a\.py can't be read: Permission denied"):
        await walker.read("a.py")


def test_walker_refuses_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"folder is .*/none', wanted"):
        FolderWalker(Clock(), folder=str(tmp_path / "none"))


async def test_walker_takes_the_standard_library_by_default() -> None:
    walker = FolderWalker(Clock())
    paths = (await walker.walk(LONG)).paths
    assert "collections/__init__.py" in paths
    assert not any("site-packages" in path or "/test/" in path for path in paths)
    assert (await walker.read("os.py")) == Path(os.__file__).read_bytes()


# --- parser ---------------------------------------------------------------------------------------


async def test_parser_reads_definitions_in_the_order_of_their_lines() -> None:
    parsed = await AstParser().parse("m.py", SOURCE)
    assert parsed.problem == ""
    assert [(each.qualified_name, each.kind, each.line) for each in parsed.symbols] == [
        ("OrderedDict", "class", 3),
        ("OrderedDict.move_to_end", "method", 9),
        ("OrderedDict.move_to_end.inner", "function", 10),
        ("OrderedDict.move_to_end.Local", "class", 12),
        ("OrderedDict._wait", "method", 13),
        ("quick", "function", 16),
        ("slow", "function", 18),
    ]
    by_name = {each.name: each for each in parsed.symbols}
    assert by_name["OrderedDict"].documentation == "Remembers the order of insertion."
    assert by_name["OrderedDict"].signature == "dict"
    assert by_name["slow"].signature == "a: int=3, *b, c"
    assert by_name["_wait"].documentation == "Waits."
    assert {each.path for each in parsed.symbols} == {"m.py"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"def f(:\n", "line 1: "),
        (b"x = 1\n  y = 2\n", "line 2: unexpected indent"),
        (b"x = '\0'", "null byte"),
        (b"# coding: nonsense\n", "nonsense"),
        (b"\xff\xfe = 1", "utf-8"),
        (b"(" * 5000, ""),
    ],
)
async def test_parser_reports_a_broken_file_and_goes_on(source: bytes, problem: str) -> None:
    parsed = await AstParser().parse("bad.py", source)
    assert parsed.symbols == []
    assert parsed.problem != ""
    assert problem in parsed.problem


@pytest.mark.parametrize("parameters", ["", "a", "a, /", "a, /, b, *, c", "*, c", "*a, b, **c", "a: int=3, /, *b, **c"])
async def test_parser_shows_what_stands_between_the_parentheses(parameters: str) -> None:
    (only,) = (await AstParser().parse("p.py", f"def f({parameters}): ...".encode())).symbols
    assert only.signature == parameters


async def test_parser_is_silent_about_the_warnings_of_what_it_reads() -> None:
    assert (await AstParser().parse("w.py", b"def f(): return '\\d'")).problem == ""
