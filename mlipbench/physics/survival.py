"""How long do trajectories last, and how sure is that when none or all have failed?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mlipbench.errors import BadInput
from mlipbench.physics.cells import Bool, Float
from mlipbench.physics.statistics import CONFIDENCE, clopper_pearson, poisson_rate

__all__ = ["Survival", "clopper_pearson", "kaplan_meier", "poisson_rate"]


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
