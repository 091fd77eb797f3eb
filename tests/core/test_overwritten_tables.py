"""The process of a plug-in writes over the tables of its own channels: nobody else is harmed, the kernel least."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from core_samples import blow
from waiting import until_event

from mukernel import Interface, Kernel, Plugin, PluginCrashed, Unavailable


class Desk(Interface):
    async def hold(self, whistle: str) -> None: ...
    async def where(self) -> int: ...


class Scribbling(Plugin, Desk):
    async def hold(self, whistle: str) -> None:
        for mapping in Path("/proc/self/maps").read_text().splitlines():
            if "mukernel-calls" in mapping and " rw-s " in mapping:
                begin, end = (int(each, 16) for each in mapping.split()[0].split("-"))
                ctypes.memset(begin, 0xFF, end - begin)
        blow(whistle, "scribbled")
        await asyncio.Event().wait()

    async def where(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("what", ["unload", "kill", "close"])
async def test_a_table_of_calls_that_its_server_has_overwritten(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, whistle: Any, what: str
) -> None:
    monkeypatch.setenv("MUKERNEL_TRANSPORT", "socket")
    async with Kernel() as kernel:
        await kernel.load(Scribbling, name="desk", placement="process", drain=0.01)
        desk = kernel.get(Desk)
        held = asyncio.create_task(desk.hold(whistle.path))
        pid, _ = await whistle.heard()
        if what == "unload":
            await kernel.unload("desk")
            await kernel.load(Scribbling, name="desk", placement="process", drain=0.01)
        elif what == "kill":
            os.kill(pid, signal.SIGKILL)
            await until_event(kernel, "desk", "restart")
        if what != "close":
            with pytest.raises((PluginCrashed, Unavailable)):
                await held
            assert await desk.where() != pid
            await kernel.ledger("desk")
    with pytest.raises((PluginCrashed, Unavailable)):
        await held
    assert not [each for each in caplog.records if each.name == "mukernel" and each.exc_info]
