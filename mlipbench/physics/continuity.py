"""Where does a function break, and by how much?

A jump, of a function or of its slope, stays as the bracket around it shrinks; what is only steep vanishes with it. So
each place where evenly spaced samples look odd is bracketed, the bracket is narrowed down to some 1e-5 of its width,
and at several widths W on the way parabolas are fitted to six points on either side, W apart. The difference of the two
parabolas at the middle is the jump of the function, that of their slopes the jump of its slope. The jump of its
curvature is that of two cubics, as the curvature of a parabola belongs to the middle of its points.

Functions may have vectors as values, such as the forces on all atoms; the size of a value is the length of its
longest vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Float: TypeAlias = NDArray[np.float64]
Int: TypeAlias = NDArray[np.int64]
Signals: TypeAlias = Sequence[Float]  # what a curve is at one place: each of shape (n_vectors, n_components)
Ask: TypeAlias = Callable[[Sequence[int], Sequence[float]], Sequence[Signals]]  # numbers of curves, places on them

ORDER: Final = 6  # of the differences of samples that tell a break from what is smooth
WINDOW: Final = 12  # samples to either side that say what is usual around one
N_PARTS: Final = 12  # of a bracket; four of them are the next one, as fourth differences see a break two parts away
N_ROUNDS: Final = 10
MEASURED_AFTER: Final = (4, 6, 8, 10)  # rounds
N_FITTED: Final = 6  # points on either side
_PLACES: Final = np.arange(N_FITTED) + 0.5
_POWERS: Final = np.vander(_PLACES, 3, increasing=True)
_FIT: Final = np.linalg.pinv(_POWERS)
_CURVATURE: Final = 2.0 * np.linalg.pinv(np.vander(_PLACES, 4, increasing=True))[2]
# How much larger than the scatter of single values that of a jump is: of the function, of its slope times W, and of its
# curvature times W².
VALUE_SCATTER: Final = float(np.sqrt(2.0) * np.linalg.norm(_FIT[0]))
SLOPE_SCATTER: Final = float(np.sqrt(2.0) * np.linalg.norm(_FIT[1]))
CURVATURE_SCATTER: Final = float(np.sqrt(2.0) * np.linalg.norm(_CURVATURE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A bracket that may hold a break.

    Attributes:
        curve: number of the curve.
        signal: which of the curve's signals looks odd.
        low: lower end.
        width: of the bracket.
    """

    curve: int
    signal: int
    low: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaks:
    """What was found in some brackets.

    Attributes:
        place: shape (n,), middle of each narrowest bracket.
        width: shape (n, n_scales), of the brackets that jumps were measured on, the widest first.
        value_jump: shape (n, n_signals, n_scales), size of each signal's jump.
        slope_jump: shape (n, n_signals, n_scales), size of the jump of each signal's slope.
        curvature_jump: shape (n, n_signals, n_scales), size of the jump of each signal's second derivative.
        scatter: shape (n, n_signals), one standard deviation of single values about a parabola, at the least width.
    """

    place: Float
    width: Float
    value_jump: Float
    slope_jump: Float
    curvature_jump: Float
    scatter: Float


def size(values: Float) -> Float:
    """Return the length of the longest vector of each value.

    Args:
        values: shape (..., n_vectors, n_components).

    >>> size(np.array([[3.0, 4.0], [0.0, 1.0]])).item()
    5.0
    """
    return np.asarray(np.linalg.norm(values, axis=-1).max(axis=-1))


def suspects(samples: Float, n: int) -> Int:
    """Return the numbers of samples around which a break is most likely.

    Sixth differences are taken, to which a jump adds ten times its size, while of what is smooth little is left. The
    largest is one suspect; the others are those that stand out most against the median of their neighbourhood.

    Args:
        samples: shape (n_samples, n_vectors, n_components), evenly spaced; at least seven.
        n: how many; fewer are returned when there is no room for them.

    Returns:
        Ascending; a break lies within three samples of its number.

    A jump between samples 30 and 31 of a parabola:

    >>> x = np.arange(60.0)
    >>> bool(abs(suspects((x**2 + 5.0 * (x > 30))[:, None, None], 1)[0] - 30.5) < 1.0)
    True
    """
    odd = size(np.diff(samples, n=ORDER, axis=0))
    around = np.abs(np.arange(2 * WINDOW + 1) - WINDOW) > ORDER - 1
    padded = np.pad(odd, WINDOW, mode="reflect" if len(odd) > WINDOW else "edge")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * WINDOW + 1)[:, around], axis=1)
    # Sixth differences of numbers without any scatter but that of their last digit.
    least = 32.0 * np.finfo(float).eps * float(np.abs(samples).max())
    found: list[int] = []
    for score in (odd, *[odd / (usual + least + np.finfo(float).tiny)] * (n - 1)):
        free = np.ones(len(odd), dtype=bool)
        for centre in found:
            free[max(0, centre - ORDER) : centre + ORDER + 1] = False
        if free.any():
            found.append(int(np.argmax(np.where(free, score, -1.0))))
    return np.sort(np.array(found[:n], dtype=np.int64)) + ORDER // 2


def bracket(curve: int, signal: int, places: Float, sample: int) -> Suspect:
    """Return the bracket around a suspect sample of a curve sampled at these evenly spaced places."""
    reach = ORDER // 2 * float(places[1] - places[0])
    return Suspect(curve=curve, signal=signal, low=float(places[sample]) - reach, width=2 * reach)


def narrow(ask: Ask, suspected: Sequence[Suspect]) -> Breaks:
    """Narrow all brackets together, and measure what is left of their breaks on the way.

    Args:
        ask: called with numbers of curves and places on them, few times with many of each.
        suspected: at least one bracket.
    """
    low = np.array([one.low for one in suspected])
    width = np.array([one.width for one in suspected])
    parts = np.linspace(0.0, 1.0, N_PARTS + 1)
    answers = _asked(ask, suspected, low[:, None] + parts * width[:, None])
    measured: list[tuple[Float, Float, Float, Float]] = []
    widths: list[Float] = []
    for done in range(1, N_ROUNDS + 1):
        first = np.array([_odd_part(told, one.signal) for told, one in zip(answers, suspected, strict=True)])
        low, width = low + first / N_PARTS * width, width / 3.0
        new = np.array([k for k in range(N_PARTS + 1) if k % 3])
        told = _asked(ask, suspected, low[:, None] + new / N_PARTS * width[:, None])
        for k, (old, fresh) in enumerate(zip(answers, told, strict=True)):
            kept, coming = iter(old[first[k] : first[k] + N_PARTS // 3 + 1]), iter(fresh)
            answers[k] = [next(coming) if i % 3 else next(kept) for i in range(N_PARTS + 1)]
        if done in MEASURED_AFTER:
            ends = [(told[0], told[-1]) for told in answers]
            measured.append(_measured(ask, suspected, low + width / 2.0, width, ends))
            widths.append(width)
    return Breaks(
        place=low + width / 2.0,
        width=np.stack(widths, axis=-1),
        value_jump=np.stack([value for value, *_ in measured], axis=-1),
        slope_jump=np.stack([slope for _, slope, *_ in measured], axis=-1),
        curvature_jump=np.stack([curvature for _, _, curvature, _ in measured], axis=-1),
        scatter=measured[-1][-1],
    )


def _asked(ask: Ask, suspected: Sequence[Suspect], places: Float) -> list[list[Signals]]:
    """Return what the curve of each bracket is at its places, shape (n_brackets, n_places)."""
    n = places.shape[1]
    told = ask(np.repeat([one.curve for one in suspected], n).tolist(), places.ravel().tolist())
    return [list(told[k * n : (k + 1) * n]) for k in range(len(suspected))]


def _odd_part(told: Sequence[Signals], signal: int) -> int:
    """Return where in its thirteen samples the next bracket of a curve begins."""
    return int(np.argmax(size(np.diff(np.array([one[signal] for one in told]), n=N_PARTS // 3, axis=0))))


def _measured(
    ask: Ask, suspected: Sequence[Suspect], middle: Float, width: Float, ends: Sequence[tuple[Signals, Signals]]
) -> tuple[Float, Float, Float, Float]:
    """Return jumps of values, slopes and curvatures, and the scatter, each of shape (n_brackets, n_signals)."""
    outward = width[:, None] * _PLACES[1:]
    told = _asked(ask, suspected, np.hstack([middle[:, None] - outward, middle[:, None] + outward]))
    found = []
    for k, ((first, last), answers) in enumerate(zip(ends, told, strict=True)):
        left, right = (first, *answers[: N_FITTED - 1]), (last, *answers[N_FITTED - 1 :])
        signals = range(len(first))
        found.append([_jumps([one[s] for one in left], [one[s] for one in right], width[k]) for s in signals])
    value, slope, curvature, scatter = np.moveaxis(np.array(found), -1, 0)
    return value, slope, curvature, scatter


def _jumps(left: Sequence[Float], right: Sequence[Float], width: float) -> tuple[float, float, float, float]:
    """Fit a parabola to either side, points counted from the middle; return the three jumps and the scatter."""
    base = right[0]
    sides = [np.array([one - base for one in side]) for side in (left, right)]
    fits = [np.tensordot(_FIT, side, axes=1) for side in sides]
    rest = [side - np.tensordot(_POWERS, fit, axes=1) for side, fit in zip(sides, fits, strict=True)]
    curvatures = [np.tensordot(_CURVATURE, side, axes=1) for side in sides]
    n_free = 2 * (N_FITTED - 3)
    scatter = np.sqrt(np.sum([(one**2).sum(axis=0) for one in rest], axis=0) / n_free)
    # To the left, places are counted outward too, so its slope has the other sign.
    return (
        float(size(fits[1][0] - fits[0][0])),
        float(size(fits[1][1] + fits[0][1]) / width),
        float(size(curvatures[1] - curvatures[0]) / width**2),
        float(size(scatter)),
    )


def settled(jump: Float, floor: Float) -> tuple[Float, Float]:
    """Return what is known of jumps measured at several widths.

    Each width gives a bound, the jump there plus its floor. That of something smooth falls with the width until the
    floor, which rises, meets it; that of a true jump stays. So the narrowest width counts, unless a wider one bounds
    the jump by less than half of that.

    Args:
        jump: shape (..., n_scales), the widest first.
        floor: shape (..., n_scales), what scatter alone may give.

    Returns:
        Jump and floor, each of shape (...).

    Smooth, and a true jump:

    >>> [x.tolist() for x in settled(np.array([[5.0, 0.5, 0.3], [6.9, 7.0, 7.1]]), np.array([0.01, 0.1, 1.0]))]
    [[0.5, 7.1], [0.1, 1.0]]
    """
    floor = np.broadcast_to(floor, jump.shape)
    best, best_floor = jump[..., -1], floor[..., -1]
    for scale in range(jump.shape[-1] - 2, -1, -1):
        tighter = jump[..., scale] + floor[..., scale] < 0.5 * (best + best_floor)
        best = np.where(tighter, jump[..., scale], best)
        best_floor = np.where(tighter, floor[..., scale], best_floor)
    return best, best_floor
