"""Which ridge do the data themselves make most probable?

With prior c ~ N(0, s² / ridge) and noise N(0, s²), and s² at its best value Q / N,
-2 log evidence = log det(XᵀX + ridge) - n log ridge + N log(Q / N) + constant, Q = min |y - X c|² + ridge |c|².
One orthogonal reduction to a narrow band serves all ridges; after it, each costs milliseconds and stays a least squares
problem, so that nothing is ever squared.

Source: MacKay, Neural Comput. 4, 415 (1992); Eldén, BIT 17, 134 (1977) for the reduction.
"""

from __future__ import annotations

from math import inf, log, sqrt
from typing import NamedTuple

import numpy as np
from scipy.linalg.blas import dgemm, dtrmm
from scipy.linalg.lapack import dgeqrf
from scipy.optimize import minimize_scalar

from mlipbench.ace.triangle import compact
from mlipbench.core.model import Float

_WIDTH = 64  # of the band: the reduction is fastest from 64 on, the solutions up to 64
# Decades of the ridge over the sum of squares of the columns: range, and where the search starts. Below 1e-32 the
# singular values of a triangle in double precision are round-off.
_DECADES = (-32, 2)
_START = -10
_FINENESS = 0.01  # of the best exponent
_FLAT = 0.01  # a difference of -2 log evidence that means nothing
# Noise below this share of the labels is round-off of the labels and of the rows. Without it, labels without noise
# would have their best ridge at zero.
_ROUND_OFF = 1e-14


class Band(NamedTuple):
    """A block bidiagonal matrix: blocks on the diagonal, blocks to their right, and the labels rotated alike."""

    diagonal: list[Float]
    above: list[Float]
    labels: Float


class Reflections(NamedTuple):
    """I - V T Vᵀ: shapes (n, k) and (k, k)."""

    vectors: Float
    triangle: Float


def best_ridge(matrix: Float, labels: Float, left: float, n_rows: int) -> float:
    """Return the ridge with the largest evidence, from 1e-32 to 100.

    All decades are searched in which it can be: towards smaller ridges log det grows and Q stays above what no
    coefficients explain, towards larger ones Q grows, and either bounds all that lies beyond. Where the evidence is
    flat, the ridge stays near 1e-10.

    Args:
        matrix: shape (n_columns, n_columns), triangle of the rows, sum of its squares 1.
        labels: shape (n_columns,), the rotated labels.
        left: norm of the labels that no coefficients explain; with `labels`, sum of squares 1.
        n_rows: number of rows.
    """
    band = banded(matrix, labels)
    least = left**2 + _ROUND_OFF**2

    def parts(exponent: float) -> tuple[float, float]:
        spread, cost = at_ridge(band, 10.0**exponent)
        return spread, n_rows * log((cost + least) / n_rows)

    best, where = inf, _START
    for end, step in ((_DECADES[0], -1), (_DECADES[1], 1)):
        for exponent in range(_START, end + step, step):
            spread, misfit = parts(exponent)
            if spread + misfit < best - _FLAT:
                best, where = spread + misfit, exponent
            if (spread + n_rows * log(least / n_rows) if step < 0 else misfit) >= best:
                break
    found = minimize_scalar(
        lambda x: sum(parts(x)), bounds=(where - 1, where + 1), method="bounded", options={"xatol": _FINENESS}
    )
    return float(10.0 ** (found.x if found.fun < best else where))


def banded(matrix: Float, labels: Float) -> Band:
    """Return an upper block bidiagonal matrix with the singular values of a square one, and the labels rotated with it.

    Reflections from the left empty a block of columns below its diagonal, those from the right a block of rows beyond
    the next one; both act on what is left at once, as one product of matrices.
    """
    rest, turned = np.asfortranarray(matrix), labels.copy()
    # Fresh memory for each step would cost as much as the copying itself.
    memory, spare = np.empty(matrix.size), np.empty(matrix.size)
    diagonal, above = [], []
    for first in range(0, len(labels), _WIDTH):
        width = min(_WIDTH, rest.shape[1])
        left, block = _reflections(rest[:, :width])
        diagonal.append(block)
        turned[first:] -= left.vectors @ (left.triangle.T @ (left.vectors.T @ turned[first:]))
        rest = rest[:, width:]
        if not rest.shape[1]:
            break
        lift = dtrmm(1.0, left.triangle, dgemm(1.0, left.vectors, rest, trans_a=1), trans_a=1)
        right, block = _reflections((rest[:width] - left.vectors[:width] @ lift).T)
        above.append(block.T)
        turn = (dgemm(1.0, rest, right.vectors) - left.vectors @ (lift @ right.vectors)) @ right.triangle
        kept = memory[: rest[width:].size].reshape(rest[width:].shape, order="F")
        kept[:] = rest[width:]
        lefts, rights = np.hstack([left.vectors, turn])[width:], np.hstack([lift.T, right.vectors])
        rest = dgemm(-1.0, lefts, rights, beta=1.0, c=kept, trans_b=1, overwrite_c=1)
        memory, spare = spare, memory
    return Band(diagonal, above, turned)


def _reflections(panel: Float) -> tuple[Reflections, Float]:
    """Return reflections that make a panel an upper triangle, and that triangle, shape (min(n, k), k) of (n, k)."""
    packed, scales, *_ = dgeqrf(panel, lwork=32 * panel.shape[1])
    depth = len(scales)
    vectors = np.tril(packed[:, :depth], -1)
    vectors[np.diag_indices(depth)] = 1.0
    vectors[:, scales == 0.0] = 0.0
    return Reflections(np.asfortranarray(vectors), compact(vectors, scales)), np.triu(packed[:depth])


def at_ridge(band: Band, ridge: float) -> tuple[float, float]:
    """Return log det(BᵀB / ridge + 1) and min |z - B c|² + ridge |c|² of a band B and its labels z.

    Block after block, the rows of B, of the prior and of what the block before left over become a triangle.

    B = 1, z = 2 and a ridge of 1: the best c is 1.

    >>> determinant, cost = at_ridge(Band([np.eye(1)], [], np.array([2.0])), 1.0)
    >>> round(determinant - log(2.0), 12), round(cost, 12)
    (0.0, 2.0)
    """
    determinant, cost, first = 0.0, 0.0, 0
    carried = np.zeros((0, band.diagonal[0].shape[1] + 1))
    for block, above in zip(band.diagonal, [*band.above, np.zeros((len(band.diagonal[-1]), 0))], strict=True):
        width, wide = len(block), len(block) + above.shape[1]
        rows = np.zeros((2 * width + len(carried), wide + 1), order="F")
        rows[:width, :width], rows[:width, width:wide], rows[:width, wide] = (
            block, above, band.labels[first : first + width],
        )  # fmt: skip
        rows[width : 2 * width, :width][np.diag_indices(width)] = sqrt(ridge)
        rows[2 * width :, :width], rows[2 * width :, wide] = carried[:, :-1], carried[:, -1]
        found = np.triu(dgeqrf(rows, lwork=32 * (wide + 1), overwrite_a=1)[0][: wide + 1])
        determinant += 2.0 * float(np.log(np.abs(found.diagonal()[:width])).sum()) - width * log(ridge)
        carried = found[width:wide, width:]
        cost += float(np.square(found[wide:, wide]).sum())
        first += width
    return determinant, cost
