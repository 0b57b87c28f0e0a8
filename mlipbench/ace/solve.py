"""A triangle of weighted rows becomes the most probable coefficients.

# paper      code          meaning
# X, y       rows, labels  weighted rows, and what they should give
# U          factor        UᵀU = XᵀX + ridge · diag(precision)
# s          sigma         standard deviation of a row's noise
# n, N       n_columns, n_rows
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.linalg.blas import dnrm2
from scipy.linalg.lapack import dtrtri, dtrtrs

from mlipbench.ace.evidence import best_ridge
from mlipbench.ace.triangle import Triangle, with_trapezoid
from mlipbench.core.model import Float
from mlipbench.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ridge:
    """The most probable coefficients, and how sure the data are.

    Labels are taken as y = X c + noise, with noise N(0, sigma²) of each weighted row, and the prior of the coefficients
    as c ~ N(0, sigma² / (ridge · precision)); given the labels, c ~ N(coefficients, sigma² (UᵀU)⁻¹), U the factor.

    Attributes:
        coefficients: shape (n_columns,).
        ridge: prior precision over noise precision.
        sigma: noise of a weighted row.
        effective_parameters: how many coefficients the data decide.
        factor: shape (n_columns, n_columns), upper triangle U of UᵀU = XᵀX + ridge · diag(precision); its diagonal is
            positive.
    """

    coefficients: Float
    ridge: float
    sigma: float
    effective_parameters: float
    factor: Float


def solve(triangle: Triangle, precision: Float, *, ridge: float | None = None) -> Ridge:
    """Return the most probable coefficients, at the ridge that has the largest evidence unless one is given.

    The noise is integrated to its best value, sigma² = Q / N, where Q = min |y - X c|² + ridge · Σ precision · c² is
    what the coefficients leave and cost.

    Args:
        triangle: of the weighted rows; it is kept.
        precision: shape (n_columns,), relative prior precision of each coefficient, positive.
        ridge: prior precision over noise precision, positive; None for the most probable.

    Raises:
        BadInput: there are no rows, a number is not finite or not positive, or the rows are so large or so small that
            a result would not be finite.

    One row c with label 2, at a ridge of 1: half way to zero.

    >>> from mlipbench.ace.triangle import triangle_of
    >>> solve(triangle_of(np.array([[1.0]]), np.array([2.0])), np.ones(1), ridge=1.0).coefficients
    array([1.])
    """
    _refuse_bad(triangle, precision, ridge)
    return _at(triangle, precision, _best_root(triangle, precision) if ridge is None else sqrt(ridge))


def _refuse_bad(triangle: Triangle, precision: Float, ridge: float | None) -> None:
    if not triangle.n_rows:
        raise BadInput("the ACE fit has no rows: give it labelled frames")
    if not np.isfinite(triangle.matrix).all():
        raise BadInput("the ACE fit met a label or a position that is not finite, or weights that are too large")
    if precision.shape != (triangle.n_columns,) or not (np.isfinite(precision) & (precision > 0)).all():
        raise BadInput(f"the ACE fit needs {triangle.n_columns} prior precisions, all of them finite and above 0")
    if ridge is not None and not 0.0 < ridge < np.inf:
        raise BadInput(f"the ACE fit was given a ridge of {ridge}; it must be finite and above 0")


def _best_root(triangle: Triangle, precision: Float) -> float:
    """Return the root of the most probable ridge, which is itself too small for a number when the rows are tiny."""
    count = triangle.n_columns
    scaled = triangle.matrix[:count, :count] / np.sqrt(precision)
    size, reach = _norm(scaled), _norm(triangle.matrix[:, count])
    if size == 0.0 or reach == 0.0:
        return size or 1.0
    scaled /= size
    labels = triangle.matrix[:, count] / reach
    return size * sqrt(best_ridge(scaled, labels[:count], float(labels[count]), triangle.n_rows))


def _norm(values: Float) -> float:
    """Return the root of the sum of squares, though the squares may be too small or too large for numbers."""
    return float(dnrm2(values.ravel(order="K")))


def _at(triangle: Triangle, precision: Float, root: float) -> Ridge:
    """Return the solution at a ridge of root², with the prior as more rows of the same least squares."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        found = _unchecked(triangle, root * np.sqrt(precision), root)
    numbers = (found.ridge, found.sigma, found.effective_parameters)
    if not (np.isfinite(numbers).all() and np.isfinite(found.coefficients).all() and np.isfinite(found.factor).all()):
        raise BadInput(
            "the ACE fit ends in numbers that are not finite, since its weighted rows come to "
            f"{np.abs(triangle.matrix).max():.1e}; give weights of energies, forces and stresses nearer to 1"
        )
    return found


def _unchecked(triangle: Triangle, weights: Float, root: float) -> Ridge:
    """Return the solution, some of whose numbers may not be finite; `weights` are those of the prior rows."""
    count = triangle.n_columns
    whole = with_trapezoid(triangle.matrix.copy(order="F"), _prior_rows(weights))
    whole[:count] *= np.where(whole.diagonal()[:count] < 0, -1.0, 1.0)[:, None]
    factor = whole[:count, :count].copy(order="F")
    inverse = dtrtri(factor)[0]
    undecided = float(np.square(weights) @ np.einsum("ij,ij->i", inverse, inverse))
    return Ridge(
        coefficients=dtrtrs(factor, whole[:count, count])[0],
        ridge=root * root,
        sigma=abs(float(whole[count, count])) / sqrt(triangle.n_rows),
        effective_parameters=float(np.clip(count - undecided, 0.0, count)),
        factor=factor,
    )


def _prior_rows(weights: Float) -> Float:
    """Return rows that pull each coefficient to zero, shape (n_columns, n_columns + 1), Fortran order."""
    rows = np.zeros((len(weights), len(weights) + 1), order="F")
    rows[np.diag_indices(len(weights))] = weights
    return rows
