"""Importing this rehearses the life of a process of plug-ins, in the fork server, before it forks.

What that fills on its first runs (type information, the cache of method look-ups, specialised bytecode) is
then there in every process that is forked: it starts faster, and writes to fewer of the pages that it shares
with the others.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..contract import NotFound
from ..kernel.ipc import Link
from . import host, rehearsal
from .conversation import Conversation
from .messages import Activate, Blueprint, Build, Done, Ping, Quiesce, Source, Step, Stop

REHEARSALS = 10  # bytecode is specialised after eight runs
MODULE = "mukernel_rehearsal"  # imported from its file under this name, as an application's plug-ins are
KEY = "rehearsal#0.1"


async def listen(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
    if not isinstance(message, Step):
        raise NotFound("nothing is asked for in a rehearsal")
    return Done(), ()


async def command(kernel: Conversation, blueprint: Blueprint) -> None:
    """What the kernel says to a process, from the first word to the last."""
    for message in (Build(blueprint), Activate(KEY), Ping(), Quiesce(KEY, 1.0, True), Stop(KEY)):
        await kernel.ask(message)
    kernel.close()


def rehearse(source: Source) -> None:
    ours, theirs = Link.pair()
    loop = asyncio.new_event_loop()
    try:
        process = host.Host(Link(theirs), "rehearsal", loop)
        kernel = Conversation(Link(ours), loop, listen, lambda: None)
        loop.run_until_complete(command(kernel, Blueprint(KEY, "rehearsal", source, {"setting": 2})))
        loop.run_until_complete(process.finished)
        process.space.close()
    finally:
        loop.close()
        sys.modules.pop(MODULE, None)


def main() -> None:
    host.configure_logging()
    source = Source(MODULE, "Rehearsal", os.path.abspath(rehearsal.__file__), tuple(sys.path))
    for _ in range(REHEARSALS):
        rehearse(source)


main()
