"""Plug-ins that are written as few are, and input that is as it should not be."""

import asyncio
import logging
import os
from typing import Any

import pytest
from core_edges import Closed, Early, Frozen, FrozenSlots, Named, Names, Open, Setting, Slots
from waiting import until_event

from mukernel import Kernel

PLACEMENTS = ("inline", "process")


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_methods_may_have_any_name_that_no_hook_has(kernel: Kernel, placement: str) -> None:
    await kernel.load(Named, name="named", placement=placement)
    names, waiting = kernel.get(Names), kernel.get(Names, blocking=True)
    for _ in range(2):
        assert await names.route("Rome") == "to Rome" and await names.threads() == ["warp", "weft"]
        assert await names.blocking() and await names.plugin() == "named"
        blocked: Any = await asyncio.to_thread(lambda: (waiting.route("Rome"), waiting.threads(), waiting.blocking()))
        assert blocked == ("to Rome", ["warp", "weft"], True)
        assert "named" in repr(names)
        await kernel.move("named", "process" if placement == "inline" else "inline")


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", [Open, Frozen, FrozenSlots, Slots, Closed])
async def test_a_plugin_need_not_let_its_attributes_be_set(kernel: Kernel, kind: type[Setting], placement: str) -> None:
    await kernel.load(kind, name="setting", placement=placement, config={"number": 7})
    setting = kernel.get(Setting)
    assert await setting.value() == 7
    await kernel.swap("setting", kind)
    assert await setting.value() == 7


@pytest.mark.parametrize("placement", ["process", "process:shared"])
async def test_a_checkpoint_that_is_taken_at_the_start_is_what_a_restart_restores(
    kernel: Kernel, placement: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await kernel.load(Early, name="early", placement=placement)
        first = await kernel.get(Setting).value()
        for time in (1, 2):  # those of the restarted ones are of a state that was not restored yet
            replica = kernel.registry.entry("early").replicas[0]
            assert replica.instance is not None and replica.checkpoint is not None
            os.kill(replica.instance.place.pid, 9)
            await until_event(kernel, "early", "restart", time)
            assert await kernel.get(Setting).value() == first
    assert "may not ask" not in caplog.text
