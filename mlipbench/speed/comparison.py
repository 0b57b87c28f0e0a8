"""Two things timed in turn, what was missing, and how a cost grows."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

REPEATS: Final = 3
HOST: Final = platform.node()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two things timed in turn, or one that has a bar of its own.

    Attributes:
        name: what is compared.
        ours: median of ours, in `unit`.
        peer: median of the other, in `unit`; None where the bar is about `ours` itself.
        ratio: what the bar is about.
        bar: as in ">= 1.6"; empty when there is none.
        unit: of both.
        note: what a reader must know, such as which way into the peer was the fastest.
        threads: of each process.
        device: "cpu" or "cuda".
        host: machine name.
    """

    name: str
    ours: float
    peer: float | None
    ratio: float
    bar: str
    unit: str
    note: str = ""
    threads: int = 1
    device: str = "cpu"
    host: str = HOST

    @property
    def is_met(self) -> bool:
        """Is the ratio on the right side of its bar?

        >>> Comparison(name="a, b", ours=2.0, peer=1.0, ratio=2.0, bar=">= 1.6", unit="s").is_met
        True
        """
        if not self.bar:
            return True
        sign, number = self.bar.split()
        return self.ratio >= float(number) if sign == ">=" else self.ratio <= float(number)

    @property
    def verdict(self) -> str:
        """Whether the bar is met, in one word; empty when there is none."""
        return "" if not self.bar else "met" if self.is_met else "MISSED"

    @property
    def text(self) -> str:
        """One line for a reader."""
        numbers = f"{self.ours:.4g}" if self.peer is None else f"{self.ours:.4g} and {self.peer:.4g}"
        ratio = "" if self.peer is None else f", ratio {self.ratio:.3g}"
        bar = f"  bar {self.bar}: {self.verdict}" if self.bar else ""
        return f"{self.name}: {numbers} {self.unit}{ratio}{bar}" + (f"\n    {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A comparison that could not be made.

    Attributes:
        name: what would have been compared.
        reason: such as "quippy-ase is not installed".
        bar: that is not met; empty when there is none.
    """

    name: str
    reason: str
    bar: str = ""

    @property
    def text(self) -> str:
        """One line for a reader."""
        return f"{self.name}: {self.reason}" + (f"  bar {self.bar}: NOT MEASURED" if self.bar else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a cost grows.

    Attributes:
        stage: what costs, as in "assembly".
        variable: what grows, as in "frames".
        x: its values, positive.
        y: the cost at each, positive.
        unit: of the cost.
    """

    stage: str
    variable: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    unit: str

    @property
    def slope(self) -> float:
        """Exponent of the power law fitted to the curve in logarithms.

        >>> round(Curve(stage="s", variable="n", x=(1.0, 2.0, 4.0), y=(3.0, 12.0, 48.0), unit="s").slope, 9)
        2.0
        """
        return float(np.polyfit(np.log(self.x), np.log(self.y), 1)[0])

    @property
    def text(self) -> str:
        """One line for a reader."""
        points = ", ".join(f"{x:g}: {y:.3g}" for x, y in zip(self.x, self.y, strict=True))
        return f"{self.stage} against {self.variable}: slope {self.slope:.2f}  ({points} {self.unit})"


Found: TypeAlias = Comparison | Absent | Curve


def in_turn(
    *calls: Callable[[], object], repeats: int = REPEATS, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, ...]:
    """Return the median seconds of some calls, run in turn after one warm-up each.

    Args:
        calls: what to time.
        repeats: how often each counts.
        clock: `time.perf_counter`, or `time.process_time` for processor seconds of all threads.
    """
    times: list[list[float]] = [[] for _ in calls]
    for number in range(repeats + 1):
        for call, kept in zip(calls, times, strict=True):
            start = clock()
            call()
            if number:
                kept.append(clock() - start)
    return tuple(statistics.median(kept) for kept in times)
