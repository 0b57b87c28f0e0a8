"""How sound is the shape of an energy curve along one coordinate?

Energies run from the compressed to the expanded end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]

NEAR = 3  # points to either side of the lowest, for the spline through it


def tortuosity(energy: Float) -> float:
    """Return how much an energy goes up and down, over how much it has to: 1 for a single well or a pure wall.

    Args:
        energy: shape (n_points,).

    Source: MLIP Arena, homonuclear diatomics.

    >>> tortuosity(np.array([3.0, 0.0, 1.0])), tortuosity(np.array([3.0, 0.0, 2.0, 1.0]))
    (1.0, 1.5)
    """
    way = np.abs(np.diff(energy)).sum()
    needed = abs(energy[-1] - energy.min()) + abs(energy[0] - energy.min())
    return float(way / needed) if needed > 0.0 else 1.0


def sign_changes(values: Float, *, threshold: float) -> int:
    """Return how often a quantity changes its sign, where absolute values below the threshold have none.

    >>> sign_changes(np.array([1.0, 0.001, -1.0, -0.5, 2.0]), threshold=0.01)
    2
    """
    signs = np.sign(np.where(np.abs(values) < threshold, 0.0, values))
    signs = signs[signs != 0.0]
    return int((signs[1:] != signs[:-1]).sum())


def energy_jump(energy: Float, *, threshold: float) -> float:
    """Return the sum of the steps to either side of every place where the energy turns round.

    Small for a fine grid over a smooth curve, and the size of the break for a broken one.

    Args:
        energy: shape (n_points,).
        threshold: smaller steps are none.

    Source: MLIP Arena, homonuclear diatomics.

    >>> energy_jump(np.array([2.0, 1.0, 4.0, 3.0]), threshold=0.001)
    8.0
    """
    step = np.diff(energy)
    step = np.where(np.abs(step) < threshold, 0.0, step)
    turns = np.sign(step[1:]) * np.sign(step[:-1]) < 0.0
    return float((np.abs(step[1:]) + np.abs(step[:-1]))[turns].sum())


def minima(energy: Float, *, prominence: float) -> Int:
    """Return the places of minima inside a curve that one has to climb out of by more than the prominence.

    >>> minima(np.array([3.0, 0.0, 1.0, 0.9, 2.0]), prominence=0.2).tolist()
    [1]
    """
    from scipy.signal import find_peaks

    places, _ = find_peaks(-energy, prominence=prominence)
    kept: list[int] = []
    for place in places.tolist():  # of two equally deep ones, each is prominent however low the barrier between them
        barrier = energy[kept[-1] : place + 1].max() if kept else np.inf
        if barrier - max(energy[kept[-1] if kept else place], energy[place]) > prominence:
            kept.append(place)
        elif energy[place] < energy[kept[-1]]:
            kept[-1] = place
    return np.array(kept, dtype=np.int64)


def largest_fall(energy: Float, *, prominence: float) -> float:
    """Return how far an energy falls again on the way in, once it has passed its outermost minimum.

    A wall that only rises has none; a hole in it shows its depth.

    Args:
        energy: shape (n_points,), from the compressed to the expanded end.
        prominence: a shallower minimum does not count as the outermost one.

    >>> largest_fall(np.array([9.0, 4.0, 0.0, 1.0]), prominence=0.1)
    0.0
    >>> largest_fall(np.array([-2.0, 4.0, 0.0, 1.0]), prominence=0.1)
    6.0
    """
    found = minima(energy, prominence=prominence)
    return fall_inward(energy, int(found[-1]) if len(found) else len(energy) - 1)


def fall_inward(energy: Float, start: int) -> float:
    """Return how far an energy falls below what it has reached, on the way in from a place.

    >>> fall_inward(np.array([1.0, 4.0, 0.0, 1.0]), 2)
    3.0
    """
    wall = energy[: start + 1][::-1]
    return float((np.maximum.accumulate(wall) - wall).max())


def rank_correlation(values: Float) -> float:
    """Return Spearman's correlation of values with their place: 1 when they only rise, -1 when they only fall.

    >>> rank_correlation(np.array([1.0, 2.0, 5.0])), rank_correlation(np.array([3.0, 2.0, 1.0]))
    (1.0, -1.0)
    """
    from scipy.stats import rankdata

    ranks, places = rankdata(values), np.arange(len(values), dtype=np.float64)
    ranks, places = ranks - ranks.mean(), places - places.mean()
    size = float(np.sqrt((ranks**2).sum() * (places**2).sum()))
    return float(round((ranks * places).sum() / size, 12)) if size > 0.0 else 0.0


def work_mismatch(energy: Float, pull: Float, step: float, *, least: float) -> Float:
    """Return by how much energy differences differ from minus the work of the force, panel by panel of two steps.

    The work is Simpson's rule; its error is of fourth order in the step. Panels in which neither reaches `least` say
    nothing, and are left out.

    Args:
        energy: shape (2 n + 1,), at evenly spaced places.
        pull: shape (2 n + 1,), force along the coordinate.
        step: between the places.
        least: smallest energy difference, or work, that is looked at.

    Returns:
        Shape (n_kept,), relative to the larger of the two.

    >>> x = np.linspace(0.0, 1.0, 5)
    >>> work_mismatch(x**3, -3 * x**2, 0.25, least=1e-3).round(12).tolist()
    [0.0, 0.0]
    """
    rise = energy[2::2] - energy[:-2:2]
    work = step / 3.0 * (pull[:-2:2] + 4.0 * pull[1:-1:2] + pull[2::2])
    size = np.maximum(np.abs(rise), np.abs(work))
    return np.asarray(np.abs(rise + work)[size >= least] / size[size >= least])


def spline_minimum(x: Float, y: Float) -> tuple[float, float, float] | None:
    """Return place, value and second derivative of the minimum, by the cubic spline through the points near the lowest.

    Args:
        x: shape (n,), ascending.
        y: shape (n,).

    Returns:
        None where the lowest point is at either end.

    >>> x = np.linspace(-1.0, 2.0, 7)
    >>> [round(float(v), 6) for v in spline_minimum(x, (x - 0.3) ** 2 + 1.0)]
    [0.3, 1.0, 2.0]
    """
    from scipy.interpolate import CubicSpline

    lowest = int(np.argmin(y))
    if lowest in (0, len(y) - 1):
        return None
    near = slice(max(lowest - NEAR, 0), lowest + NEAR + 1)  # a steep wall far away would bend the spline
    curve = CubicSpline(x[near], y[near])
    turns = curve.derivative().roots(extrapolate=False)
    turns = turns[(turns >= x[lowest - 1]) & (turns <= x[lowest + 1]) & (curve(turns, 2) > 0.0)]
    if not len(turns):
        return float(x[lowest]), float(y[lowest]), 0.0
    best = float(turns[np.argmin(curve(turns))])
    return best, float(curve(best)), float(curve(best, 2))


def lowest(x: Float, y: Float) -> tuple[float, float, float]:
    """Return what `spline_minimum` does, and where there is no minimum inside, the lowest end without curvature.

    >>> lowest(np.arange(3.0), np.array([1.0, 2.0, 3.0]))
    (0.0, 1.0, 0.0)
    """
    place = int(np.argmin(y))
    return spline_minimum(x, y) or (float(x[place]), float(y[place]), 0.0)


def crossing(x: Float, y: Float, level: float) -> float | None:
    """Return where a curve that comes down from its first point reaches a level, between two points linearly.

    >>> crossing(np.array([0.0, 1.0, 2.0]), np.array([4.0, 2.0, 0.0]), 3.0)
    0.5
    """
    below = np.flatnonzero(y <= level)
    if not len(below) or below[0] == 0:
        return None
    k = int(below[0])
    share = (y[k - 1] - level) / (y[k - 1] - y[k])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def roughness(x: Float, y: Float) -> Float:
    """Return what is left of each value when that expected from its four neighbours is taken off.

    The expected value is that of the cubic through the neighbours; it is 0 for the two values at either end.

    Args:
        x: shape (n,), ascending.
        y: shape (n,).

    >>> x = np.array([0.0, 1.0, 2.0, 4.0, 5.0])
    >>> roughness(x, x**3).round(9).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    from scipy.interpolate import KroghInterpolator

    left = np.zeros(len(y))
    for k in range(2, len(y) - 2):
        around = [k - 2, k - 1, k + 1, k + 2]
        left[k] = y[k] - float(KroghInterpolator(x[around], y[around])(x[k]))
    return left
