"""Quantities as people write them: "256M" of memory, "200ms" of time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SIZES = {"": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
TIMES = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
WANTED_SIZE = "a size in bytes such as 1048576, '512K', '256M' or '2G'"
WANTED_DURATION = "a time in seconds such as 5 or 0.5, or '200ms', '5s', '2m', '1h'"
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def size(given: object) -> int:
    """Bytes. A unit is a power of 1024, with or without "B" or "iB" after it. Raises ValueError with what was
    wanted."""
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    if isinstance(given, str) and (found := _QUANTITY.fullmatch(given)):
        unit = re.sub(r"(?<=[KMGT])(I?B)$", "", found[2].upper())
        count = float(found[1]) * SIZES.get(unit, 0)
        if 1 <= count < math.inf:
            return int(count)
    raise ValueError(WANTED_SIZE)


def duration(given: object) -> float:
    """Seconds, 0 or more. Raises ValueError with what was wanted."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < math.inf:
        return float(given)
    if isinstance(given, str) and (found := _QUANTITY.fullmatch(given)) and found[2] in TIMES:
        seconds = float(found[1]) * TIMES[found[2]]
        if seconds < math.inf:
            return seconds
    raise ValueError(WANTED_DURATION)


def of_field(where: str, read: Callable[[object], T], given: object, more: str = "") -> T:
    """What `read` (`size`, `duration`) makes of the value of a field. `more`: what is wanted beside that. Raises
    ValueError that names the field."""
    try:
        return read(given)
    except ValueError as wanted:
        raise ValueError(f"{where}: got {given!r}, wanted {more}{wanted}") from None


def size_text(count: int) -> str:
    """Bytes for people: "13.2M"."""
    value = float(count)
    for unit in ("B", "K", "M"):
        if value < 1024:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}G"


def duration_text(seconds: float) -> str:
    """A time for people, in at most two units: "1.3 ms", "12 s", "3m 20s", "2d 4h"."""
    for below, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < below:
            return f"{seconds * factor:.3g} {unit}"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours < 1:
        return f"{minutes}m {int(seconds % 60)}s"
    return f"{hours}h {minutes % 60}m" if days < 1 else f"{days}d {hours % 24}h"
