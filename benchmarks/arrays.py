"""What the memory benchmark hands over, and to whom: the plug-in, the process at the end of a pipe, Ray's actor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy

from mukernel import Interface, Plugin

Hand = Callable[[numpy.ndarray], int]


class Receiving(Interface, version="1.0"):
    """Takes an array and says how large it is, having looked at its first and its last element."""

    def receive(self, array: numpy.ndarray) -> int: ...


class Receiver(Plugin, Receiving):
    def receive(self, array: numpy.ndarray) -> int:
        return looked_at(array)


def looked_at(array: numpy.ndarray) -> int:
    return int(array.nbytes) if array[0] == array[-1] else 0


def receive_by_pipe(connection: Connection) -> None:
    with contextlib.suppress(EOFError):
        while True:
            connection.send(looked_at(connection.recv()))


@contextlib.contextmanager
def pipe_with_pickle() -> Iterator[Hand]:
    """What a script without a library would do. Forks: begin it before there are threads."""
    context = get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=receive_by_pipe, args=(theirs,), daemon=True)
    process.start()
    theirs.close()

    def hand(array: numpy.ndarray) -> int:
        ours.send(array)
        size: int = ours.recv()
        return size

    try:
        yield hand
    finally:
        ours.close()
        process.kill()
        process.join()


@contextlib.contextmanager
def ray_put_and_call() -> Iterator[Hand | None]:
    """Put into Ray's object store, and an actor that is called with it. None where Ray is not installed."""
    try:
        import ray
    except ImportError:
        yield None
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it tells nobody
    ray.init(num_cpus=1, object_store_memory=600 << 20, include_dashboard=False, log_to_driver=False)

    @ray.remote
    class Actor:
        def receive(self, array: Any) -> int:
            return int(array.nbytes) if array[0] == array[-1] else 0

    actor = Actor.remote()

    def hand(array: numpy.ndarray) -> int:
        size: int = ray.get(actor.receive.remote(ray.put(array)))
        return size

    try:
        yield hand
    finally:
        ray.shutdown()
