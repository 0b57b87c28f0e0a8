"""Pairs of models that are equally good, or of which one is worse by a known share, and what the gate says of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from mlipbench.core.measure import by_unit
from mlipbench.core.metric import MetricValue, Samples
from mlipbench.core.model import Float
from mlipbench.core.result import Measured, Result
from mlipbench.core.suite import Suite
from mlipbench.physics.statistics import SUMS, reduce_rows
from mlipbench.physics.survival import clopper_pearson
from mlipbench.power.alike import values_of
from mlipbench.report.baseline import Baseline, accepted
from mlipbench.report.board import assemble
from mlipbench.report.gate import Verdicts, gate

Key: TypeAlias = tuple[str, str]  # row and metric
# What residuals are multiplied by, with mean 0 and variance 1.
LAWS: Final[Mapping[str, Callable[[np.random.Generator], float]]] = {
    "signs": lambda rng: float(rng.choice([-1.0, 1.0])),
    "heavy tails": lambda rng: float(rng.standard_t(3)) / math.sqrt(3.0),
    "skew": lambda rng: float(rng.exponential()) - 1.0,
}
Logarithms: TypeAlias = Mapping[Key, Mapping[str, float]]  # by unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How often something happened, with Clopper and Pearson's 95 % interval."""

    hits: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends."""
        return clopper_pearson(self.hits, self.trials)

    @property
    def words(self) -> str:
        """As it stands in a table."""
        low, high = self.interval
        return f"{100 * self.hits / self.trials:.2f} % ({100 * low:.2f}–{100 * high:.2f})"


def judged(candidate: Sequence[Result], accepted_model: Sequence[Result], suite: Suite, **how: object) -> Verdicts:
    """Hold one model against another with the gate itself."""
    board = assemble(list(accepted_model), suite)
    rows = {line.name: accepted(board.cell("candidate", line.name), line) for line in board.lines}
    baseline = Baseline(suite=suite.name, suite_version=suite.version, models={"candidate": rows})
    return gate(list(candidate), suite, "candidate", baseline, **how)  # type: ignore[arg-type]


def stopped(found: Verdicts) -> list[Key]:
    """Return what a comparison calls worse than the baseline."""
    return [(one.row, one.metric) for one in found.verdicts if one.status == "worse" and one.test == "baseline"]


def over_models(hits: Float, *, n_draws: int = 2000) -> tuple[float, float, float]:
    """Return the share of ordered pairs that were stopped, and its 95 % interval.

    Pairs share models, so that one odd model makes many alarms; models are resampled, not pairs. A model drawn twice
    makes no pair with itself. Where nothing was stopped, or everything, the interval is that of as many independent
    pairs as there are without a model in common.

    Args:
        hits: 1 where the model of the row was stopped against that of the column, shape (n_models, n_models).
        n_draws: resamples.

    >>> over_models(np.zeros((4, 4)))[:2]
    (0.0, 0.0)
    """
    n = len(hits)
    apart = 1.0 - np.eye(n)
    share = float(hits[apart > 0.0].mean())
    if share in (0.0, 1.0):
        return share, *clopper_pearson(round(share) * (n // 2), n // 2)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1.0 / n), size=n_draws).astype(np.float64)
    pairs = np.einsum("bi,ik,bk->b", drawn, apart, drawn)
    rates = np.einsum("bi,ik,bk->b", drawn, hits, drawn)[pairs > 0.0] / pairs[pairs > 0.0]
    low, high = np.quantile(rates, (0.025, 0.975))
    return share, float(low), float(high)


def logarithms(results: Sequence[Result]) -> dict[Key, dict[str, float]]:
    """Return the logarithm of the error of each unit, by row and metric, for all merits made of sums over units."""
    out: dict[Key, dict[str, float]] = {}
    for result in results:
        roles = {metric.name: metric.role for metric in result.metrics}
        for name, value in values_of(result).items():
            samples = value.samples
            if roles[name] != "merit" or samples is None or samples.reducer not in SUMS or len(samples.units) < 2:
                continue
            own = by_unit(samples)
            if (own > 0.0).all():
                out[result.row, name] = dict(zip(samples.units, np.log(own).tolist(), strict=True))
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """By how much errors of units differ between two models of one recipe, apart from what they differ by on average.

    Attributes:
        domains: what tells units of one name apart, by row.
        residuals: one mapping per pair of models, from row and metric to the residuals of units.
    """

    domains: Mapping[str, str]
    residuals: Sequence[Logarithms]

    @classmethod
    def of(cls, models: Sequence[Sequence[Result]]) -> Scatter:
        """Take the scatter between models that are neighbours in the list, each used once."""
        told = [logarithms(model) for model in models]
        pairs = list(zip(told[::2], told[1::2], strict=False))
        domains = {result.row: f"{result.data_sha256}/{result.split}" for result in models[0]}
        return cls(domains=domains, residuals=[_residuals(first, second) for first, second in pairs])

    def drawn(self, rng: np.random.Generator, law: str = "signs") -> dict[Key, dict[str, float]]:
        """Return residuals of one pair, each unit's times a random factor, the same in all that is made of it.

        Factors of mean zero make the mean difference zero, and keep how residuals of one unit go together. Signs keep
        how heavy the tails are; the other laws make them heavier than any that was seen, or skew.

        Args:
            rng: source of chance.
            law: a key of `LAWS`.
        """
        signs: dict[tuple[str, str], float] = {}
        out: dict[Key, dict[str, float]] = {}
        chosen = self.residuals[int(rng.integers(len(self.residuals)))]
        for key, residuals in chosen.items():
            domain = self.domains[key[0]]
            for unit in residuals:
                if (domain, unit) not in signs:
                    signs[domain, unit] = LAWS[law](rng)
            out[key] = {unit: signs[domain, unit] * residual for unit, residual in residuals.items()}
        return out


def _residuals(
    first: Mapping[Key, Mapping[str, float]], second: Mapping[Key, Mapping[str, float]]
) -> dict[Key, dict[str, float]]:
    """Return log ratios less their mean, scaled up for the degree of freedom that the mean took."""
    out = {}
    for key, own in first.items():
        difference = np.array([own[unit] - second[key][unit] for unit in own])
        centred = (difference - difference.mean()) * np.sqrt(len(own) / (len(own) - 1))
        out[key] = dict(zip(own, centred.tolist(), strict=True))
    return out


def moved(results: Sequence[Result], scatter: Logarithms, worse: Callable[[Key], float]) -> list[Result]:
    """Return a model whose errors differ from another's by scatter, and by known shares.

    Args:
        results: of the other model.
        scatter: logarithms, by row, metric and unit.
        worse: share by which a number is worse, by row and metric.
    """
    out = []
    for result in results:
        values = []
        for name, value in values_of(result).items():
            key = (result.row, name)
            values.append(_moved(value, scatter[key], worse(key)) if key in scatter else value)
        out.append(replace(result, outcome=Measured(values=tuple(values))))
    return out


def _moved(value: MetricValue, scatter: Mapping[str, float], worse: float) -> MetricValue:
    """Scale the errors of each unit."""
    samples = value.samples
    if samples is None:
        return value
    factor = (1.0 + worse) * np.exp([scatter[unit] for unit in samples.units])
    rows = samples.rows.copy()
    rows[:, 0] *= factor if samples.reducer == "mean" else factor**2
    return _again(value, replace(samples, rows=rows), rows)


def _again(value: MetricValue, samples: Samples, rows: Float) -> MetricValue:
    """Return a value made of other rows."""
    return replace(value, value=reduce_rows(rows, samples.reducer), samples=samples)
