"""Bench: how many calls a second a running plug-in answers, and how long they take."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..contract import ContractError, Description, MethodCodec, MethodDescription, Model, encode_large
from .control import BenchReport
from .described import visiting, without_gaps
from .quantity import duration_text
from .registry import Entry

if TYPE_CHECKING:
    from .kernel import Kernel

LONGEST = 60.0  # seconds; every call's time is kept
GRACE = 5.0  # seconds beyond its own that a measurement has for the calls that are under way
TURN = 64  # calls that one caller may make before the loop's other work gets its turn


async def measure(
    kernel: Kernel,
    entry: Entry,
    description: Description,
    method: MethodDescription,
    arguments: Mapping[str, Any],
    callers: int,
    seconds: float,
) -> BenchReport:
    """Call `method` from `callers` tasks of the kernel's loop for `seconds`. An inline plug-in is called as
    its neighbours call it, by its methods; any other one over channels. Raises ContractError."""
    where = f"{description.name}.{method.name}"
    if Model(method.model) is not Model.CALL:
        raise ContractError(
            f"{where} is a {method.model} method; bench measures methods that are answered by one reply"
        )
    if not 1 <= callers <= 10_000:
        raise ContractError(f"callers: got {callers}, wanted 1 to 10000")
    if not 0 < seconds <= LONGEST:
        raise ContractError(f"seconds: got {seconds:g}, wanted more than 0 and at most {LONGEST:g}")
    report = BenchReport(where, entry.name, entry.options.placement, callers, 0.0, 0, 0, 0.0, 0.0)
    instance = entry.replicas[0].instance
    if entry.options.placement == "inline" and instance is not None:
        local = kernel.space.instances[instance.blueprint.key]
        interface = local.interfaces[description.name]
        real = interface.__contract__.methods[method.name]
        codec = MethodCodec(real)
        values = codec.decode_arguments(msgspec.msgpack.encode(arguments, enc_hook=encode_large), named=True)
        bound = getattr(kernel.get(interface, plugin=entry.name), method.name)
        await run(kernel, report, lambda: codec.binding.call(bound, values), not real.blocking, seconds)
    else:
        async with visiting(kernel, entry, without_gaps(description, method, arguments)) as methods:
            bound, given = methods[method.name], dict(arguments)
            await run(kernel, report, lambda: bound(**given), True, seconds)
    return report


async def run(kernel: Kernel, report: BenchReport, once: Callable[[], Any], awaited: bool, seconds: float) -> None:
    """Fill the report. A call that has not returned GRACE after the end is cancelled, and counts as an error."""
    now = kernel.clock.now
    taken = array("d")
    began = now()
    until = began + seconds

    async def caller() -> None:
        count = 0
        while (before := now()) < until or not count:  # at least one, however late its turn came
            try:
                if awaited:
                    await once()
                else:
                    once()
                taken.append(now() - before)
            except Exception as error:
                report.errors += 1
                report.error = report.error or str(error).partition("\n")[0]
            count += 1
            if not count % TURN:
                await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(report.callers)]
    try:
        _, late = await asyncio.wait(callers, timeout=seconds + GRACE)
    finally:
        for each in callers:
            each.cancel()
    if late:
        await asyncio.wait(late, timeout=GRACE)  # one may not heed it
        report.errors += len(late)
        report.error = (
            f"no reply within {duration_text(GRACE)} of the end: {len(late)} were still running, and were cancelled"
        )
    report.seconds, report.calls = now() - began, len(taken)
    if taken:
        ordered = sorted(taken)
        report.p50, report.p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
