"""A module that starts a kernel where it is imported: the first process that imports it for its plug-in is told."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from core_samples import Tally

from mukernel import ContractError, Kernel, SwapFailed
from mukernel.core import imported_for_plugins
from mukernel.core.inspection import inspect_plugins

WEB = """
import os
counted = os.path.join(os.path.dirname(os.path.abspath(__file__)), "imports")
with open(counted, "a") as imports:
    print("imported", file=imports)
if os.path.getsize(counted) > 30:  # the test fails, and is not to go on
    os._exit(9)
from mukernel import Interface, KernelThread, Plugin
class Greeter(Interface):
    async def greet(self, name: str) -> str: ...
class English(Plugin, Greeter):
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"
kernel = KernelThread().start()
kernel.load(English, placement="process")
"""
LINE = len(WEB.splitlines())


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """As a module of Flask or gunicorn, or a script without `if __name__ == "__main__"`."""
    (tmp_path / "web.py").write_text(WEB)
    return tmp_path / "web.py"


@pytest.mark.parametrize("words", [["-c", "import web"], ["web.py"]])
def test_it_does_not_start_process_after_process(web: Path, words: list[str]) -> None:
    done = subprocess.run([sys.executable, *words], cwd=web.parent, capture_output=True, text=True)
    assert (done.returncode, (web.parent / "imports").read_text()) == (1, "imported\n" * 2), done.stderr
    problem = done.stderr.splitlines()[-1]
    assert f"ContractError: {'web' if words[0] == '-c' else web}: to load a plug-in's class from it" in problem
    assert f"into a process where it is imported, at {web}:{LINE}: each process would start the next" in problem


def test_mukernel_check_names_it(web: Path) -> None:
    found = asyncio.run(inspect_plugins({"english": ("web:English", {})}, str(web.parent)))
    (problem,) = found["english"].problems
    assert "plugins.english.use: web: to load a plug-in's class from it, another process imports it" in problem


async def test_only_what_is_loaded_into_a_process_meanwhile_is_refused(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imported_for_plugins, "of_plugins", True)
    with imported_for_plugins.imported_for_plugin("outer"):
        with imported_for_plugins.imported_for_plugin("inner"), pytest.raises(ContractError, match=r"^inner: to load"):
            await kernel.load(Tally, name="elsewhere", placement="process")
        await kernel.load(Tally, name="here")
        with pytest.raises(SwapFailed, match=r"outer: "):
            await kernel.move("here", "process")
        await kernel.load("mukernel.core.rehearsal:Rehearsal", name="ours", placement="process")
    await kernel.load(Tally, name="elsewhere", placement="process")
