"""Labels become coefficients: rows into triangles, here or on workers, and a ridge chosen by its evidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.potential import LinearAce
from mlipbench.ace.rows import Labelled, Weights, count_rows, pace, weighted_triangle
from mlipbench.ace.solve import Ridge, solve
from mlipbench.ace.triangle import Triangle, merge
from mlipbench.core.model import Float, Progress
from mlipbench.errors import BadInput

__all__ = ["Executor", "Fit", "Labelled", "Pending", "Ridge", "Weights", "fit"]

# A merge costs a third of adding as many rows as there are columns; blocks of four times as many hide it.
_ROWS_PER_COLUMN = 4
_MOST_BLOCKS = 64
_SAMPLED = 16  # frames looked at to guess the number of rows


class Pending(Protocol):
    """Something under way on a worker."""

    def result(self) -> Any:
        """Wait for it and return it, or raise what it raised."""

    def cancel(self) -> Any:
        """Do not start it if it has not begun."""


class Executor(Protocol):
    """Runs functions elsewhere: an executor of concurrent.futures, or a `distributed.Client`."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Pending:
        """Start a call and return at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A fitted potential and what the fit knew.

    Attributes:
        potential: the model.
        solution: of the ridge regression.
        n_rows: energies, force components and stress components.
        n_columns: coefficients.
    """

    potential: LinearAce
    solution: Ridge
    n_rows: int
    n_columns: int


def fit(
    basis: Basis,
    data: Sequence[Labelled],
    *,
    e0_eV: Float,
    wall_reach_A: Float,
    weights: Weights,
    prior_exponent: float,
    progress: Progress,
    executor: Executor | None = None,
    in_flight: int = 8,
) -> Fit:
    """Fit all coefficients at once; memory grows with the columns and the largest frame, not with the number of frames.

    Args:
        basis: the functions.
        data: labelled frames; any sequence, such as one that reads from disk when it is asked for a frame.
        e0_eV: shape (n_elements,), taken off the energies first.
        wall_reach_A: shape (n_elements, n_elements), reach of the repulsion, which is taken off all labels.
        weights: of the rows.
        prior_exponent: the prior variance of a coefficient falls as (degree + 1)^-prior_exponent.
        progress: called after each piece with the rows so far and their rate.
        executor: does the rows in blocks of frames; None for here. Each worker is sent slices `data[a:b]`, so that a
            sequence whose slices are lazy is read there. The blocks do not depend on the workers, and are merged in
            order: the same data give the same coefficients whichever worker ends first.
        in_flight: blocks under way at most; each ends as a triangle that waits here for its turn.

    Raises:
        BadInput: there are no frames, a weight makes no sense or all are 0, or a label is wrong.
        ModelFailure: two atoms of a frame lie on top of each other.
        NotApplicable: a frame holds an element outside the basis.
    """
    if not len(data):
        raise BadInput("the ACE fit has no frames")
    if in_flight < 1:
        raise BadInput(f"the ACE fit was given in_flight = {in_flight}; at least one block must be under way")
    table = functions(basis)
    given = (basis, e0_eV, wall_reach_A, weights)
    if executor is None:
        triangle = weighted_triangle(_baseline(basis, e0_eV, wall_reach_A), data, weights, progress=progress)
    else:
        triangle = _gathered(executor, data, given, in_flight=in_flight, progress=progress)
    progress(len(data), len(data), f"solving for {triangle.n_columns} coefficients")
    solution = solve(triangle, np.tile(table.degree, len(basis.numbers)) ** prior_exponent)
    potential = LinearAce(
        basis=basis,
        e0_eV=e0_eV,
        weights=solution.coefficients.reshape(len(basis.numbers), table.n_functions),
        wall_reach_A=wall_reach_A,
    )
    return Fit(potential=potential, solution=solution, n_rows=triangle.n_rows, n_columns=triangle.n_columns)


def _baseline(basis: Basis, e0_eV: Float, wall_reach_A: Float) -> LinearAce:
    """Return what is taken off the labels."""
    shape = (len(basis.numbers), functions(basis).n_functions)
    return LinearAce(basis=basis, e0_eV=e0_eV, weights=np.zeros(shape), wall_reach_A=wall_reach_A)


_Given = tuple[Basis, Float, Float, Weights]


def _block(given: _Given, data: Sequence[Labelled], first: int) -> Triangle:
    """Return the triangle of some frames; this runs on a worker, which makes its tables itself."""
    basis, e0_eV, wall_reach_A, weights = given
    return weighted_triangle(_baseline(basis, e0_eV, wall_reach_A), data, weights, progress=_silent, first=first)


def _silent(done: int, total: int, remark: str) -> None:
    """Report to nobody."""


def _gathered(
    executor: Executor, data: Sequence[Labelled], given: _Given, *, in_flight: int, progress: Progress
) -> Triangle:
    """Return the triangle of all frames, done block by block on workers and merged in the order of the frames."""
    ends = _block_ends(data, _n_columns(given[0]))
    starts = deque(zip([0, *ends], ends, strict=False))
    pending: deque[tuple[int, Pending]] = deque()
    whole, began = None, perf_counter()
    try:
        while starts or pending:
            while starts and len(pending) < in_flight:
                first, end = starts.popleft()
                pending.append((end, executor.submit(_block, given, data[first:end], first)))
            end, future = pending.popleft()
            found = _owned(future.result())
            whole = found if whole is None else merge(whole, found)
            progress(end, len(data), pace(whole.n_rows, perf_counter() - began))
    finally:
        for _, future in pending:
            future.cancel()
    if whole is None:
        raise BadInput("the ACE fit has no frames")
    return whole


def _owned(found: Triangle) -> Triangle:
    """Return a copy: merging uses memory up, and executors such as Dask give one object to all who ask the same."""
    return Triangle(matrix=found.matrix.copy(order="F"), n_rows=found.n_rows)


def _n_columns(basis: Basis) -> int:
    return len(basis.numbers) * functions(basis).n_functions


def _block_ends(data: Sequence[Labelled], n_columns: int) -> list[int]:
    """Return where blocks of frames end: as many as pay, of nearly equal numbers of frames."""
    looked_at = range(0, len(data), -(-len(data) // _SAMPLED))
    rows = sum(count_rows(data[i]) for i in looked_at) / len(looked_at) * len(data)
    count = max(1, min(int(rows / (_ROWS_PER_COLUMN * n_columns)), _MOST_BLOCKS, len(data)))
    return [len(data) * (k + 1) // count for k in range(count)]
