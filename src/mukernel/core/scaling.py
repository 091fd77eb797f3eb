"""Scaling: more or fewer replicas of a plug-in, while it is being called."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ..contract import ContractError
from .ending import to_its_end, together
from .instances import Instances
from .journal import Journal
from .registry import Entry, Replica
from .replacement import SwapReport, failed, told


async def scale(instances: Instances, journal: Journal, name: str, count: int) -> SwapReport:
    """Change the number of replicas. It has its turn with the plug-in while they come, and while they go; not while
    its callers are told, and those that leave serve what they were sent: what dies meanwhile is restarted.

    Raises NotFound, ContractError for a plug-in that runs inline, and SwapFailed, with `report`, when it was rolled
    back. What leaves leaves, though its caller be cancelled.
    """
    began = instances.clock.now()
    async with instances.registry.changing(name) as entry:
        check_placement(entry, count)
        report = SwapReport(name, "scale", f"{len(entry.staying)} replicas", f"{count} replicas")
        await grow(instances, entry, count, report)
        leaving = sorted(entry.staying, key=lack)[count:]
        for replica in leaving:
            replica.leaving = True
        entry.options = replace(entry.options, replicas=count)
    cancelled = await to_its_end(let_go(instances, entry, leaving))
    report.total = instances.clock.now() - began
    report.ledger = await instances.ledger(entry)
    journal.record("scale", name, f"{report.before} → {report.after}")
    if cancelled is not None:
        raise cancelled
    return report


def lack(replica: Replica) -> int:
    """How far a replica is from serving: what does not serve goes first, and of equals who came last."""
    return 2 if replica.failure is not None else 0 if replica.serves else 1


def check_placement(entry: Entry, count: int) -> None:
    if entry.options.placement == "inline" and count > 1:
        raise ContractError(
            f"{entry.name!r} runs inline, in the caller's process: replicas would share one thread; "
            "move it to a process first"
        )


async def grow(instances: Instances, entry: Entry, count: int, report: SwapReport) -> None:
    """Start what is missing; all of it, or nothing. Nobody is led to one of them before all can serve: what goes again
    was sent nothing."""
    added: list[Replica] = []
    try:
        for _ in range(count - len(entry.staying)):
            replica = instances.new_replica(entry)
            replica.coming = True
            added.append(replica)
            await instances.start_replica(entry, replica, entry.source, entry.options)
    except BaseException as error:
        await to_its_end(let_all_go(instances, entry, added))
        if not isinstance(error, Exception):
            raise
        report.rolled_back, report.reason = True, told(error)
        raise failed(report, error) from error
    for replica in added:
        replica.coming = False


async def let_all_go(instances: Instances, entry: Entry, replicas: list[Replica]) -> None:
    await together(instances.remove_replica(entry, replica) for replica in replicas)


async def let_go(instances: Instances, entry: Entry, leaving: list[Replica]) -> None:
    """Tell the callers which replicas there are. End those that get no new calls then, each when it has served those
    that it has."""
    silent = await instances.reroute_callers(entry)
    lefts = await asyncio.gather(*(instances.drain_replica(entry, replica, silent) for replica in leaving))
    async with entry.lock:
        await together(
            instances.remove_replica(entry, replica, drain=left)
            for replica, left in zip(leaving, lefts, strict=True)
            if replica in entry.replicas
        )
