"""From what an operator names to a class: modules, files, entry points, scripts, and fresh namespaces."""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from core_samples import Tally

from mukernel import ContractError, Interface, Kernel, NotFound, Plugin
from mukernel.core.loader import check_importable, load_class, source_of
from mukernel.core.messages import Source

PLUGIN = """
    from mukernel import Interface, Plugin
    from {helper} import LABEL
    class Named(Interface):
        async def name(self) -> str: ...
    class Thing(Plugin, Named):
        seen = []
        async def name(self) -> str:
            self.seen.append(1)
            return LABEL + str(len(self.seen))
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    # A source that changes within one second keeps the time by which Python's cache is told to be stale.
    os.utime(path, (path.stat().st_mtime, path.stat().st_mtime + len(list(folder.rglob("*"))) + len(text)))
    return path


class Named(Interface):
    async def name(self) -> str: ...


def test_sources_of_every_form(tmp_path: Path) -> None:
    write(tmp_path, "plain.py", "class Thing: ...")
    assert source_of(Tally).module == "core_samples"
    assert source_of("core_samples:Tally", fresh=True).fresh and not source_of("core_samples:Tally").fresh
    file = source_of("plain.py:Thing", str(tmp_path))
    assert (file.module, file.name, file.file) == ("plain", "Thing", str(tmp_path / "plain.py"))
    assert load_class(file).__name__ == "Thing"
    assert load_class(source_of(Tally)) is Tally


def test_a_class_that_was_given_is_used_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where its module has been imported anew since, under the same name."""
    write(tmp_path, "twice.py", "class Thing: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    old = load_class(source_of("twice:Thing"))
    source = source_of(old)
    assert load_class(Source("twice", "Thing", fresh=True)) is not old
    assert load_class(source) is old


def test_a_nested_class_is_found_by_its_whole_name(tmp_path: Path) -> None:
    write(tmp_path, "nested.py", "class Outer:\n    class Inner: ...\n")
    assert load_class(source_of("nested.py:Outer.Inner", str(tmp_path))).__qualname__ == "Outer.Inner"


def test_entry_points_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "shipped.py", "class Thing: ...")
    write(tmp_path, "shipped-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: shipped\nVersion: 1.0\n")
    write(tmp_path, "shipped-1.0.dist-info/entry_points.txt", "[mukernel.plugins]\nthing = shipped:Thing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = source_of("thing")
    assert (source.module, source.name) == ("shipped", "Thing")
    with pytest.raises(NotFound, match=r"no entry point of group 'mukernel.plugins' has that name \(known: .*thing"):
        source_of("think")


def test_what_another_process_cannot_import_is_refused_with_the_remedy() -> None:
    class Local(Plugin): ...

    with pytest.raises(ContractError, match=r"Local is defined inside a function.*define it at the top of a module"):
        check_importable(source_of(Local))
    with pytest.raises(ContractError, match=r"interactive session, or in .*; put it into a file"):
        check_importable(Source("__main__", "Thing"))


async def test_a_class_inside_a_function_is_good_enough_for_inline(kernel: Kernel) -> None:
    class Local(Plugin, Named):
        async def name(self) -> str:
            return "local"

    await kernel.load(Local, name="local")
    assert await kernel.get(Named).name() == "local"


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_new_version_of_a_file_comes_into_a_fresh_namespace(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    """Nothing of the old module survives in the new one, and the old one stays whole for who still uses it."""
    write(tmp_path, "label_a.py", "LABEL = 'a'")
    write(tmp_path, "thing_a.py", PLUGIN.format(helper="label_a") + "    OLD_NAME = 1\n")
    await kernel.load("thing_a.py:Thing", name="thing", placement=placement, folder=str(tmp_path))
    thing = kernel.get(Named)
    assert (await thing.name(), await thing.name()) == ("a1", "a2")
    write(tmp_path, "label_b.py", "LABEL = 'b'")
    write(tmp_path, "thing_a.py", PLUGIN.format(helper="label_b"))
    old = dict(vars(sys.modules["thing_a"])) if placement == "inline" else {}
    await kernel.swap("thing", "thing_a.py:Thing", folder=str(tmp_path))
    assert await thing.name() == "b1", "the class attribute of the old version survived"
    if placement == "inline":
        assert "OLD_NAME" not in vars(sys.modules["thing_a"])
        assert old["Thing"].__module__ == "thing_a"
        assert old["Thing"] is not sys.modules["thing_a"].Thing


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_new_version_of_a_package_takes_its_changed_modules_with_it(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    package = f"shop_{placement}"
    write(tmp_path, f"{package}/__init__.py", "")
    write(tmp_path, f"{package}/label.py", "LABEL = 'old'")
    write(tmp_path, f"{package}/constant.py", "loaded = []")
    write(tmp_path, f"{package}/thing.py", f"    import {package}.constant" + PLUGIN.format(helper=f"{package}.label"))
    await kernel.load(f"{package}.thing:Thing", name="thing", placement=placement, folder=str(tmp_path))
    thing = kernel.get(Named)
    assert await thing.name() == "old1"
    constant = sys.modules.get(f"{package}.constant")
    write(tmp_path, f"{package}/label.py", "LABEL = 'rather new'")
    await kernel.swap("thing", f"{package}.thing:Thing", folder=str(tmp_path))
    assert await thing.name() == "rather new1"
    assert sys.modules.get(f"{package}.constant") is constant, "a module that has not changed is not run again"


async def test_a_version_that_fails_to_import_leaves_the_old_module_in_place(kernel: Kernel, tmp_path: Path) -> None:
    from mukernel import SwapFailed

    write(tmp_path, "label_c.py", "LABEL = 'c'")
    write(tmp_path, "thing_c.py", PLUGIN.format(helper="label_c"))
    await kernel.load("thing_c.py:Thing", name="thing", folder=str(tmp_path))
    module = sys.modules["thing_c"]
    write(tmp_path, "thing_c.py", "raise RuntimeError('half written')\n")
    with pytest.raises(SwapFailed, match="half written"):
        await kernel.swap("thing", "thing_c.py:Thing", folder=str(tmp_path))
    assert sys.modules["thing_c"] is module
    assert await kernel.get(Named).name() == "c1"


SCRIPT = """
    import asyncio, os
    from dataclasses import dataclass
    from mukernel import Interface, Kernel, Plugin
    @dataclass
    class Point:
        x: int
    class Mover(Interface):
        async def move(self, point: Point) -> Point: ...
        async def where(self) -> int: ...
    class Right(Plugin, Mover):
        async def move(self, point: Point) -> Point:
            return Point(point.x + 1)
        async def where(self) -> int:
            return os.getpid()
    class FarRight(Right):
        async def move(self, point: Point) -> Point:
            return Point(point.x + 100)
    async def main():
        async with Kernel() as kernel:
            await kernel.load(Right, name="mover", placement="process")
            mover = kernel.get(Mover)
            assert await mover.move(Point(1)) == Point(2)
            assert await mover.where() != os.getpid()
            await kernel.swap("mover", FarRight)
            assert await mover.move(Point(1)) == Point(101)
            print("went well")
    print("run", __name__)
    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_a_class_defined_in_the_script_being_run_works(tmp_path: Path) -> None:
    script = write(tmp_path, "script.py", SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines().count("run __main__") == 1, "the script was run again, not imported"
    assert "went well" in done.stdout


@pytest.mark.parametrize("start", ["asyncio.run(main())", "import sys; sys.exit(asyncio.run(main()))"])
def test_a_script_that_starts_its_work_whoever_imports_it_is_told_of_the_guard(tmp_path: Path, start: str) -> None:
    script = write(tmp_path, "script.py", SCRIPT.partition("    if __name__")[0] + f"    {start}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    problem = done.stderr.splitlines()[-1]
    assert f"ContractError: {script}: to load a plug-in's class from it, another process imports this script" in problem
    assert "raised RuntimeError: asyncio.run() cannot be called from a running event loop; put what starts" in problem
    assert 'below `if __name__ == "__main__":`' in problem
    assert "never awaited" not in done.stderr


@pytest.mark.parametrize("package", [True, False])  # False: a namespace package
@pytest.mark.parametrize(("name", "file"), [("pack.app", "pack/app.py"), ("pack", "pack/__main__.py")])
def test_a_class_of_a_module_run_with_m_works(tmp_path: Path, package: bool, name: str, file: str) -> None:
    if package:
        write(tmp_path, "pack/__init__.py", "")
    write(tmp_path, "pack/words.py", 'WORD = "well"')
    write(
        tmp_path, file, SCRIPT.replace("    import asyncio, os", "    import asyncio, os\n    from .words import WORD")
    )
    done = subprocess.run([sys.executable, "-m", name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines().count("run __main__") == 1
    assert "went well" in done.stdout


MULTIPROCESSING = """
    import asyncio, multiprocessing
    from mukernel import Interface, Kernel, Plugin
    class Squares(Interface):
        def of(self, method: str, numbers: list[int]) -> list[int]: ...
    def square(number: int) -> int:
        return number * number
    class Pooled(Plugin, Squares):
        def of(self, method: str, numbers: list[int]) -> list[int]:
            with multiprocessing.get_context(method).Pool(1) as pool:
                return pool.map(square, numbers)
    async def main():
        async with Kernel() as kernel:
            await kernel.load(Pooled, name="squares", placement="process", threads=1)
            squares = kernel.get(Squares, blocking=True)
            for method in ("spawn", "forkserver"):
                assert await asyncio.to_thread(squares.of, method, [1, 2, 3]) == [1, 4, 9]
            print("went well")
    if __name__ == "__main__":
        asyncio.run(main())
"""


@pytest.mark.parametrize("words", [["script.py"], ["-m", "script"]])
def test_multiprocessing_in_a_process_of_the_scripts_class(tmp_path: Path, words: list[str]) -> None:
    write(tmp_path, "script.py", MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "went well\n"), done.stderr


@pytest.mark.parametrize("how", ["-", "-c"])
def test_a_class_of_a_program_that_has_no_file_is_refused_with_the_remedy(how: str) -> None:
    text = textwrap.dedent(
        """
        import asyncio
        from mukernel import Interface, Kernel, Plugin
        class Named(Interface):
            async def name(self) -> str: ...
        class Thing(Plugin, Named):
            async def name(self) -> str:
                return "thing"
        async def main():
            async with Kernel() as kernel:
                await kernel.load(Thing, placement="process")
        asyncio.run(main())
        """
    )
    command, given = ([how], text) if how == "-" else ([how, text], "")
    done = subprocess.run([sys.executable, *command], input=given, capture_output=True, text=True, check=False)
    assert "ContractError: Thing is defined in an interactive session, or in a program that has no file" in done.stderr


def test_a_module_that_is_missing_in_an_environment_is_said_to_be_so() -> None:
    """Its files may have been removed, which `mukernel install` mends."""
    with pytest.raises(
        NotFound, match=r"nowhere:Thing\) in /shop-1\.0; if files are missing there, `mukernel install`"
    ):
        load_class(Source("nowhere", "Thing", environment="/shop-1.0"))


ZIPPED = """
import sys, zipped
from mukernel import KernelThread, Plugin
class Here(Plugin, zipped.Named):
    async def name(self) -> str:
        return "here"
if __name__ == "__main__":
    with KernelThread() as kernel:
        kernel.load(zipped.Thing, name="thing", placement="process")
        print(kernel.get(zipped.Named).name())
        kernel.swap("thing", zipped.Thing)
        kernel.load(Here, placement="process")
"""


def test_a_class_in_a_zip_file_is_imported_from_there(tmp_path: Path) -> None:
    """As zipapp packs them; but for one that is in its main program."""
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as app:
        app.writestr("__main__.py", ZIPPED)
        app.writestr("zipped.py", textwrap.dedent(PLUGIN.format(helper="words")))
        app.writestr("words.py", "LABEL = 'zipped'")
    done = subprocess.run([sys.executable, "app.pyz"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "zipped1\n"), done.stderr
    problem = done.stderr.splitlines()[-1]
    assert f"{tmp_path / 'app.pyz' / '__main__.py'}: a plug-in's class is defined in it, and another process" in problem
