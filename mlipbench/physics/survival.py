"""How long do trajectories last, and how sure is that when none or all have failed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Bool, Float
from mlipbench.physics.statistics import CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """Kaplan and Meier's curve, a staircase.

    Attributes:
        time: shape (n_steps,), from 0; the share holds from there on.
        share: shape (n_steps,), still alive.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    time: Float
    share: Float
    low: Float
    high: Float


def kaplan_meier(ended: Float, failed: Bool, *, confidence: float = CONFIDENCE) -> Survival:
    """Return the survival curve of trajectories that failed or were still well when they ended.

    The interval is Greenwood's in log(-log S), which stays between 0 and 1. Where it does not exist, before the first
    failure, it is that of Clopper and Pearson for as many as were seen to last so long; and after the last one, when
    none is left, its upper end stays where it was, as survival never rises.

    Args:
        ended: shape (n,), time of each one's end.
        failed: shape (n,), did it fail then?
        confidence: of the interval.

    Raises:
        BadInput: there is no trajectory.

    Source: E. L. Kaplan & P. Meier, J. Am. Stat. Assoc. 53, 457 (1958), as in `scipy.stats.ecdf`; J. D. Kalbfleisch &
    R. L. Prentice, The Statistical Analysis of Failure Time Data (2002), section 1.4, for the interval.

    >>> curve = kaplan_meier(np.array([1.0, 2.0, 3.0, 3.0]), np.array([True, True, False, False]))
    >>> curve.time.tolist(), curve.share.tolist()
    ([0.0, 1.0, 2.0, 3.0], [1.0, 0.75, 0.5, 0.5])
    """
    if not len(ended):
        raise BadInput("a survival curve needs a trajectory")
    sample = stats.CensoredData(uncensored=ended[failed], right=ended[~failed])
    curve = stats.ecdf(sample).sf
    time = np.concatenate([[0.0], curve.quantiles])
    share = np.concatenate([[1.0], curve.probabilities])
    n_at_risk = np.array([(ended >= one).sum() for one in curve.quantiles])
    n_failed = np.array([(failed & (ended == one)).sum() for one in curve.quantiles])
    low, high = np.ones(len(time)), np.ones(len(time))  # at time 0 all are well
    z, greenwood = float(stats.norm.ppf(0.5 + 0.5 * confidence)), 0.0
    for k, (risk, lost) in enumerate(zip(n_at_risk.tolist(), n_failed.tolist(), strict=True), start=1):
        if share[k] >= 1.0:
            low[k] = clopper_pearson(risk, risk, confidence=confidence)[0]
        elif share[k] <= 0.0:
            low[k], high[k] = 0.0, high[k - 1]
        else:
            greenwood += lost / (risk * (risk - lost))
            width = z * np.sqrt(greenwood) / abs(np.log(share[k]))
            low[k], high[k] = share[k] ** np.exp(width), share[k] ** np.exp(-width)
    return Survival(time=time, share=share, low=low, high=high)


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

    Raises:
        BadInput: the time is not positive.

    Source: F. Garwood, Biometrika 28, 437 (1936).

    No failure in 100 ps: up to 0.037 per ps are not excluded.

    >>> [round(x, 4) for x in poisson_rate(0, 100.0)]
    [0.0, 0.0, 0.0369]
    """
    if not total_time > 0.0:
        raise BadInput(f"a rate needs a time above 0 to have happened in, not {total_time}")
    tail = 0.5 * (1.0 - confidence)
    low = 0.5 * float(stats.chi2.ppf(tail, 2 * failures)) if failures else 0.0
    high = 0.5 * float(stats.chi2.ppf(1.0 - tail, 2 * failures + 2))
    return failures / total_time, low / total_time, high / total_time
