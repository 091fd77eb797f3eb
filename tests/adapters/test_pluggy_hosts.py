"""Hosts whose plug-in manager is a class of their own, made of ours."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pluggy
import pytest
from hook_samples import Compared, Early, Specs

from mukernel import ContractError, KernelThread
from mukernel.adapters.pluggy import PluginManager, isolated
from mukernel.adapters.pluggy_process import this_process
from mukernel.core import imported_for_plugins


class CallsThrough(PluginManager):
    """As that of python-lsp-server: it has a `_hookexec` of its own, which does not call that of its base."""

    def _hookexec(
        self, hook_name: str, methods: Sequence[pluggy.HookImpl], kwargs: Mapping[str, object], firstresult: bool
    ) -> object | list[object]:  # fmt: skip
        return self._inner_hookexec(hook_name, methods, kwargs, firstresult)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("kind", [PluginManager, CallsThrough])
def test_hooks_run_elsewhere_whatever_manager_a_host_makes_of_ours(kind: type[PluginManager], traced: bool) -> None:
    lines: list[str] = []
    with kind("sample") as manager:
        if traced:
            manager.trace.root.setwriter(lines.append)
            manager.enable_tracing()
        manager.add_hookspecs(Specs)
        manager.register(Early)
        (pid,) = manager.hook.where()
    assert pid != os.getpid()
    assert ["  finish where --> " in line for line in lines].count(True) == traced


def test_managers_share_a_kernel() -> None:
    with KernelThread() as kernel:
        managers = [PluginManager("sample", kernel=kernel) for _ in range(2)]
        for manager in managers:
            manager.add_hookspecs(Specs)
            manager.register(Early)
        pids = {pid for manager in managers for pid in manager.hook.where()}
        managers[0].close()
        assert set(managers[1].hook.where()) < pids
    assert len(pids) == 2


PYTEST = """
import os
import pluggy
from mukernel.adapters.pluggy import PluginManager

class Placed(PluginManager):
    def __init__(self, project_name):
        super().__init__(project_name, placement="inline", placements={"stranger": "process"})

if __name__ == "__main__":
    pluggy.PluginManager = Placed
    import pytest
    print("host", os.getpid())
    pytest.main(["-p", "stranger", "-p", "no:cacheprovider", "--collect-only"])
"""


def test_pytest_unchanged_runs_the_hooks_of_a_plugin_elsewhere(tmp_path: Path) -> None:
    """Its manager is derived from what stands at `pluggy.PluginManager` when it is imported."""
    (tmp_path / "host.py").write_text(PYTEST)
    (tmp_path / "stranger.py").write_text("import os\ndef pytest_report_header(): return f'there {os.getpid()}'")
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True, cwd=tmp_path)
    host, there = re.findall(r"^(?:host|there) (\d+)$", done.stdout, re.MULTILINE)
    assert host != there, done.stdout


AT_IMPORT = """
import importlib, os
import pluggy
from mukernel.adapters.pluggy import PluginManager

hookimpl = pluggy.HookimplMarker("kitchen")

class Specs:
    @pluggy.HookspecMarker("kitchen")
    def where(self): ...

counted = os.path.join(os.path.dirname(os.path.abspath(__file__)), "imports")
with open(counted, "a") as imports:
    print("imported", file=imports)
if os.path.getsize(counted) > 30:  # the test fails, and is not to go on
    os._exit(9)
pm = PluginManager("kitchen")
pm.add_hookspecs(Specs)
pm.register(importlib.import_module("stranger"))
"""
STRANGER = """
import os
import kitchen

@kitchen.hookimpl
def where():
    return os.getpid(), kitchen.pm.list_name_plugin()[0][0], list(kitchen.pm._processes)
"""


def test_a_host_may_make_its_manager_where_it_is_imported(tmp_path: Path) -> None:
    """As datasette and llm do. The process of a plug-in imports the host, too, and starts no other there."""
    (tmp_path / "kitchen.py").write_text(AT_IMPORT)
    (tmp_path / "stranger.py").write_text(STRANGER)
    program = "import kitchen, os; print(os.getpid(), *kitchen.pm.hook.where()[0], sep='|')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    host, there, name, processes = done.stdout.strip().split("|")
    assert (host != there, name, processes) == (True, "stranger", "[]")


def test_in_the_process_of_a_plugin_hooks_are_inline_but_for_those_that_may_not_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(this_process, "plugin", "stranger")
    with PluginManager("sample", placements={"boxed": "sandbox"}) as manager:
        manager.add_hookspecs(Specs)
        manager.register(Early)
        assert (manager.hook.where(), manager.kernel) == ([os.getpid()], None)
        manager.register(isolated(Compared, "a"), "made")
        with pytest.raises(ContractError, match=r"hook names of plug-in 'made': .* that of plug-in 'stranger'; wanted"):
            manager.hook.names(given=None)
        manager.unregister(Early)
        manager.register(Early, "boxed")
        with pytest.raises(ContractError, match="hook where of plug-in 'boxed': it runs in a process of its own"):
            manager.hook.where()
        manager.unregister(Early)
        monkeypatch.setattr(this_process, "sandboxed", True)
        manager.register(Early, "boxed")
        assert manager.hook.where() == [os.getpid()]


def test_a_plugin_of_another_kind_may_import_such_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process imports the host, which starts those of its own plug-ins; they start none."""
    monkeypatch.setattr(imported_for_plugins, "of_plugins", True)
    with imported_for_plugins.imported_for_plugin("web"), PluginManager("sample") as manager:
        manager.add_hookspecs(Specs)
        manager.register(Early)
        assert manager.hook.where() != [os.getpid()]
