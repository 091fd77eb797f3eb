"""What of an application is imported anew for a new version, and what becomes of a version that is not wanted."""

import os
import sys
from pathlib import Path

import pytest
from test_loader import Named, write

from mukernel import Kernel, SwapFailed
from mukernel.core.imported import imports_in, made_of, near
from mukernel.core.messages import Source
from mukernel.core.sources import sources_of

HEAD = """
    from mukernel import Interface, Plugin
    class Named(Interface):
        async def name(self) -> str: ...
"""
THING = HEAD + "    class Thing(Plugin, Named):\n        async def name(self) -> str:\n            return {name!r}\n"
FLAWED = {
    "start": "    def start(self): raise RuntimeError('flawed')\n",
    "health": "    def health(self): raise RuntimeError('flawed')\n",
    "constructor": "    def __init__(self): raise RuntimeError('flawed')\n",
    "configuration": "    def __init__(self, *, wanted: int): ...\n",
    "restore": "    def save(self) -> int: return 1\n        def restore(self, state: int): raise RuntimeError('no')\n",
}


@pytest.mark.parametrize("flaw", [*FLAWED, "class"])
@pytest.mark.parametrize("form", ["module", "file"])
async def test_a_version_that_was_rolled_back_leaves_the_modules_of_before(
    kernel: Kernel, tmp_path: Path, flaw: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"back_{flaw}_{form}"
    use = f"{module}:Thing" if form == "module" else f"{module}.py:Thing"
    stateful = "        def save(self) -> int: return 1\n        def restore(self, state: int): ...\n"
    write(tmp_path, f"{module}.py", THING.format(name="old") + stateful)
    await kernel.load(use, name="thing", folder=str(tmp_path))
    good = sys.modules[module]
    text = THING.format(name="rejected").replace("Thing", "Other") if flaw == "class" else THING.format(name="rejected")
    write(tmp_path, f"{module}.py", text + ("" if flaw == "class" else "    " * 2 + FLAWED[flaw].strip() + "\n"))
    with pytest.raises(SwapFailed):
        await kernel.swap("thing", use, folder=str(tmp_path))
    assert sys.modules[module] is good
    write(tmp_path, f"{module}.py", THING.format(name="mended"))
    assert (await kernel.swap("thing", use, folder=str(tmp_path))).rolled_back is False
    assert await kernel.get(Named).name() == "mended"


COUNTER = """
        def __init__(self, *, folder: str = ''): self.folder, self.calls = folder, 0
        def save(self) -> int: return self.calls
        def restore(self, state: int):
            self.calls = state
            with open(self.folder + '/restored', 'a') as file:
                file.write({name!r} + ' ')
            if open(self.folder + '/restored').read() == 'rejected rejected ':
                raise RuntimeError('only one of us')
        async def name(self) -> str:
            self.calls += 1
            return {name!r} + str(self.calls)
"""


@pytest.mark.parametrize("placement", ["process:one", "process"])
async def test_a_version_that_only_one_replica_could_take_is_taken_back_from_it(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    """By the very instances of before: their source is gone."""
    config = {"folder": str(tmp_path)}
    module = f"half_{placement.replace(':', '_')}"
    write(tmp_path, f"{module}.py", HEAD + "    class Thing(Plugin, Named):" + COUNTER.format(name="old"))
    await kernel.load(
        f"{module}:Thing", name="thing", placement=placement, replicas=2, folder=str(tmp_path), config=config
    )
    thing = kernel.get(Named)
    assert sorted([await thing.name() for _ in range(4)]) == ["old1", "old1", "old2", "old2"]
    write(tmp_path, f"{module}.py", HEAD + "    class Thing(Plugin, Named):" + COUNTER.format(name="rejected"))
    with pytest.raises(SwapFailed, match="only one of us") as raised:
        await kernel.swap("thing", f"{module}:Thing", folder=str(tmp_path))
    assert raised.value.report.rolled_back and raised.value.report.ledger.lost == 0
    assert sorted([await thing.name() for _ in range(4)]) == ["old3", "old3", "old4", "old4"]
    assert (tmp_path / "restored").read_text() == "rejected rejected old "
    assert len(kernel.places) == (1 if placement == "process:one" else 2), "a process of the rejected version is left"
    assert (await kernel.ledger("thing")).lost == 0


@pytest.mark.parametrize("placement", ["inline", "process"])
@pytest.mark.parametrize(
    ("statement", "changed"),
    [
        ("from .words import GREETING", "words"),
        ("from . import words; GREETING = words.GREETING", "words"),
        ("import {package}.words; GREETING = {package}.words.GREETING", "words"),
        ("from {package} import GREETING", "words"),
        ("from .between import GREETING", "words"),
        ("from {package}_beside import GREETING", "{package}_beside"),
    ],
)
async def test_what_only_gives_constants_is_imported_anew_too(
    kernel: Kernel, tmp_path: Path, statement: str, changed: str, placement: str
) -> None:
    package = f"shop_{placement}_{len(statement)}"
    statement, changed = statement.format(package=package), changed.format(package=package)
    path = f"{changed}.py" if changed.startswith(package) else f"{package}/{changed}.py"
    write(tmp_path, f"{package}/__init__.py", "from .words import GREETING")
    write(tmp_path, f"{package}/words.py", "GREETING = 'old'")
    write(tmp_path, f"{package}/between.py", "from .words import GREETING")
    write(tmp_path, f"{package}_beside.py", "GREETING = 'old'")
    write(tmp_path, f"{package}/other.py", "")
    thing = THING.replace("{name!r}", "GREETING") + f"    {statement}\n    from . import other\n"
    write(tmp_path, f"{package}/thing.py", thing)
    await kernel.load(f"{package}.thing:Thing", name="thing", placement=placement, folder=str(tmp_path))
    assert await kernel.get(Named).name() == "old"
    other = sys.modules.get(f"{package}.other")
    write(tmp_path, path, "GREETING = 'new'")
    await kernel.swap("thing", f"{package}.thing:Thing", folder=str(tmp_path))
    assert await kernel.get(Named).name() == "new"
    assert sys.modules.get(f"{package}.other") is other, "what has not changed is not run again"
    if placement == "inline":
        assert sys.modules[package].thing is sys.modules[f"{package}.thing"]


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_what_only_a_function_imports_is_imported_anew_too(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    module = f"late_{placement}"
    late = THING.replace("return {name!r}", f"from {module}_words import GREETING; return GREETING")
    write(tmp_path, f"{module}.py", late)
    for greeting in ("one", "two", "three"):
        write(tmp_path, f"{module}_words.py", f"GREETING = {greeting!r}")
        if greeting == "one":
            await kernel.load(f"{module}:Thing", name="thing", placement=placement, folder=str(tmp_path))
        else:
            await kernel.swap("thing", f"{module}:Thing", folder=str(tmp_path))
        assert await kernel.get(Named).name() == greeting
    write(tmp_path, f"{module}_words.py", "GREETING = unknown")
    if placement == "inline":
        with pytest.raises(SwapFailed, match="unknown"):
            await kernel.swap("thing", f"{module}:Thing", folder=str(tmp_path))
        assert await kernel.get(Named).name() == "three"


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_class_that_its_package_only_passes_on_is_of_a_new_module(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    package = f"passed_on_{placement}"
    write(tmp_path, f"{package}/__init__.py", "from .between import Thing")
    write(tmp_path, f"{package}/between.py", "from .thing import Thing")
    seen = THING.replace("return {name!r}", "seen.append(1); return str(len(seen))")
    write(tmp_path, f"{package}/thing.py", "    seen = []\n" + seen)
    await kernel.load(f"{package}:Thing", name="thing", placement=placement, folder=str(tmp_path))
    assert [await kernel.get(Named).name() for _ in range(2)] == ["1", "2"]
    await kernel.swap("thing", f"{package}:Thing", folder=str(tmp_path))
    assert await kernel.get(Named).name() == "1"


@pytest.mark.parametrize("placement", ["inline", "process"])
async def test_a_change_that_neither_time_nor_size_tells_of_is_seen(
    kernel: Kernel, tmp_path: Path, placement: str
) -> None:
    module = f"untold_{placement}"
    helper = write(tmp_path, f"{module}_words.py", "GREETING = 'old'")
    times = helper.stat().st_atime_ns, helper.stat().st_mtime_ns
    thing = THING.replace("{name!r}", "GREETING") + f"    from {module}_words import GREETING\n"
    write(tmp_path, f"{module}.py", thing)
    await kernel.load(f"{module}:Thing", name="thing", placement=placement, folder=str(tmp_path))
    assert await kernel.get(Named).name() == "old"
    loaded = helper.stat().st_ctime_ns
    helper.write_text("GREETING = 'new'")
    while helper.stat().st_ctime_ns < loaded + 50_000_000:  # the system's own time has to tell, which is coarse
        os.utime(helper, ns=times)
    await kernel.swap("thing", f"{module}:Thing", folder=str(tmp_path))
    assert await kernel.get(Named).name() == "new"


async def test_a_failed_import_leaves_every_module_as_it_was(kernel: Kernel, tmp_path: Path) -> None:
    write(tmp_path, "whole/__init__.py", "from .words import GREETING")
    write(tmp_path, "whole/words.py", "GREETING = 'old'")
    write(tmp_path, "whole/thing.py", THING.replace("{name!r}", "GREETING") + "    from . import GREETING\n")
    await kernel.load("whole.thing:Thing", name="thing", folder=str(tmp_path))
    names = ("whole", "whole.words", "whole.thing")
    before = {name: sys.modules[name] for name in names}
    write(tmp_path, "whole/words.py", "GREETING = 'new'")
    half = "from . import GREETING, words\nassert GREETING == 'new'\nraise RuntimeError('half written')\n"
    write(tmp_path, "whole/thing.py", half)
    with pytest.raises(SwapFailed, match="half written"):
        await kernel.swap("thing", "whole.thing:Thing", folder=str(tmp_path))
    assert {name: sys.modules[name] for name in names} == before
    assert before["whole"].words is before["whole.words"]
    write(tmp_path, "whole/words.py", "GREETING = 'old'")
    write(tmp_path, "whole/thing.py", THING.replace("{name!r}", "GREETING") + "    from . import GREETING\n")
    await kernel.restart("thing")
    assert await kernel.get(Named).name() == "old"


def test_imports_are_read_wherever_they_stand(tmp_path: Path) -> None:
    source = "import a.b as c\ndef f():\n    from .d import e, g\nif c:\n    from .. import h\n"
    file = write(tmp_path, "imports_it.py", source)
    assert sorted(imports_in(str(file), (1, 1))) == [(0, "a.b", ()), (1, "d", ("e", "g")), (2, "", ("h",))]
    assert imports_in(str(write(tmp_path, "no_python.py", "import (")), (1, 1)) == ()
    assert imports_in(str(tmp_path / "missing.py"), (1, 1)) == ()


def test_neither_the_library_nor_what_is_installed_nor_the_framework_is_near() -> None:
    file = str(Path(__file__))
    members = near("test_imported", file)
    assert "test_loader" in members
    assert not {name for name in members if name.partition(".")[0] in ("mukernel", "pytest", "json", "__main__")}
    assert near("json", sys.modules["json"].__file__ or "").keys() <= {n for n in sys.modules if n.startswith("json")}
    assert made_of("test_imported", file, members) >= {"test_imported", "test_loader", "core_samples"}
    loader = Source("test_loader", "Thing")
    assert str(Path(file).with_name("test_loader.py")) in sources_of(
        loader, sys.modules["test_loader"], str(Path(file).parent)
    )


@pytest.mark.parametrize("root", ["", "from .words import GREETING"])
async def test_what_another_swap_has_imported_anew_is_not_stale_for_the_next(
    kernel: Kernel, tmp_path: Path, root: str
) -> None:
    """The second plug-in reaches the changed module by a third that the first does not use."""
    package = "chain" + str(len(root))
    middle = "from .words import GREETING" if not root else f"from {package} import GREETING"
    write(tmp_path, f"{package}/__init__.py", root)
    write(tmp_path, f"{package}/words.py", "GREETING = 'old'")
    write(tmp_path, f"{package}/middle.py", middle)
    thing = THING.replace("{name!r}", "GREETING")
    write(tmp_path, f"{package}/first.py", thing + "    from .words import GREETING\n")
    write(tmp_path, f"{package}/second.py", thing + "    from .middle import GREETING\n")
    for name in ("first", "second"):
        await kernel.load(f"{package}.{name}:Thing", name=name, folder=str(tmp_path))
    write(tmp_path, f"{package}/words.py", "GREETING = 'new'")
    for name in ("first", "second"):
        await kernel.swap(name, f"{package}.{name}:Thing", folder=str(tmp_path))
        assert await kernel.get(Named, plugin=name).name() == "new"
    second = sys.modules[f"{package}.middle"]
    await kernel.swap("first", f"{package}.first:Thing", folder=str(tmp_path))
    await kernel.swap("second", f"{package}.second:Thing", folder=str(tmp_path))
    assert sys.modules[f"{package}.middle"] is second, "what is as new as what it uses is not run again"


async def test_a_file_named_as_a_module_of_the_library_does_not_take_its_place(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import email

    import iniconfig

    monkeypatch.setattr(sys, "path", [*sys.path])  # these files are to be in nobody else's way
    for name in ("email", "iniconfig", "own_name"):
        write(tmp_path, f"{name}.py", THING.format(name=name))
        await kernel.load(f"{name}.py:Thing", name=name, folder=str(tmp_path))
        await kernel.swap(name, f"{name}.py:Thing", folder=str(tmp_path))
        assert await kernel.get(Named, plugin=name).name() == name
    assert sys.modules["email"] is email and sys.modules["iniconfig"] is iniconfig
    assert "own_name" in sys.modules
