"""A process that calls many others holds rights to each: more than one packet carries, and more than it may have."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from core_samples import Arithmetic, Counter, Plain, Sum, Summing, Tally
from waiting import until

from mukernel import Kernel, Overloaded
from mukernel.kernel.process import Limits


async def test_a_process_calls_more_replicas_than_one_packet_has_rights(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=70)
    await kernel.load(Sum, placement="process")
    reached = {(await kernel.get(Summing).where())[1] for _ in range(140)}
    assert len(reached) == 70
    await kernel.scale("counter", 2)
    assert len({(await kernel.get(Summing).where())[1] for _ in range(140)}) == 2


async def test_who_may_not_have_as_many_files_is_told(kernel: Kernel) -> None:
    await kernel.load(Tally, name="counter", placement="process", replicas=20)
    with pytest.raises(Overloaded, match=r"counter: .* files for each of 20 channels: this process may have 64 open"):
        await kernel.load(Sum, placement="process", limits=Limits(files=64))
    await kernel.load(Sum, placement="process", limits=Limits(files=512))
    assert await kernel.get(Summing).add_twice(1) > 0
    await kernel.get(Counter).add(1)


async def test_more_callers_than_the_server_has_files_for_are_refused_and_the_others_served(kernel: Kernel) -> None:
    await kernel.load(Arithmetic, placement="process", limits=Limits(files=64))
    plain = kernel.get(Plain, blocking=True)
    here = threading.Barrier(40)

    def call(number: int) -> str:
        here.wait()  # each in a thread, and so by a channel, of its own
        try:
            outcome = f"{plain.plus(number)}"
        except Overloaded as error:
            outcome = str(error)
        here.wait()
        return outcome

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(40) as threads:
        outcomes = await asyncio.gather(*(loop.run_in_executor(threads, call, number) for number in range(40)))
        refused = [each for each in outcomes if "serves no more callers: it may open no more files" in each]
        assert 0 < len(refused) < 40
        assert sum(each.isdigit() for each in outcomes) == 40 - len(refused)
        assert all(each.what != "crash" for each in kernel.events)


async def test_a_kernel_whose_process_has_no_file_left_refuses_new_callers_and_loses_none(kernel: Kernel) -> None:
    await kernel.load(Arithmetic, placement="process")
    plain = kernel.get(Plain, blocking=True)
    assert await asyncio.to_thread(plain.plus, 1) == 2
    before, stdin = set(os.listdir("/proc/self/fd")), os.fstat(0)
    here = threading.Barrier(40)

    def call(number: int) -> str:
        try:
            return f"{plain.plus(number)}"
        except Overloaded as error:
            return str(error)
        finally:
            here.wait()  # a thread that has ended gives its channel back

    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, ([n for n in range(9999) if str(n) not in before][100], hard))
    try:
        with ThreadPoolExecutor(40) as threads:
            outcomes = await asyncio.gather(*(loop.run_in_executor(threads, call, number) for number in range(40)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    refused = [each for each in outcomes if "Too many open files" in each]
    assert 0 < len(refused) < 40
    assert sum(each.isdigit() for each in outcomes) == 40 - len(refused)
    assert os.path.samestat(os.fstat(0), stdin)  # what could not be opened is not closed either
    assert await asyncio.to_thread(plain.plus, 1) == 2
    await until(lambda: gc.collect() >= 0 and len(os.listdir("/proc/self/fd")) <= len(before))
