"""How good is a model on the suite as a whole, and did it pass what it must pass?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import numpy as np
from scipy import stats

from mlipbench.core.measure import by_unit
from mlipbench.core.metric import Metric, MetricValue, Role, Severity, score
from mlipbench.core.policy import POLICY_WORDS, counted, metric_score
from mlipbench.core.suite import Limit, Policy
from mlipbench.physics.statistics import CONFIDENCE
from mlipbench.report.board import Board, Cell, Line
from mlipbench.report.compare import Difference, Z, left_out, shared_units

CheckState: TypeAlias = Literal["passed", "failed", "not made"]
SEVERITY_WORDS: Final[Mapping[Severity, str]] = {
    "must": "every potential must",
    "fatal": "fatal where it will be used",
    "good to know": "good to know",
}


def method(policy: Policy) -> str:
    """Say how the composite is made."""
    return (
        "Every headline value of an accuracy row is mapped to 0…1 on the scale of its metric: 1 at “good”, 0 at "
        "“bad” or at what a model that knows nothing gets on the same data, whichever is nearer; scales do not "
        "depend on which models take part. A row scores the mean of its headline metrics; one that the data allow "
        f"and the model did not answer scores 0. Failures: {POLICY_WORDS[policy]}. The composite is the mean over "
        "rows, weighted as the suite says. A failed row scores 0; a skipped one and one that was not run have no "
        "score and lower the coverage, and such a model is never surely ahead of one that has them. The 95 % "
        "interval leaves out one unit (trajectory, system) at a time, in all rows that share it, and so does the "
        "comparison of two models. Checks, properties, diagnostics and costs are shown beside it and are no part "
        "of it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowScore:
    """What a row adds to the composite.

    Attributes:
        value: from 0 to 1.
        weight: of the row.
        influence: what each unit, named by its data and its name, adds to the error; squares add up to a variance.
        other: standard error of what cannot be told apart by units.
    """

    value: float
    weight: float
    influence: Mapping[tuple[str, str], float] = field(default_factory=dict)
    other: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """The mean score of a model, with its interval and what it rests on.

    Attributes:
        value: from 0 to 1; None when no row gave a score.
        low: lower end of the 95 % interval; None when no value has an interval.
        high: upper end.
        rows: rows that could have given a score.
        parts: those that did, by name, failures among them.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    rows: int = 0
    parts: Mapping[str, RowScore] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """How many rows gave a score."""
        return len(self.parts)

    @property
    def coverage(self) -> float:
        """Share of rows that gave a score."""
        return self.scored / self.rows if self.rows else 0.0


def composite(board: Board, model: str, *, policy: Policy = "worst") -> Composite:
    """Return the composite score of one model; `method` says how it is made."""
    lines = [line for line in board.lines if line.grade == "validation" and line.row.weight > 0.0]
    every = {line.name: _row_score(line, board.cell(model, line.name), policy) for line in lines}
    parts = {name: part for name, part in every.items() if part is not None}
    if not parts:
        return Composite(value=None, rows=len(lines))
    weights = sum(part.weight for part in parts.values())
    value = sum(part.weight * part.value for part in parts.values()) / weights
    error = _error([(part.weight / weights, part) for part in parts.values()])
    if error.stderr is None:
        return Composite(value=value, rows=len(lines), parts=parts)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, error.freedom)) * error.stderr
    return Composite(
        value=value, low=max(0.0, value - reach), high=min(1.0, value + reach), rows=len(lines), parts=parts
    )


def composite_difference(first: Composite, second: Composite) -> Difference:
    """Return how far one composite lies above another on the rows that both have, unit by unit where they share units.

    A model that lacks a row of the other is never surely above it: else skipping what one is bad at would pay.
    """
    common = [name for name in first.parts if name in second.parts]
    weights = sum(first.parts[name].weight for name in common)
    if not common:
        return Difference(value=0.0, shift=0.0, stderr=None)
    pairs = [(first.parts[name], second.parts[name]) for name in common]
    value = sum(one.weight * (one.value - other.value) for one, other in pairs) / weights
    ahead, behind = (first, second) if value > 0.0 else (second, first)
    if set(behind.parts) - set(ahead.parts):
        return Difference(value=value, shift=value, stderr=None)
    terms = [term for one, other in pairs for term in ((one.weight / weights, one), (-one.weight / weights, other))]
    return replace(_error(terms), value=value, shift=value)


def _error(terms: Sequence[tuple[float, RowScore]]) -> Difference:
    """Return the standard error of a weighted sum of rows, with Satterthwaite's degrees of freedom over data sets."""
    influence: dict[tuple[str, str], float] = {}
    variance = 0.0
    for share, row in terms:
        variance += (share * row.other) ** 2
        for unit, part in row.influence.items():
            influence[unit] = influence.get(unit, 0.0) + share * part
    domains: dict[str, list[float]] = {}
    for (domain, _), part in influence.items():
        domains.setdefault(domain, []).append(part)
    parts = [(float(np.square(own).sum()), len(own) - 1) for own in domains.values()]
    whole = sum(part for part, _ in parts) + variance
    if not influence and not variance:
        return Difference(value=0.0, shift=0.0, stderr=None)
    below = sum(part**2 / max(1, freedom) for part, freedom in parts)
    freedom = whole**2 / below if below > 0.0 else math.inf
    return Difference(value=0.0, shift=0.0, stderr=math.sqrt(whole), freedom=freedom)


def _row_score(line: Line, cell: Cell, policy: Policy) -> RowScore | None:
    """Return what a row adds; None where it gives no score."""
    if cell.state == "failed":
        return RowScore(value=0.0, weight=line.row.weight)
    if cell.state != "measured":
        return None
    pairs = [(metric, cell.value(metric.name)) for metric in line.headline if role(line, metric) == "merit"]
    counts = [(metric, value) for metric, value in pairs if value is not None or metric.name in cell.expected]
    if not counts:
        return None
    influence: dict[tuple[str, str], float] = {}
    other = 0.0
    for metric, value in counts:
        if value is None:
            continue
        units, parts, spread = _score_error(metric, counted(metric, value, policy=policy), cell.domain)
        other += spread / len(counts)
        for unit, part in zip(units, parts, strict=True):
            influence[unit] = influence.get(unit, 0.0) + part / len(counts)
    scores = [metric_score(metric, value, policy=policy) for metric, value in counts]
    return RowScore(value=float(np.mean(scores)), weight=line.row.weight, influence=influence, other=other)


def _score_error(
    metric: Metric, value: MetricValue, domain: str
) -> tuple[list[tuple[str, str]], Sequence[float], float]:
    """Return the influence of each unit on the score of a value, or else its standard error."""
    units = shared_units(value.samples, value.samples)
    if value.samples is not None and len(units) > 1:
        whole, left = left_out(value.samples, units)
        # a benchmark may have corrected the value for what it fitted, and the same share belongs to its parts
        share = value.value / whole if whole else 1.0
        if np.isfinite(left).all():
            scores = np.array([score(metric, share * x, zero=value.zero) for x in left])
            parts = math.sqrt((len(units) - 1) / len(units)) * (scores - scores.mean())
            scatter = value.training_stderr or 0.0
            ends = [score(metric, value.value + sign * scatter, zero=value.zero) for sign in (-1.0, 1.0)]
            return [(domain, unit) for unit in units], parts.tolist(), 0.5 * abs(ends[1] - ends[0])
    ends = [value.value if end is None else end for end in (value.low, value.high)]
    if value.low is None and value.high is None:
        return [], [], 0.0
    sides = 2.0 if value.low is not None and value.high is not None else 1.0
    low, high = (score(metric, end, zero=value.zero) for end in ends)
    return [], [], abs(high - low) / (sides * Z)


def headline_values(line: Line, cell: Cell) -> list[tuple[Metric, MetricValue]]:
    """Return the headline metrics of a cell that were measured, each over everything."""
    pairs = [(metric, cell.value(metric.name)) for metric in line.headline]
    return [(metric, value) for metric, value in pairs if value is not None]


def role(line: Line, metric: Metric) -> Role:
    """Return what a metric is for in a row; what a benchmark of grade "verification" measures is a check."""
    return "check" if line.grade == "verification" and metric.role == "merit" else metric.role


def past_limit(limit: Limit, value: float) -> bool:
    """Is a value outside an absolute bound?

    >>> past_limit(Limit(metric="m", at_most=2.0), 2.5), past_limit(Limit(metric="m", at_least=2.0), 2.5)
    (True, False)
    """
    above = limit.at_most is not None and value > limit.at_most
    below = limit.at_least is not None and value < limit.at_least
    return above or below


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing a model must do.

    Attributes:
        row: name.
        metric: name; empty for the row as a whole.
        title: for people.
        severity: see `Metric`.
        state: a check that was not made has not been passed.
        says: one sentence without full stop.
        value: of the worst unit, in the metric's unit; None when there is none.
        is_demanded: does the suite insist on it, or do the data allow it?
    """

    row: str
    metric: str
    title: str
    severity: Severity = "must"
    state: CheckState
    says: str
    value: float | None = None
    is_demanded: bool = False

    @property
    def passed(self) -> bool:
        """Did it pass?"""
        return self.state == "passed"

    @property
    def decides(self) -> bool:
        """May no model that fails this be used?"""
        return self.severity != "good to know"


def checks(board: Board, model: str) -> tuple[Check, ...]:
    """Return what the model must do: one check per metric of that role.

    A metric passes when the worst of its independent units keeps the suite's limits or, where the suite sets none, is
    better than the "bad" end of its scale, and when the model gave an answer for all that it covers. A mean over units
    would let one broken frame among many pass.
    """
    return tuple(check for line in board.lines for check in row_checks(line, board.cell(model, line.name)))


def row_checks(line: Line, cell: Cell) -> tuple[Check, ...]:
    """Return the checks of one row."""
    known = [metric for metric in line.metrics if role(line, metric) == "check"]
    demands = line.row.demands
    if cell.state == "failed":
        says = f"{line.title}: {first_line(cell.reason)}"
        return (Check(row=line.name, metric="", title=line.title, state="failed", says=says),) if known else ()
    if cell.state != "measured":
        if not known and not demands:
            return ()
        says = f"{line.title}: not made: {first_line(cell.reason)}"
        return (
            Check(
                row=line.name, metric="", title=line.title, state="not made", says=says, is_demanded=bool(demands)
            ),
        )  # fmt: skip
    out = []
    for metric in known:
        value = cell.value(metric.name)
        if value is not None:
            out.append(_check(line, metric, value))
        elif metric.name in (*demands, *cell.expected):
            out.append(Check(
                row=line.name, metric=metric.name, title=metric.title, severity=metric.severity, state="not made",
                says=f"{metric.title}: not made: the row gave no such value", is_demanded=True,
            ))  # fmt: skip
    return tuple(out)


def worst_unit(metric: Metric, value: MetricValue) -> tuple[float, str]:
    """Return the value of the worst independent unit and its name; the value itself where no units are known."""
    if value.samples is None or len(value.samples.units) < 2:
        return value.value, ""
    each = by_unit(value.samples)
    worst = int(np.argmax(each) if metric.better == "lower" else np.argmin(each))
    is_worse = each[worst] > value.value if metric.better == "lower" else each[worst] < value.value
    return (float(each[worst]), value.samples.units[worst]) if is_worse else (value.value, "")


def _check(line: Line, metric: Metric, value: MetricValue) -> Check:
    """Hold the worst unit of a value against its limits, or its scale."""
    worst, unit_name = worst_unit(metric, value)
    limits = [limit for limit in line.row.limits if limit.metric == metric.name and not limit.part]
    if limits:
        passed = not any(past_limit(limit, worst) for limit in limits)
        bound = " and ".join(limit_words(limit) for limit in limits)
    else:
        passed = score(metric, worst) > 0.0
        bound = f"{'below' if metric.better == 'lower' else 'above'} {metric.bad:g}"
    # a suite that sets a limit of its own means it
    severity: Severity = "must" if limits and metric.severity == "good to know" else metric.severity
    unit = f" {metric.unit}" if metric.unit else ""
    says = f"{metric.title} {worst:.2g}{unit}{f' ({unit_name})' if unit_name else ''}, must be {bound}"
    if value.failed:
        passed = False
        more = ", …" if len(value.failed) > 2 else ""
        says = f"{metric.title}: no answer for {', '.join(value.failed[:2])}{more} ({len(value.failed)} in all)"
    return Check(
        row=line.name, metric=metric.name, title=metric.title, severity=severity, value=worst,
        state="passed" if passed else "failed", says=says, is_demanded=metric.name in line.row.demands,
    )  # fmt: skip


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
