"""What is a measured number, and what was it made of?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mlipbench.core.model import Float, Int

Role: TypeAlias = Literal["merit", "diagnostic", "check", "property"]
Severity: TypeAlias = Literal["must", "fatal", "good to know"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The definition of a number.

    Attributes:
        name: as in "force_rmse"; aggregation is part of it.
        title: for a table's head, as in "Force RMSE".
        unit: as in "meV/Å"; empty for a pure number.
        better: which way is better.
        good: value with score 1, on a fixed scale.
        bad: value with score 0.
        says: the aggregation spelled out, and what the interval was taken over.
        headline: does it stand in the leaderboard's first table?
        log_scale: is the way from good to bad taken in its logarithm? For numbers that span decades.
        role: a "merit" is ranked, scored and compared with baselines; a "diagnostic" helps to read the others and is
            never compared; a "check" passes or fails at its `bad` value; a "property" is shown and not judged. In
            benchmarks of grade "verification" a merit counts as a check.
        severity: of a check: "must" hold for any potential (one function, symmetric, deterministic), "fatal" where the
            potential will be used (walls, cohesion, holes), or "good to know".
        tolerance: a merit is worse than an accepted one only when it is so by more than this share of it, too.
        lowest: the least value that it can take; its interval ends there. None for no bound.
        highest: the greatest value that it can take.
    """

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    good: float
    bad: float
    says: str
    headline: bool = False
    log_scale: bool = False
    role: Role = "merit"
    severity: Severity = "must"
    tolerance: float = 0.05
    lowest: float | None = None
    highest: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a value was made of, unit by unit, so that a report can resample it and pair two models.

    Attributes:
        units: name of each independent unit, such as a trajectory.
        unit_of_row: shape (n_rows,), which unit a row belongs to, in ascending order.
        rows: shape (n_rows, k): sums and counts (one row a unit) or raw values (many rows a unit).
        reducer: name of the function that turns all rows into the value, a key of `physics.statistics.REDUCERS`.
    """

    units: tuple[str, ...]
    unit_of_row: Int
    rows: Float
    reducer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricValue:
    """A finite number with its interval.

    Attributes:
        metric: name of the `Metric`.
        part: what it covers, as in "element=H" or "config_type=liquid_6"; empty for everything.
        value: finite, in the metric's unit.
        stderr: standard error in the metric's unit; None when there are fewer than two units.
        low: lower end of the 95 % interval; None likewise.
        high: upper end; None likewise.
        n: independent units.
        samples: what it was made of; None when there is nothing to resample.
        failed: names of the units that the model covers and gave no answer for; they are not in the value.
        n_all: units in the data, those that the model does not cover among them; None where all are in `n`.
        training_stderr: standard error from the trainings alone, where several of one recipe were averaged; it is part
            of `stderr`. None for one training.
        n_trainings: how many were averaged.
        zero: what a model that knows nothing (no forces, constant energy) gets on the same items; None where unknown.

    Raises:
        ValueError: a number is not finite: a benchmark raises `NotApplicable` instead of making one up.
    """

    metric: str
    part: str = ""
    value: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    n: int
    samples: Samples | None = None
    failed: tuple[str, ...] = ()
    n_all: int | None = None
    training_stderr: float | None = None
    n_trainings: int = 1
    zero: float | None = None

    def __post_init__(self) -> None:
        """Refuse a number that is not finite."""
        for name in ("value", "stderr", "low", "high", "zero"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.metric} {self.part}: {name} = {number} is not finite")


def score(metric: Metric, value: float, *, zero: float | None = None) -> float:
    """Return how good a value is on the metric's fixed scale: 1 at `good`, 0 at `bad`, clipped between.

    Args:
        metric: whose scale it is.
        value: in the metric's unit.
        zero: what a model that knows nothing gets; where that is better than `bad`, the scale ends there.

    >>> rmse = Metric(name="m", title="M", unit="", better="lower", good=10.0, bad=110.0, says="")
    >>> score(rmse, 60.0), score(rmse, 5.0), score(rmse, 500.0), score(rmse, 60.0, zero=60.0)
    (0.5, 1.0, 0.0, 0.0)
    """
    good, bad = metric.good, worst_of_scale(metric, zero=zero)
    if good == bad:
        return 0.0
    if metric.log_scale:
        floor = 1e-300
        value, good, bad = (math.log(max(x, floor)) for x in (value, good, bad))
    return float(np.clip((value - bad) / (good - bad), 0.0, 1.0)) + 0.0  # never minus zero


def worst_of_scale(metric: Metric, *, zero: float | None = None) -> float:
    """Return where a metric's scale reaches 0: at `bad`, or at what a model that knows nothing gets if that is nearer.

    Ignorance that is as good as `good` leaves no scale, and nothing scores there.
    """
    if zero is None:
        return metric.bad
    lower = metric.better == "lower"
    return max(metric.good, min(metric.bad, zero)) if lower else min(metric.good, max(metric.bad, zero))
