"""Hosts whose plug-in manager is a class of their own, made of ours."""

import os
from collections.abc import Mapping, Sequence

import pluggy
import pytest
from hook_samples import Early, Specs

from mukernel import KernelThread
from mukernel.adapters.pluggy import PluginManager


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
