"""Importing this rehearses the life of a process of plug-ins, in the fork server, before it forks.

What that fills on its first runs (type information, the cache of method look-ups, specialised bytecode) is
then there in every process that is forked: it starts faster, and writes to fewer of the pages that it shares
with the others. What it still writes to is packed (see `packing`). The kernel's own side, which a plug-in's module may
import for a `main` of its own, comes after what a process uses, so that it does not lie in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from ..contract import MethodCodec, NotFound
from ..transports.calling import Caller
from ..transports.carriers import new_port
from ..transports.link import Link
from ..transports.remote import RemoteMethod
from . import host, packing, rehearsal
from .conversation import Conversation
from .imported import all_here_is_warm
from .messages import Activate, Asks, Attach, Blueprint, Build, Detach, Done, Emptied, Ping, Quiesce, Source, Step, Stop
from .space import Space
from .stack import answer_with_stack

SETTING = "MUKERNEL_PACKING"  # "0": fork servers start sooner, and each process has more memory of its own; for tests
REHEARSALS = 10  # bytecode is specialised after eight runs
MODULE = "mukernel_rehearsal"  # imported from its file under this name, as an application's plug-ins are
KEY = "rehearsal#0.1"
CALLS = (("find", ("text", 1)), ("plain", (b"data",)))


async def listen(message: Any, rights: list[int]) -> tuple[Any, Sequence[int]]:
    if not isinstance(message, Step | Asks | Emptied):
        raise NotFound("nothing is asked for in a rehearsal")
    return Done(), ()


async def command(kernel: Conversation, blueprint: Blueprint, space: Space) -> None:
    """What the kernel says to a process, from the first word to the last, and what a caller does in between."""
    await kernel.ask(Build(blueprint))
    await kernel.ask(Activate(KEY))
    await call(kernel, space)
    for message in (Ping(), Quiesce(KEY, 1.0, True), Stop(KEY, 0.0, "it has rehearsed")):
        await kernel.ask(message)
    kernel.close()


async def call(kernel: Conversation, space: Space) -> None:
    """A channel to the instance in `space`, whose other end is there too, and a call of each kind by it."""
    contract = rehearsal.Rehearsed.__contract__
    port = new_port(space.carriers.transport)
    channel = port.mint("rehearsal", space.bell)
    await kernel.ask(Attach(KEY, channel.number, contract.describe(), channel.transport), channel.server_rights)
    wire = space.carriers.caller(channel.transport, [os.dup(fd) for fd in channel.caller_rights], channel.number)
    wire.listen()
    caller = Caller(wire, space.loop, space.now_ns)
    for name, arguments in CALLS:
        codec = MethodCodec(contract.methods[name])
        await caller.call(RemoteMethod(codec.method, codec), codec.encode_positional(arguments))
    wire.close()
    await kernel.ask(Detach(channel.number))
    port.close()


def as_if_forked() -> None:
    """What the standard library does first in every child; harmless here, where there is one thread. It has no public
    names: where one has changed, children have a little more memory of their own."""
    with contextlib.suppress(AttributeError):
        threading._after_fork()  # type: ignore[attr-defined]
        logging._lock.acquire()  # type: ignore[attr-defined]  # as before a fork; what comes after one frees it
        logging._after_at_fork_child_reinit_locks()  # type: ignore[attr-defined]


def request_a_fork() -> None:
    """What the fork server does between two forks: of a page that it writes to then, each process keeps a copy."""
    asks, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with asks, asked:
        request = {"entry": "rehearsal:main", "name": "rehearsal", "fds": 1, "limits": {}}
        socket.send_fds(asks, [json.dumps(request).encode()], [asks.fileno()])
        packet, descriptors, _, _ = socket.recv_fds(asked, 4096, 1)
        json.loads(packet)
        os.close(descriptors[0])


def rehearse(source: Source) -> None:
    request_a_fork()
    as_if_forked()
    ours, theirs = Link.pair()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        process = host.Host(Link(theirs), "rehearsal", loop)
        kernel = Conversation(Link(ours), loop, listen, lambda: None)
        blueprint = Blueprint(KEY, "rehearsal", source, {"setting": 2})
        loop.run_until_complete(command(kernel, blueprint, process.space))
        loop.run_until_complete(process.finished)
        process.space.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        sys.modules.pop(MODULE, None)


def functions_of_main() -> list[FunctionType]:
    """Those of the fork server itself, which each process begins with, and which runs them between two forks."""
    here = vars(sys.modules["__main__"])
    classes = [each for each in here.values() if isinstance(each, type) and each.__module__ == "__main__"]
    found = [each for holder in (here, *map(vars, classes)) for each in holder.values()]
    return [each for each in found if isinstance(each, FunctionType) and each.__module__ == "__main__"]


def main() -> None:
    importlib.import_module("mukernel.core.kernel_thread")
    answer_with_stack(os.open(os.devnull, os.O_WRONLY))  # until a process has its own pipe; the default would end it
    host.configure_logging()
    source = Source(MODULE, "Rehearsal", os.path.abspath(rehearsal.__file__), tuple(sys.path))
    rehearse(source)  # what is only done the first time
    if os.environ.get(SETTING) == "0":
        return
    used = packing.code_run_by(lambda: rehearse(source))
    begins = answer_with_stack, host.configure_logging, all_here_is_warm, host.main  # what can't be rehearsed
    used += [each.__code__ for each in (*begins, *functions_of_main()) if isinstance(each, FunctionType)]
    packing.gather(used)
    del used
    for _ in range(REHEARSALS):
        rehearse(source)
    packing.fill_holes()


main()
