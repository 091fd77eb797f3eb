"""Starting a call at once: nothing that others ask of the loop in that moment is lost."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from mukernel.transports.eager import start_task


async def nothing() -> None: ...


async def test_what_a_finalizer_asks_of_the_loop_meanwhile_is_done() -> None:
    loop = asyncio.get_running_loop()
    asked, done, begun = list[int](), list[int](), list[asyncio.Task[None]]()

    def collected(phase: str, info: dict[str, Any]) -> None:
        asked.append(len(asked))
        handle = loop.call_soon(done.append, asked[-1])
        assert isinstance(handle, asyncio.Handle)
        if phase == "start" and len(begun) < 3:
            begun.append(loop.create_task(nothing()))
            begun.append(start_task(loop, nothing()))

    before = gc.get_threshold()
    gc.callbacks.append(collected)
    gc.set_threshold(1)
    try:
        task = start_task(loop, nothing())
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(collected)
    assert task.done()
    await asyncio.gather(*begun)
    await asyncio.sleep(0)
    assert asked and done == asked
    assert "call_soon" not in vars(loop)


async def test_a_first_step_is_run_at_once() -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        order.append(name)
        await asyncio.sleep(0)
        order.append(f"{name} goes on")

    loop = asyncio.get_running_loop()
    tasks = [start_task(loop, work("a")), start_task(loop, work("b"))]
    assert order == ["a", "b"] and not any(task.done() for task in tasks)
    assert asyncio.current_task() is not None
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "a goes on", "b goes on"]
