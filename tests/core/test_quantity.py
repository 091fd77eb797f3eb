"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from mukernel.core.quantity import duration, duration_text, size, size_text


@pytest.mark.parametrize(
    ("given", "count"),
    [
        (1, 1),
        ("1", 1),
        ("512K", 512 * 1024),
        ("256M", 256 * 1024**2),
        ("256MB", 256 * 1024**2),
        ("1.5GiB", 3 * 2**29),
        ("2 g", 2**31),
    ],
)
def test_sizes(given: object, count: int) -> None:
    assert size(given) == count


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "", "M", "12X", "-1M", "0M", "1MM", "inf", None])
def test_what_is_no_size(given: object) -> None:
    with pytest.raises(ValueError, match="a size in bytes such as"):
        size(given)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0.0),
        (2, 2.0),
        (0.5, 0.5),
        ("200ms", 0.2),
        ("5s", 5.0),
        ("1.5", 1.5),
        ("2m", 120.0),
        ("1 h", 3600.0),
    ],
)
def test_times(given: object, seconds: float) -> None:
    assert duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize("given", [-1, True, "", "s", "5 parsecs", "-5s", float("inf"), float("nan"), None])
def test_what_is_no_time(given: object) -> None:
    with pytest.raises(ValueError, match="a time in seconds such as"):
        duration(given)


def test_texts() -> None:
    assert [size_text(count) for count in (10, 2048, 150 * 1024, 5 * 1024**2, 3 * 2**30)] == [
        "10B",
        "2.0K",
        "150K",
        "5.0M",
        "3.0G",
    ]
    times = (0.0000042, 0.0012, 3.25, 200, 7500, 200_000)
    assert [duration_text(each) for each in times] == [
        "4.2 µs",
        "1.2 ms",
        "3.25 s",
        "3m 20s",
        "2h 5m",
        "2d 7h",
    ]
