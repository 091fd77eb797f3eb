"""What a plug-in raises that does not fit into its process's memory is answered, and the process lives on."""

import asyncio
import os
from collections.abc import Awaitable

import pytest

from mukernel import Interface, Kernel, Overloaded, Plugin, RemoteError, raises

MEMORY = 256 << 20


class Declared(Exception):
    pass


class Fails(Interface):
    async def fail(self, megabytes: int) -> None: ...
    def fail_here(self, megabytes: int) -> None: ...
    @raises(Declared)
    async def fail_as_declared(self, megabytes: int) -> None: ...
    async def pid(self) -> int: ...


class FailsAtLength(Plugin, Fails):
    async def fail(self, megabytes: int) -> None:
        raise RuntimeError("E" * (megabytes << 20))

    def fail_here(self, megabytes: int) -> None:
        raise RuntimeError("E" * (megabytes << 20))

    async def fail_as_declared(self, megabytes: int) -> None:
        raise Declared("E" * (megabytes << 20), b"E" * (megabytes << 18))

    async def pid(self) -> int:
        return os.getpid()


async def outcome(call: Awaitable[None]) -> Exception:
    try:
        await call
    except Exception as error:
        return error
    raise AssertionError("it returned")


@pytest.mark.parametrize("megabytes", [10, 30, 50, 100, 250])
async def test_an_error_that_does_not_fit_into_memory_is_answered(kernel: Kernel, megabytes: int) -> None:
    await kernel.load(FailsAtLength, placement="process", memory=MEMORY)
    fails, blocking = kernel.get(Fails), kernel.get(Fails, blocking=True)
    pid = await fails.pid()
    cut = f"E [cut: {(megabytes - 1) << 20} characters more]"
    for call in (fails.fail(megabytes), asyncio.to_thread(blocking.fail_here, megabytes)):
        error = await outcome(call)
        assert isinstance(error, RemoteError)
        if error.type_name == "RuntimeError":
            assert error.message.endswith(cut) and "in fail" in error.traceback
        else:
            assert error.type_name == "MemoryError", "it could not even be made"
    error = await outcome(fails.fail_as_declared(megabytes))
    if isinstance(error, RemoteError):
        assert error.type_name == "MemoryError" or "could not be sent: there is no memory" in error.message
    else:
        assert isinstance(error, Declared | Overloaded)
    assert await fails.pid() == pid
    assert (await kernel.ledger("fails-at-length")).running == 0
