"""Weighted rows, however many, become one triangle: a QR factorisation that streams, and merges.

XᵀX is never formed, since it squares the condition number: rows go through Householder reflections as they come, and
what remains of [X y] is a triangle of its own width. Triangles of several workers merge into one.

Source: Demmel, Grigori, Hoemmen and Langou, SIAM J. Sci. Comput. 34, A206 (2012); Schreiber and Van Loan, SIAM J. Sci.
Stat. Comput. 10, 53 (1989) for the products of reflections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dgemm, dtrmm
from scipy.linalg.lapack import dtpqrt, dtrtri

from mlipbench.core.model import Float
from mlipbench.errors import BadInput

# Columns whose reflections act on the rest at once, and those done one by one inside: fastest for 1 400 to 3 500.
_PANEL = 256
_BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triangle:
    """What weighted rows [X y] come down to under rotations, which keep every sum of squares.

    Attributes:
        matrix: shape (n_columns + 1, n_columns + 1), Fortran order, upper triangle; below it stand zeros. The last
            column holds the rotated labels, and in its last place the norm of what no coefficients can explain.
        n_rows: rows that went in.
    """

    matrix: Float
    n_rows: int

    @property
    def n_columns(self) -> int:
        """Number of coefficients."""
        return len(self.matrix) - 1


def no_rows(n_columns: int) -> Triangle:
    """Return the triangle that no row went into."""
    return Triangle(matrix=np.zeros((n_columns + 1, n_columns + 1), order="F"), n_rows=0)


def triangle_of(rows: Float, labels: Float) -> Triangle:
    """Return the triangle of rows, shape (n_rows, n_columns), and their labels, shape (n_rows,); both are kept.

    Two rows 3 c and 4 c with labels 3 and 4 are as good as one row 5 c with label 5:

    >>> np.abs(triangle_of(np.array([[3.0], [4.0]]), np.array([3.0, 4.0])).matrix).round(12)
    array([[5., 5.],
           [0., 0.]])
    """
    return add_rows(no_rows(rows.shape[1]), np.asfortranarray(np.column_stack([rows, labels])))


def add_rows(triangle: Triangle, block: Float) -> Triangle:
    """Return the triangle with more rows; both arguments are used up, since their memory is taken.

    Args:
        triangle: of the rows so far.
        block: shape (n, n_columns + 1), Fortran order, the labels in the last column.

    Raises:
        BadInput: the block has another width.
    """
    if block.ndim != 2 or block.shape[1] != len(triangle.matrix):
        raise BadInput(f"rows of shape {block.shape} do not fit {triangle.n_columns} columns and a label")
    if not len(block):
        return triangle
    matrix, rows = _own(triangle.matrix), _own(block)
    for first in range(0, len(matrix), _PANEL):
        end = min(first + _PANEL, len(matrix))
        top, vectors, small, _ = dtpqrt(
            0, min(_BLOCK, end - first), matrix[first:end, first:end], rows[:, first:end], overwrite_b=1
        )
        matrix[first:end, first:end] = top
        if end < len(matrix):
            place = np.arange(end - first)
            product = compact(vectors, small[place % len(small), place])
            lift = dgemm(1.0, vectors, rows[:, end:], beta=1.0, c=matrix[first:end, end:], trans_a=1)
            lift = dtrmm(1.0, product, lift, trans_a=1, overwrite_b=1)
            matrix[first:end, end:] -= lift
            dgemm(-1.0, vectors, lift, beta=1.0, c=rows[:, end:], overwrite_c=1)
    return Triangle(matrix=matrix, n_rows=triangle.n_rows + len(rows))


def merge(first: Triangle, second: Triangle) -> Triangle:
    """Return the triangle of the rows of both; both arguments are used up, since their memory is taken.

    Raises:
        BadInput: they have different numbers of columns.
    """
    if first.n_columns != second.n_columns:
        raise BadInput(f"triangles of {first.n_columns} and {second.n_columns} columns do not merge")
    return Triangle(matrix=with_trapezoid(first.matrix, second.matrix), n_rows=first.n_rows + second.n_rows)


def with_trapezoid(matrix: Float, rows: Float) -> Float:
    """Return a triangle, shape (n, n), with more rows, shape (m, n), m ≤ n, that are zero left of their diagonal."""
    result: Float
    result, *_ = dtpqrt(len(rows), min(_BLOCK, len(matrix)), _own(matrix), _own(rows), overwrite_a=1, overwrite_b=1)
    return result


def compact(vectors: Float, scales: Float) -> Float:
    """Return T, upper triangle, such that the product of all I - scale · v vᵀ is I - V T Vᵀ.

    Args:
        vectors: shape (n, k), one v per column; zero where the scale is.
        scales: shape (k,).
    """
    inverse = np.triu(vectors.T @ vectors, 1)
    diagonal = np.diag_indices(len(scales))
    # A reflection of nothing has scale 0, and has no inverse.
    inverse[diagonal] = 1.0 / np.where(scales == 0.0, 1.0, scales)
    product: Float = dtrtri(np.asfortranarray(inverse))[0]
    product[diagonal] = scales
    return product


def _own(array: Float) -> Float:
    """Return an array that may be written to in place, as one from another process may not."""
    return np.require(array, np.float64, ["F", "W"])
