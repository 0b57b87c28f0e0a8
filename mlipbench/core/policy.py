"""What is it worth when a model covers a system and gives no answer for it?

A model that refuses what it would get wrong must not look better than one that answers. Under the default policy every
system has the same say, none counts for more than the metric's `bad` value, and one without an answer counts for just
that. Whatever a model does not answer, its score can then only fall.

What a model that knows nothing gets must be counted alike: systems that are easy because there is little to know would
otherwise lift its capped value above its score of zero. `counted_zero` does so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from mlipbench.core.measure import bounds, by_unit
from mlipbench.core.metric import Metric, MetricValue, Samples, score
from mlipbench.core.model import Float
from mlipbench.core.suite import Policy
from mlipbench.physics.statistics import QUANTILES, estimate

POLICY_WORDS: Final[Mapping[Policy, str]] = {
    "worst": "every system that a model covers has the same say; one that it has no answer for counts as the metric's"
    " “bad” value, and so does any that is worse than that",
    "exclude": "systems that a model has no answer for are left out of its score, whatever they would have cost",
    "penalty": "systems that a model has no answer for are left out, and its score is multiplied by the share of those"
    " it covers that it did answer",
}


def share_answered(value: MetricValue) -> float:
    """Return the share of the units that a model covers which it gave an answer for.

    >>> share_answered(MetricValue(metric="m", value=1.0, n=3, failed=("water dimer",), n_all=9))
    0.75
    """
    answered = len(set(value.samples.units) - set(value.failed)) if value.samples else value.n
    return answered / (answered + len(value.failed)) if answered else 0.0


def metric_score(metric: Metric, value: MetricValue | None, *, policy: Policy = "worst") -> float:
    """Return the score of a value from 0 to 1, failures counted as the policy says; 0 where there is no value.

    >>> rmse = Metric(name="m", title="M", unit="", better="lower", good=0.0, bad=100.0, says="")
    >>> half = MetricValue(metric="m", value=20.0, n=2, failed=("a", "b"), n_all=4)
    >>> [metric_score(rmse, half, policy=policy) for policy in ("worst", "exclude", "penalty")]
    [0.4, 0.8, 0.4]
    """
    if value is None:
        return 0.0
    if policy == "worst":
        kept = counted(metric, value)
        share = 1.0 if kept.samples else share_answered(value)
        return share * score(metric, kept.value, zero=value.zero) + 0.0  # never -0
    share = share_answered(value) if policy == "penalty" else 1.0
    return share * score(metric, value.value, zero=value.zero) + 0.0


def row_score(
    metrics: Sequence[Metric], values: Sequence[MetricValue], expected: Collection[str], *, policy: Policy = "worst"
) -> float | None:
    """Return the score of a row: the mean over its headline metrics that were measured or could have been.

    Args:
        metrics: all of the benchmark.
        values: that were measured; those of a part do not count.
        expected: names of metrics that the data allow; a headline metric among them without a value scores 0.
        policy: of failures.

    Returns:
        None when no headline metric was measured or expected.
    """
    measured = {value.metric: value for value in values if not value.part}
    counts = [
        metric for metric in metrics
        if metric.headline and metric.role == "merit" and (metric.name in measured or metric.name in expected)
    ]  # fmt: skip
    if not counts:
        return None
    return float(np.mean([metric_score(metric, measured.get(metric.name), policy=policy) for metric in counts]))


def counted(metric: Metric, value: MetricValue, *, policy: Policy = "worst") -> MetricValue:
    """Return a value with the units that the model failed on inside, and none worse than the metric's `bad`.

    Every unit has the same weight then, so that no failure can take a heavy unit away. Values that do not say how many
    systems there are (`n_all` is None) are made of what a model either answers as a whole or fails on as a whole; they,
    and values without samples, are returned as they are.

    Args:
        metric: what it is.
        value: of one model.
        policy: only "worst" counts failures within the value.

    Returns:
        The value with failed units among its samples, at `bad`; `failed` is empty then.
    """
    if policy != "worst" or value.n_all is None or value.samples is None:
        return value
    samples = _with_failed(_capped(metric, value.samples, metric.bad), value.failed, metric.bad)
    return replace(_again(value, samples, metric=metric), failed=())


def counted_zero(metric: Metric, value: MetricValue) -> float:
    """Return `MetricValue.zero` for values that are counted system by system.

    Args:
        metric: what it is.
        value: what a model of no forces and a constant energy gets on every system that the judged model covers,
            answered or not, with samples.

    >>> metric = Metric(name="m", title="M", unit="", better="lower", good=0.0, bad=100.0, says="")
    >>> samples = Samples(units=("a", "b"), unit_of_row=np.arange(2), rows=np.array([[40.0, 1.0], [900.0, 1.0]]),
    ...     reducer="mean")
    >>> counted_zero(metric, MetricValue(metric="m", value=470.0, n=2, samples=samples))
    70.0
    """
    return counted(metric, replace(value, failed=(), n_all=value.n)).value


def _capped(metric: Metric, samples: Samples, cap: float) -> Samples:
    """Return samples in which each unit has the same weight, and none is worse than the cap."""
    limit = np.minimum if metric.better == "lower" else np.maximum
    if samples.reducer in QUANTILES:
        return replace(samples, rows=limit(samples.rows, cap))
    spread = _spread(samples)
    own = samples.rows[:, 0] / samples.rows[:, 1] / spread if samples.reducer == "relative_root_mean" else None
    each = by_unit(samples) if own is None else np.sqrt(own)
    n_units = len(samples.units)
    return Samples(
        units=samples.units, unit_of_row=np.arange(n_units), rows=_rows(limit(each, cap), samples.reducer, spread),
        reducer=samples.reducer,
    )  # fmt: skip


def _spread(samples: Samples) -> float:
    """Return the variance of the reference over all units, where the value is relative to it."""
    if samples.reducer != "relative_root_mean":
        return 1.0
    _, count, total, square = samples.rows.sum(axis=0)
    return float(square / count - (total / count) ** 2)


def _rows(each: Float, reducer: str, spread: float) -> Float:
    """Return rows of one item per unit that reduce to these values, the reference's variance kept."""
    ones = np.ones(len(each))
    if reducer == "mean":
        return np.column_stack([each, ones])
    if reducer == "root_mean":
        return np.column_stack([each**2, ones])
    return np.column_stack([each**2 * spread, ones, 0.0 * ones, spread * ones])


def _with_failed(samples: Samples, failed: Sequence[str], cap: float) -> Samples:
    """Return samples with units added, each at the cap; units stand in the order of their names."""
    answered = [k for k, name in enumerate(samples.units) if name not in failed]
    per_unit = [samples.rows[samples.unit_of_row == k] for k in answered]
    if samples.reducer in QUANTILES:
        sizes = [len(rows) for rows in per_unit] or [1]
        missing = np.full((max(round(float(np.mean(sizes))), 1), 1), cap)
    else:
        missing = _rows(np.array([cap]), samples.reducer, _spread(samples))
    both = {samples.units[k]: rows for k, rows in zip(answered, per_unit, strict=True)}
    both |= dict.fromkeys(failed, missing)
    names = tuple(sorted(both))
    return Samples(
        units=names, unit_of_row=np.repeat(np.arange(len(names)), [len(both[name]) for name in names]),
        rows=np.concatenate([both[name] for name in names]), reducer=samples.reducer,
    )  # fmt: skip


def _again(value: MetricValue, samples: Samples, *, metric: Metric) -> MetricValue:
    """Return a value made of other samples; where the benchmark held back the interval, there is none."""
    lowest, highest = bounds(metric, samples.rows, samples.reducer)
    found = estimate(samples.rows, samples.unit_of_row, samples.reducer, lowest=lowest, highest=highest)
    held_back = value.low is None and value.high is None and value.samples is not None and len(value.samples.units) > 1
    new = replace(value, value=found.value, n=found.n_units, samples=samples)
    if held_back:
        return replace(new, stderr=None, low=None, high=None)
    return replace(new, stderr=found.stderr, low=found.low, high=found.high)
