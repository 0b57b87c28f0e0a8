"""How good is a model on the suite as a whole, and did it pass what it must pass?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlipbench.core.metric import Metric, MetricValue, score
from mlipbench.core.suite import Limit
from mlipbench.report.board import Board, Cell, Line
from mlipbench.report.compare import Z

N_DRAWS: Final = 2000
METHOD: Final = (
    "Every headline value of an accuracy row is mapped to 0…1 on the fixed scale of its metric (1 at “good”, 0 at "
    "“bad”; the scales are listed with each benchmark and do not depend on which models take part). A row scores the "
    "mean of its headline metrics, and the composite is the mean over rows, weighted as the suite says. A failed row "
    "scores 0; a skipped one and one that was not run have no score and lower the coverage. The 95 % interval comes "
    f"from {N_DRAWS} draws from the values' own intervals; the metrics of one row move together, rows independently. "
    "Checks and costs are shown beside it and are no part of it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """The mean score of a model, with its interval and what it rests on.

    Attributes:
        value: from 0 to 1; None when no row gave a score.
        low: lower end of the 95 % interval; None when no value has an interval.
        high: upper end.
        scored: rows that gave a score, failures among them.
        rows: rows that could have given one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    scored: int = 0
    rows: int = 0

    @property
    def coverage(self) -> float:
        """Share of rows that gave a score."""
        return self.scored / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing a model must do.

    Attributes:
        row: name.
        metric: name; empty when the row as a whole failed.
        passed: did it?
        says: one sentence without full stop.
    """

    row: str
    metric: str
    passed: bool
    says: str


def composite(board: Board, model: str) -> Composite:
    """Return the composite score of one model; `METHOD` says how it is made."""
    lines = [line for line in board.lines if line.grade == "validation" and line.row.weight > 0.0]
    rng = np.random.default_rng(0)
    total, draws, weights, scored, uncertain = 0.0, np.zeros(N_DRAWS), 0.0, 0, False
    for line in lines:
        cell = board.cell(model, line.name)
        z = rng.standard_normal(N_DRAWS)
        values = headline_values(line, cell)
        if cell.state == "failed":
            mean, spread = 0.0, np.zeros(N_DRAWS)
        elif values:
            mean = float(np.mean([score(metric, value.value) for metric, value in values]))
            spread = np.mean([_drawn(metric, value, z) for metric, value in values], axis=0)
            uncertain |= any(value.low is not None for _, value in values)
        else:
            continue
        weight = line.row.weight
        total, draws, weights, scored = total + weight * mean, draws + weight * spread, weights + weight, scored + 1
    if not scored:
        return Composite(value=None, rows=len(lines))
    value = total / weights
    if not uncertain:
        return Composite(value=value, scored=scored, rows=len(lines))
    low, high = (float(x) for x in np.quantile(draws / weights, [0.025, 0.975]))
    return Composite(value=value, low=min(low, value), high=max(high, value), scored=scored, rows=len(lines))


def headline_values(line: Line, cell: Cell) -> list[tuple[Metric, MetricValue]]:
    """Return the headline metrics of a cell that were measured, each over everything."""
    pairs = [(metric, cell.value(metric.name)) for metric in line.headline]
    return [(metric, value) for metric, value in pairs if value is not None]


def _drawn(metric: Metric, value: MetricValue, z: np.ndarray) -> np.ndarray:
    """Return scores of values moved by z in the bad direction, along their interval; shape of z."""
    if value.low is None or value.high is None:
        return np.full(len(z), score(metric, value.value))
    toward_high = z if metric.better == "lower" else -z
    reach = np.where(toward_high > 0.0, value.high - value.value, value.value - value.low)
    return np.array([score(metric, float(x)) for x in value.value + reach * toward_high / Z])


def past_limit(limit: Limit, value: float) -> bool:
    """Is a value outside an absolute bound?

    >>> past_limit(Limit(metric="m", at_most=2.0), 2.5), past_limit(Limit(metric="m", at_least=2.0), 2.5)
    (True, False)
    """
    above = limit.at_most is not None and value > limit.at_most
    below = limit.at_least is not None and value < limit.at_least
    return above or below


def checks(board: Board, model: str) -> tuple[Check, ...]:
    """Return what the model must do: rows of grade "verification", one check per metric.

    A metric passes when it keeps the suite's limits or, where the suite sets none, when it is better than the "bad"
    end of its scale.
    """
    out: list[Check] = []
    for line in board.lines:
        cell = board.cell(model, line.name)
        if line.grade != "verification":
            continue
        if cell.state == "failed":
            out.append(Check(row=line.name, metric="", passed=False, says=f"{line.title}: {first_line(cell.reason)}"))
        for metric in line.metrics:
            value = cell.value(metric.name)
            if value is not None:
                out.append(_check(line, metric, value.value))
    return tuple(out)


def _check(line: Line, metric: Metric, value: float) -> Check:
    """Hold one value against its limits, or its scale."""
    limits = [limit for limit in line.row.limits if limit.metric == metric.name and not limit.part]
    if limits:
        passed = not any(past_limit(limit, value) for limit in limits)
        bound = " and ".join(limit_words(limit) for limit in limits)
    else:
        passed = score(metric, value) > 0.0
        bound = f"{'below' if metric.better == 'lower' else 'above'} {metric.bad:g}"
    unit = f" {metric.unit}" if metric.unit else ""
    says = f"{metric.title} {value:.2g}{unit}, must be {bound}"
    return Check(row=line.name, metric=metric.name, passed=passed, says=says)


def limit_words(limit: Limit) -> str:
    """Say a limit.

    >>> limit_words(Limit(metric="m", at_most=2.0))
    'at most 2'
    """
    parts = [
        f"{word} {bound:g}"
        for word, bound in (("at least", limit.at_least), ("at most", limit.at_most))
        if bound is not None and math.isfinite(bound)
    ]
    return " and ".join(parts)


def first_line(text: str) -> str:
    """Return the first line that says something; a reason may carry a traceback below it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
