"""How much of the kernel's time a process may take up by what it says."""

from __future__ import annotations

import pytest

from mukernel.core.allowance import AT_ONCE, SHARE, Allowance


def test_who_takes_up_little_is_always_heard() -> None:
    allowance, now = Allowance(0.0), 0.0
    for _ in range(1000):
        now += 1.0
        assert allowance.used(SHARE * 0.99, now) == 0.0


@pytest.mark.parametrize("seconds", [0.01, 0.1, 3.0])
def test_much_is_taken_up_at_once_and_then_the_share(seconds: float) -> None:
    allowance, now, used, pause = Allowance(0.0), 0.0, 0.0, 0.0
    while now < 60.0:
        now += pause + seconds
        used += seconds
        pause = allowance.used(seconds, now)
        assert pause <= (seconds + AT_ONCE) / SHARE
    assert SHARE * now - seconds <= used <= AT_ONCE + SHARE * now + seconds


def test_who_is_silent_for_a_while_begins_anew() -> None:
    allowance = Allowance(0.0)
    seconds = 2 * AT_ONCE
    pause = allowance.used(seconds, seconds)
    assert pause > 0.0
    later = seconds + pause + AT_ONCE / SHARE
    assert allowance.used(AT_ONCE, later) == 0.0


def test_a_kernel_that_stood_still_charges_nobody_for_that() -> None:
    allowance = Allowance(0.0)
    for turn in range(1, 10):
        assert allowance.used(0.05, 15.0 * turn) == 0.0
