"""How long do trajectories last, and how sure is that when none or all have failed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlipbench.physics.cells import Bool, Float
from mlipbench.physics.statistics import CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Kaplan and Meier's curve, a staircase.

    Attributes:
        time: shape (n_steps,), from 0; the share holds from there on.
        share: shape (n_steps,), still alive.
        low: lower end of its 95 % interval; it degenerates where none or all have failed.
        high: upper end.
    """

    time: Float
    share: Float
    low: Float
    high: Float


def kaplan_meier(ended: Float, failed: Bool, *, confidence: float = CONFIDENCE) -> Survival:
    """Return the survival curve of trajectories that failed or were still well when they ended.

    Args:
        ended: shape (n,), time of each one's end.
        failed: shape (n,), did it fail then?
        confidence: of the interval.

    Source: E. L. Kaplan & P. Meier, J. Am. Stat. Assoc. 53, 457 (1958), as in `scipy.stats.ecdf`.

    >>> curve = kaplan_meier(np.array([1.0, 2.0, 3.0, 3.0]), np.array([True, True, False, False]))
    >>> curve.time.tolist(), curve.share.tolist()
    ([0.0, 1.0, 2.0, 3.0], [1.0, 0.75, 0.5, 0.5])
    """
    sample = stats.CensoredData(uncensored=ended[failed], right=ended[~failed])
    curve = stats.ecdf(sample).sf
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = curve.confidence_interval(confidence)
    low, high = (np.nan_to_num(one.probabilities, nan=share) for one, share in zip(
        (interval.low, interval.high), (curve.probabilities, curve.probabilities), strict=True
    ))  # fmt: skip
    return Survival(
        time=np.concatenate([[0.0], curve.quantiles]),
        share=np.concatenate([[1.0], curve.probabilities]),
        low=np.concatenate([[1.0], low]),
        high=np.concatenate([[1.0], high]),
    )


def clopper_pearson(successes: int, n: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact interval of a share.

    Source: C. J. Clopper & E. S. Pearson, Biometrika 26, 404 (1934).

    None of ten failed: a failure rate of up to 31 % is not excluded.

    >>> [round(x, 3) for x in clopper_pearson(10, 10)]
    [0.692, 1.0]
    """
    tail = 0.5 * (1.0 - confidence)
    low = float(stats.beta.ppf(tail, successes, n - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1.0 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return low, high


def poisson_rate(failures: int, total_time: float, *, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return failures per time with its exact interval.

    Source: F. Garwood, Biometrika 28, 437 (1936).

    No failure in 100 ps: up to 0.037 per ps are not excluded.

    >>> [round(x, 4) for x in poisson_rate(0, 100.0)]
    [0.0, 0.0, 0.0369]
    """
    tail = 0.5 * (1.0 - confidence)
    low = 0.5 * float(stats.chi2.ppf(tail, 2 * failures)) if failures else 0.0
    high = 0.5 * float(stats.chi2.ppf(1.0 - tail, 2 * failures + 2))
    return failures / total_time, low / total_time, high / total_time
