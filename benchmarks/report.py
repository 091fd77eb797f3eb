"""What a part of the benchmark gives: tables, and one line for each bar that it was to clear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Table


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure.

    `seconds`: for each subject; `slices`: turns these are cut into; `quick`: fewer swaps, kills, plug-ins.
    """

    seconds: float
    slices: int
    quick: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that must hold. `wanted` and `measured` are for people, `passed` for the exit status."""

    what: str
    wanted: str
    measured: str
    passed: bool


@dataclass(slots=True)
class Part:
    """The result of one part."""

    tables: list[Table] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """A bar that `value` may not be above."""
        wanted, measured = f"at most {number(limit)}{unit}", f"{number(value)}{unit}"
        self.bars.append(Bar(what, wanted, measured, value <= limit))

    def at_least(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """A bar that `value` may not be below."""
        wanted, measured = f"at least {number(limit)}{unit}", f"{number(value)}{unit}"
        self.bars.append(Bar(what, wanted, measured, value >= limit))

    def exactly(self, what: str, value: int, wanted: int) -> None:
        """A bar that is a count."""
        self.bars.append(Bar(what, f"{wanted:,}", f"{value:,}", value == wanted))


def number(value: float) -> str:
    """Three significant figures, whole from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def bars_table(bars: Sequence[Bar]) -> Table:
    """Every bar of the run, with what was measured."""
    rows = [(bar.what, bar.wanted, bar.measured, "pass" if bar.passed else "FAIL") for bar in bars]
    return Table("It must show", ("what", "wanted", "measured", "verdict"), rows)


def nearest_rank(values: Sequence[float], share: float) -> float:
    """The `share` (0 to 1) percentile of `values`: the least that so large a share of them does not exceed. Raises
    ValueError if there are none."""
    if not values:
        raise ValueError("values: got none, wanted at least one")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
