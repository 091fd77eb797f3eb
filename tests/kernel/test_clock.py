"""Real time on real loops; virtual time in which hours pass at once and every run is the same."""

import asyncio
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import uvloop

from mukernel.kernel.clock import Clock, DeadlockError, VirtualClock

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
NewLoop = Callable[[], asyncio.AbstractEventLoop]
HOUR = 3600.0


@LOOPS
def test_real_clock_is_on_the_scale_of_the_loop(new_loop: NewLoop) -> None:
    async def main() -> None:
        clock, loop = Clock(), asyncio.get_running_loop()
        before = clock.now_ns()
        # uvloop reads its clock once per turn of the loop and in milliseconds: it may be behind, never ahead.
        assert loop.time() <= clock.now() + 0.001
        await clock.sleep(0.002)
        assert clock.now_ns() - before >= 1_000_000
        assert before / 1e9 <= clock.now() <= time.monotonic()
        assert abs(clock.wall() - datetime.now(UTC)) < timedelta(hours=1)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_real_timers(new_loop: NewLoop) -> None:
    async def main() -> None:
        clock = Clock()
        called: list[str] = []
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, called.append, "cancelled").cancel()
        loop.call_later(0.002, called.append, "called")
        ticker = clock.every(0.001, lambda: done.set() if len(called) > 2 else called.append("tick"))
        await done.wait()
        ticker.cancel()
        ticker.cancel()
        assert "called" in called and "cancelled" not in called
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(clock.now() + 0.001):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(clock.now() - 1):
                await asyncio.Event().wait()
        async with asyncio.timeout_at(None):
            await clock.sleep(0)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_period_that_is_none(seconds: float) -> None:
    clock = VirtualClock()

    async def main() -> None:
        with pytest.raises(ValueError, match=f"seconds: got {seconds!r}, wanted a finite number above 0"):
            clock.every(seconds, print)

    clock.run(main())


def test_hours_of_everything_pass_without_waiting() -> None:
    clock = VirtualClock()
    start, wall, start_ns = clock.now(), clock.wall(), clock.now_ns()

    async def main() -> str:
        await clock.sleep(HOUR)
        await asyncio.sleep(HOUR)  # code that never heard of the clock
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), HOUR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(clock.now() + HOUR):
                await asyncio.sleep(math.inf)
        called = asyncio.Event()
        asyncio.get_running_loop().call_later(30 * 24 * HOUR, called.set)  # more than asyncio would wait in one go
        await called.wait()
        assert asyncio.get_running_loop().time() == clock.now()
        return "done"

    assert start_ns > 0
    assert clock.run(main()) == "done"
    assert clock.now() - start == pytest.approx(725 * HOUR, rel=1e-12)
    assert clock.now_ns() - start_ns == pytest.approx(725 * HOUR * 1e9, rel=1e-12)
    assert clock.wall() - wall == timedelta(hours=725)


@pytest.mark.parametrize("start", [2.0**23, 2.0**24, 2.0**31, 1.7e9])
def test_centuries_pass_though_a_second_has_few_steps_left(start: float) -> None:
    clock = VirtualClock()

    async def main() -> None:
        await asyncio.sleep(start)
        for part in range(1, 50):
            await asyncio.sleep(0.1 / part)
            await clock.sleep(1e-3)

    clock.run(main())
    assert clock.now() > start


def test_time_stands_still_while_something_can_run() -> None:
    clock = VirtualClock()

    async def main() -> None:
        before = clock.now()
        busy = asyncio.ensure_future(spin())
        asyncio.get_running_loop().call_later(1e-9, busy.cancel)
        assert await busy == 1000
        assert clock.now() == before

    async def spin() -> int:
        for turns in range(1000):  # noqa: B007
            await asyncio.sleep(0)
        return turns + 1

    clock.run(main())


def test_ticks_do_not_drift_skip_what_they_missed_and_survive_exceptions() -> None:
    clock = VirtualClock()

    async def main() -> None:
        reported: list[BaseException] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        start, ticks = clock.now(), list[float]()

        def tick() -> None:
            ticks.append(clock.now() - start)
            if len(ticks) == 2:
                raise LookupError("on purpose")
            if len(ticks) == 3:
                clock._now += 2.5  # a callback that blocked the loop over two ticks
            if len(ticks) == 6:
                ticker.cancel()

        ticker = clock.every(1.0, tick)
        await clock.sleep(100)
        assert ticks == pytest.approx([1, 2, 3, 6, 7, 8])
        assert [str(error) for error in reported] == ["on purpose"]
        seen, tenth = list[float](), clock.now()
        clock.every(0.1, lambda: seen.append(clock.now() - tenth))
        await clock.sleep(1000.05)
        assert len(seen) == 10_000
        assert seen[-1] == pytest.approx(1000, abs=1e-6)

    clock.run(main())


def test_every_run_is_the_same() -> None:
    def once() -> list[tuple[float, int]]:
        clock, chance, seen = VirtualClock(), random.Random(1), list[tuple[float, int]]()

        async def walker(number: int) -> None:
            for _ in range(20):
                await clock.sleep(chance.choice([0, 0.5, 0.5, chance.random()]))
                seen.append((clock.now(), number))

        async def main() -> None:
            await asyncio.gather(*(walker(number) for number in range(20)))

        clock.run(main())
        return seen

    first = once()
    assert first == once()
    assert [when for when, _ in first] == sorted(when for when, _ in first)


def test_deadlock_is_an_error_that_says_who_waits() -> None:
    clock = VirtualClock()

    async def main() -> None:
        await clock.sleep(9)
        asyncio.current_task().set_name("the waiting one")  # type: ignore[union-attr]
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"at virtual time 10 s.*the waiting one.*test_clock.py:\d+"):
        clock.run(main())


def test_deadlock_though_somebody_sleeps_for_ever() -> None:
    clock = VirtualClock()
    with pytest.raises(DeadlockError):
        clock.run(clock.sleep(math.inf))


def test_threads_and_descriptors_still_work() -> None:
    clock = VirtualClock()

    async def main() -> None:
        loop, before = asyncio.get_running_loop(), clock.now()
        gate = threading.Event()
        loop.call_later(1, gate.set)  # time stands still while the thread works, so this comes after it
        threading.Timer(0.01, gate.set).start()
        assert await asyncio.to_thread(gate.wait)
        assert clock.now() == before
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        reply = asyncio.ensure_future(loop.sock_recv(ours, 10))
        threading.Timer(0.01, theirs.send, [b"hello"]).start()
        assert await reply == b"hello"  # no timer at all: it waits for the descriptor
        ours.close()
        theirs.close()

    clock.run(main())


def test_silent_descriptor_does_not_stop_time() -> None:
    clock = VirtualClock()

    async def main() -> None:
        read, write = os.pipe()
        asyncio.get_running_loop().add_reader(read, print)
        await clock.sleep(HOUR)
        asyncio.get_running_loop().remove_reader(read)
        os.close(read)
        os.close(write)

    clock.run(main())
    assert clock.now() >= HOUR


def test_virtual_clock_refuses_a_loop_on_which_it_would_stand_still() -> None:
    async def main() -> None:
        for clock in (VirtualClock(), VirtualClock()):
            with pytest.raises(RuntimeError, match="wanted a loop of its own"):
                await clock.sleep(1)
            with pytest.raises(RuntimeError, match="wanted a loop of its own"):
                clock.every(1, print)

    asyncio.run(main())
    VirtualClock().run(main())


def test_loops_one_after_another_share_the_clock() -> None:
    clock = VirtualClock()
    for _ in range(3):
        loop = clock.new_event_loop()
        loop.run_until_complete(clock.sleep(5))
        loop.close()
    assert clock.now() == 16
