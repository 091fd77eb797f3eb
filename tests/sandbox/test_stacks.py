"""Where a sandboxed plug-in stands that hangs: asked of the process that it is in, and told as it deserves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest
from sandbox_hanging import Hanging, Hangs
from test_life import place_of

from mukernel import Kernel, PluginCrashed, RestartPolicy
from mukernel.core.stack import LARGEST
from mukernel.core.status import Status
from mukernel.core.stopped import StoppedPlugins

QUICK = RestartPolicy(hang=1.5)
STANDS = {
    "busy": r"running, in spin \(sandbox_hanging\.py:\d+\), called by .*hang \(",
    "deadlock": r"sleeping, in wait_for_a_lock \(sandbox_hanging\.py:\d+\), called by ",
}


@pytest.mark.parametrize("way", STANDS)
async def test_a_hanging_sandbox_is_reported_with_its_stack_and_restarted(way: str, tmp_path: Path) -> None:
    async with Kernel(heartbeat=0.05, log_folder=str(tmp_path)) as kernel:
        await kernel.load(Hangs, name="hangs", placement="sandbox", restart=QUICK)
        hanging, pid = kernel.get(Hanging), place_of(kernel, "hangs").pid
        with pytest.raises(PluginCrashed, match=rf"gave no sign of life for 1.5 s and was ended; it was {STANDS[way]}"):
            await hanging.hang(way)
        assert await hanging.hang("") == 2
        while "restart" not in [each.what for each in kernel.events]:  # noqa: ASYNC110 - it is noted after it serves
            await asyncio.sleep(0)
        assert place_of(kernel, "hangs").pid != pid
        assert "sandbox_hanging.py" in str(kernel.registry.entry("hangs").hang)
        assert re.search(STANDS[way], (tmp_path / "hangs.log").read_text())


async def test_a_sandbox_that_stopped_itself_is_let_go_on_to_tell() -> None:
    """What is stopped is the process of the plug-in, and that is let go on: the outer never was."""
    async with Kernel(heartbeat=0.05) as kernel:
        await kernel.load(Hangs, name="hangs", placement="sandbox", restart=QUICK)
        hanging = kernel.get(Hanging)
        stands = r"stopped by a signal such as SIGSTOP, in (?:Hangs\.)?hang \(sandbox_hanging\.py"
        with pytest.raises(PluginCrashed, match=stands):
            await hanging.hang("stopped")
        assert await hanging.hang("") == 2


async def test_whoever_asks_is_told_where_the_plugin_stands_and_not_its_outer_process() -> None:
    async with Kernel() as kernel:
        await kernel.load(Hangs, name="hangs", placement="sandbox", restart=RestartPolicy(hang=0))
        place = place_of(kernel, "hangs")
        (stack,) = await kernel.stack("hangs")
        assert (stack.pid, stack.note, stack.threads[0].frames[-1].function) == (place.pid, "", "<module>")
        os.kill(place.pid, signal.SIGSTOP)  # as `mukernel ps` shows it
        stopped = stack
        while stopped.state != "stopped":
            (stopped,) = await kernel.stack("hangs")
        assert "kill -CONT" in stopped.short
        os.kill(place.pid, signal.SIGCONT)
        assert await kernel.get(Hanging).hang("") == 2


async def test_lies_are_bounded_and_printable() -> None:
    async with Kernel() as kernel:
        await kernel.load(Hangs, name="hangs", placement="sandbox", restart=RestartPolicy(hang=0))
        lying = asyncio.create_task(kernel.get(Hanging).hang("lies"))
        (stack,) = await kernel.stack("hangs")
        while "forged" not in stack.text:
            (stack,) = await kernel.stack("hangs")
        assert all(each.isprintable() for each in stack.text.splitlines())
        assert len(stack.text) < 2 * LARGEST
        place_of(kernel, "hangs").process.kill()
        with pytest.raises(PluginCrashed):
            await lying


async def test_what_it_starts_counts_as_its_memory_though_it_leaves_the_session() -> None:
    async with Kernel() as kernel:
        await kernel.load(Hangs, name="hangs", placement="sandbox")
        status = Status(kernel, StoppedPlugins(kernel))
        (before,) = await status.plugins()
        assert await kernel.get(Hanging).hang("another session") == 2
        (after,) = await status.plugins()
        while (after.memory or 0) < (before.memory or 0) + (32 << 20):
            (after,) = await status.plugins()
        assert [(each.kind, each.pid) for each in status.processes()][1:] == [("sandbox", after.pids[0])]
        assert after.pids == before.pids == [place_of(kernel, "hangs").pid]
