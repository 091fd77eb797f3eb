"""The process of a sandboxed plug-in: it encloses itself first, and is a host like any other then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from ..contract import ContractError, Unavailable
from ..kernel.process import Limits, Process
from ..sandbox.cgroups import Cgroup
from ..sandbox.enclosure import OURS, READY, in_enclosure
from ..sandbox.policy import NEVER_GIVEN, Policy, Sandbox, contains, importable_from, replaceable
from . import host
from .messages import Source
from .registry import DEFAULT_LOG

ENTRY = "mukernel.core.sandboxed:main"
LONGEST_POLICY = 1 << 20  # bytes
LONGEST_REPORT = 4096
MEMORY = 1 << 30  # bytes, where the operator sets no limit
# Descriptors, likewise. The system counts those on their way for each user, and lets no process send more
# whose own limit is below that: with what one packet more may have (253), it is less than the 1,024 of others.
FILES = 512
LONGEST_ENCLOSING = 10.0  # seconds


def policy_for(
    sandbox: Sandbox, limits: Limits, source: Source, path: Sequence[str], cgroup: Cgroup | None = None,
    output: int = DEFAULT_LOG,
) -> Policy:  # fmt: skip
    """What a plug-in's process is to be given: what its operator says, and what it is imported from. `output`: bytes
    that its log may have.

    Raises ContractError where some of that lies in a folder that it may write to, and where its source would not be
    found in there.
    """
    own = [os.path.dirname(source.file)] if source.file else []
    imported = [*own, *source.path, *path]
    read = (*importable_from(imported, own=not source.environment), *sandbox.read)
    if own and os.path.exists(source.file) and not sees(read, sandbox.write, source.file):
        raise ContractError(
            f"its sandbox does not see {source.file}, which lies directly in {own[0]}: no sandbox is given a folder "
            f"that holds your home, or {', '.join(NEVER_GIVEN)}; wanted another place, or it named in sandbox.read"
        )
    if found := replaceable((*imported, *read, *sandbox.write), sandbox.write):
        raise ContractError(
            f"sandbox.write: got {found[1]!r}, in which {found[0]!r} lies, which it is given, too: it could put "
            "something else in that place; wanted folders that lie beside each other"
        )
    return Policy(
        read,
        sandbox.write,
        sandbox.temporary,
        limits.processes or sandbox.processes,
        limits.memory or MEMORY,
        limits.files or FILES,
        output,
        cgroups=cgroup.folders if cgroup is not None else (),
    )


def sees(read: Sequence[str], write: Sequence[str], file: str) -> bool:
    """Does a file lie in what a sandbox is given?"""
    return any(contains(os.path.realpath(each), os.path.realpath(file)) for each in (*read, *write))


def group_limits(sandbox: Sandbox, limits: Limits, shared_memory: int | None) -> tuple[int, int]:
    """Bytes and processes of all of a sandbox together: its /tmp is memory, too, and so is what it makes to share."""
    memory = (limits.memory or MEMORY) + sandbox.temporary + (shared_memory or 0)
    return memory, (limits.processes or sandbox.processes) + OURS


def written(policy: Policy) -> int:
    """A policy as a descriptor that the new process reads."""
    memory = os.memfd_create("mukernel-sandbox", os.MFD_CLOEXEC)
    os.write(memory, policy.encode())
    return memory


async def enclosed(
    loop: asyncio.AbstractEventLoop, report: int, plugin: str, process: Process, remedy: str = ""
) -> None:  # fmt: skip
    """Return when a process has enclosed itself. Raises Unavailable that says what could not be set up, and ends it.
    `remedy`: what that says to do where the process ended before it came to that."""
    said = loop.create_future()

    def heard() -> None:
        loop.remove_reader(report)
        if not said.done():  # cancelled in this very turn of the loop
            said.set_result(os.read(report, LONGEST_REPORT))

    loop.add_reader(report, heard)
    try:
        async with asyncio.timeout(LONGEST_ENCLOSING):
            words: bytes = await said
    except TimeoutError:
        words = f"it was not done within {LONGEST_ENCLOSING:g} s".encode()
    except BaseException:
        process.kill()
        raise
    finally:
        loop.remove_reader(report)
    if words != READY:
        process.kill()
        why = f"{words.decode(errors='replace')} (`mukernel check` says what this machine can enforce)"
        if not words:
            why = f"its process ended before, and its log may say why{remedy}"
        raise Unavailable(f"plug-in {plugin!r} was not started: its sandbox could not be set up: {why}")


def main(rights: list[int], run: Callable[[list[int]], None] = host.main) -> None:
    """Entry point of a process: its ends of the link and of the pipe for its stack, where to report that it is
    enclosed, and its policy. `run`: what it does then."""
    link, stack, report, policy = rights
    wanted = Policy.decode(os.pread(policy, LONGEST_POLICY, 0))
    in_enclosure(wanted, [link, stack], report, lambda: run([link, stack]))
