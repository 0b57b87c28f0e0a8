"""Labels become coefficients: weighted rows, streamed normal equations, and a ridge chosen by its evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.blas import dsymv, dsyrk
from scipy.linalg.lapack import dpocon, dpotrf, dpotrs, dtrtri

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import design
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.core.model import Float, Progress
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

_CHUNK_BYTES = 64 * 2**20
# Normal equations square the condition number: with a reciprocal condition number below this, or a residual below this
# share of the labels' squares, the evidence is round-off, and its maximum would run away with it.
_SMALLEST_CONDITION = 2e-16
_SMALLEST_RESIDUAL = 1e-13
# Decades of the ridge relative to the trace: the range, and where the search starts and how wide it walks.
_DECADES = (-17.0, 1.0)
_START = -11.0
_STEPS = (2.0, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """One frame and what is known of it.

    Attributes:
        frame: structure.
        energy: eV.
        forces: shape (n_atoms, 3), eV/Å.
        stress: shape (3, 3), eV/Å^3, positive under tension; None for none.
    """

    frame: Atoms
    energy: float
    forces: Float
    stress: Float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each kind of row counts; the rows are N^-1/2 (E - baseline), each force component, N^-1/2 V σ.

    Attributes:
        energy: of energies in eV per √atom.
        forces: of force components in eV/Å.
        stress: of the six virial components in eV per √atom.
    """

    energy: float = 10.0
    forces: float = 1.0
    stress: float = 1.0


@dataclass(slots=True, eq=False)
class NormalEquations:
    """XᵀX, Xᵀy and yᵀy of rows that came in pieces.

    Attributes:
        matrix: shape (n_columns, n_columns), Fortran order; only the lower triangle is filled.
        vector: shape (n_columns,).
        square: yᵀy.
        n_rows: rows added.
    """

    n_columns: int
    matrix: Float = field(init=False)
    vector: Float = field(init=False)
    square: float = 0.0
    n_rows: int = 0

    def __post_init__(self) -> None:
        """Start at zero."""
        self.matrix = np.zeros((self.n_columns, self.n_columns), order="F")
        self.vector = np.zeros(self.n_columns)

    def add(self, rows: Float, labels: Float) -> None:
        """Add rows, shape (n, n_columns), C order, and their labels, shape (n,)."""
        self.matrix = dsyrk(1.0, rows.T, beta=1.0, c=self.matrix, trans=0, lower=1, overwrite_c=1)
        self.vector += rows.T @ labels
        self.square += float(labels @ labels)
        self.n_rows += len(labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ridge:
    """The most probable coefficients, and how sure the data are.

    Attributes:
        coefficients: shape (n_columns,).
        ridge: prior precision over noise precision.
        sigma: noise of a weighted row.
        effective_parameters: how many coefficients the data decide.
    """

    coefficients: Float
    ridge: float
    sigma: float
    effective_parameters: float


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
) -> Fit:
    """Fit all coefficients at once; memory grows with the columns and the largest frame, not with the number of frames.

    Args:
        basis: the functions.
        data: labelled frames.
        e0_eV: shape (n_elements,), taken off the energies first.
        wall_reach_A: shape (n_elements, n_elements), reach of the repulsion, which is taken off all labels.
        weights: of the rows.
        prior_exponent: the prior variance of a coefficient falls as (degree + 1)^-prior_exponent.
        progress: called after each piece.

    Raises:
        BadInput: there are no frames, or a label is not finite.
        ModelFailure: two atoms of a frame lie on top of each other.
        NotApplicable: a frame holds an element outside the basis.
    """
    n_elements, n_functions = len(basis.numbers), functions(basis).n_functions
    baseline = LinearAce(
        basis=basis, e0_eV=e0_eV, weights=np.zeros((n_elements, n_functions)), wall_reach_A=wall_reach_A
    )
    equations = normal_equations(baseline, data, weights, progress=progress)
    degree = np.tile(functions(basis).degree, n_elements)
    progress(len(data), len(data), f"solving for {equations.n_columns} coefficients")
    solution = solve(equations, degree**prior_exponent)
    potential = LinearAce(
        basis=basis,
        e0_eV=e0_eV,
        weights=solution.coefficients.reshape(n_elements, n_functions),
        wall_reach_A=wall_reach_A,
    )
    return Fit(potential=potential, solution=solution, n_rows=equations.n_rows, n_columns=equations.n_columns)


def solve(equations: NormalEquations, precision: Float) -> Ridge:
    """Return the ridge solution whose ridge has the largest evidence.

    With prior c ~ N(0, s²/(ridge · precision)) and noise N(0, s²), s² integrates to its best value
    R/n, R = yᵀy - bᵀ(H + ridge)⁻¹b, and -2 log evidence = log det(H + ridge) - k log ridge + n log(R/n) + constant,
    a function of the ridge alone; H and b are scaled so that the prior is round.

    Args:
        equations: what the rows summed to.
        precision: shape (n_columns,), relative prior precision of each coefficient, positive.

    Raises:
        BadInput: there are no rows, or a label is not finite.

    Source: MacKay, Neural Comput. 4, 415 (1992).
    """
    if not equations.n_rows:
        raise BadInput("the ACE fit has no rows: give it labelled frames")
    if not (np.isfinite(equations.square) and np.isfinite(equations.vector).all()):
        raise BadInput("the ACE fit met a label or a position that is not finite")
    scale = precision**-0.5
    matrix = np.asfortranarray(equations.matrix * scale[:, None] * scale[None, :])
    vector = equations.vector * scale
    trace, count = float(matrix.trace()), len(vector)
    if trace <= 0.0 or equations.square <= 0.0:
        return Ridge(coefficients=np.zeros(count), ridge=1.0, sigma=0.0, effective_parameters=0.0)

    def misfit(exponent: float) -> float:
        ridge = trace * 10.0**exponent
        factor = _cholesky(matrix, ridge)
        if factor is None:
            return inf
        left = equations.square - float(vector @ dpotrs(factor, vector, lower=1)[0])
        residual = max(left, _SMALLEST_RESIDUAL * equations.square)
        spread = 2.0 * float(np.log(factor.diagonal()).sum()) - count * log(ridge)
        return spread + equations.n_rows * log(residual / equations.n_rows)

    best = 10.0 ** _minimise(misfit, *_DECADES) * trace
    return _solution(equations, matrix, vector, scale, best)


def _solution(equations: NormalEquations, matrix: Float, vector: Float, scale: Float, ridge: float) -> Ridge:
    """Return the coefficients at one ridge, with one step of refinement."""
    factor = _cholesky(matrix, ridge)
    if factor is None:
        raise BadInput(f"the ACE fit's normal equations are singular at a ridge of {ridge:.1e}; give more frames")
    found = dpotrs(factor, vector, lower=1)[0]
    left = vector - dsymv(1.0, matrix, found, lower=1) - ridge * found
    found = found + dpotrs(factor, left, lower=1)[0]
    residual = max(equations.square - float(vector @ found), _SMALLEST_RESIDUAL * equations.square)
    inverse = np.tril(dtrtri(factor, lower=1)[0])
    return Ridge(
        coefficients=scale * found,
        ridge=ridge,
        sigma=sqrt(residual / equations.n_rows),
        effective_parameters=float(np.clip(len(vector) - ridge * np.square(inverse).sum(), 0.0, len(vector))),
    )


def _cholesky(matrix: Float, ridge: float) -> Float | None:
    """Return the lower factor of matrix + ridge, or None when it is singular to round-off.

    What round-off can do to a Cholesky factor is decided by the condition after scaling the diagonal to one.
    """
    shifted = matrix.copy(order="F")
    shifted[np.diag_indices_from(shifted)] += ridge
    factor, info = dpotrf(shifted, lower=1, clean=0, overwrite_a=1)
    if info:
        return None
    size = np.sqrt(matrix.diagonal() + ridge)
    reciprocal, _ = dpocon(factor / size[:, None], float(len(size)), uplo="L")
    return factor if reciprocal > _SMALLEST_CONDITION else None


def _minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """Return the lowest point of a function with one valley: walks in smaller and smaller steps, then a parabola.

    Few calls, since each costs a factorisation, and the valley is flat at its bottom.
    """
    values: dict[float, float] = {}

    def at(x: float) -> float:
        if x not in values:
            values[x] = function(x) if low <= x <= high else inf
        return values[x]

    best = _START
    for size in _STEPS:
        step = -size if at(best - size) < at(best) else size
        while low <= best + step <= high and (at(best + step) < at(best) or at(best) == inf):
            best += step
    left, right = best - _STEPS[-1], best + _STEPS[-1]
    middle = _vertex((left, best, right), (at(left), at(best), at(right)))
    return middle if at(middle) < at(best) else best


def _vertex(x: tuple[float, float, float], y: tuple[float, float, float]) -> float:
    """Return the lowest point of the parabola through three points, or a midpoint beside one that is infinite."""
    if y[0] == inf or y[2] == inf:
        return 0.5 * (x[1] + (x[0] if y[0] == inf else x[2]))
    rise, fall = (x[1] - x[0]) * (y[1] - y[2]), (x[1] - x[2]) * (y[1] - y[0])
    if rise == fall:
        return x[1]
    return x[1] - 0.5 * ((x[1] - x[0]) * rise - (x[1] - x[2]) * fall) / (rise - fall)


def normal_equations(
    baseline: LinearAce, data: Sequence[Labelled], weights: Weights, *, progress: Progress
) -> NormalEquations:
    """Return the sums over the weighted rows of all frames, as many at a time as fit in a chunk.

    Args:
        baseline: gives the basis, and is taken off the labels.
        data: labelled frames.
        weights: of the rows.
        progress: called after each piece.

    Raises:
        BadInput, ModelFailure, NotApplicable: as `fit`.
    """
    if not data:
        raise BadInput("the ACE fit has no frames")
    if not weights.energy + weights.forces + weights.stress > 0:
        raise BadInput("the ACE fit has no weight: energy, forces or stress needs one above 0")
    equations = NormalEquations(baseline.weights.size)
    sizes = [_n_rows(labelled) for labelled in data]
    room = max(*sizes, _CHUNK_BYTES // (8 * equations.n_columns), 1)
    rows, labels = np.zeros((room, equations.n_columns)), np.zeros(room)
    used = 0
    for done, (labelled, size) in enumerate(zip(data, sizes, strict=True)):
        if used + size > room:
            equations.add(rows[:used], labels[:used])
            progress(done, len(data), f"{equations.n_rows} rows")
            rows[:used] = 0.0
            used = 0
        piece = slice(used, used + size)
        try:
            _fill(rows[piece], labels[piece], baseline, labelled, weights)
        except (BadInput, ModelFailure, NotApplicable) as error:
            raise type(error)(f"frame {done}: {error}") from error
        used += size
    equations.add(rows[:used], labels[:used])
    progress(len(data), len(data), f"{equations.n_rows} rows")
    return equations


def _n_rows(labelled: Labelled) -> int:
    return 1 + 3 * len(labelled.frame) + (6 if labelled.stress is not None else 0)


def _fill(rows: Float, labels: Float, baseline: LinearAce, labelled: Labelled, weights: Weights) -> None:
    """Fill the weighted rows and labels of one frame; the rows are zero before."""
    frame, basis = labelled.frame, baseline.basis
    n = len(frame)
    labels[:] = 0.0
    if not n:
        return
    pairs = neighbours(frame, basis.cutoff_A)
    species = species_of(frame, basis.numbers)
    virial = rows[1 + 3 * n :] if labelled.stress is not None else np.zeros((6, rows.shape[1]))
    design(
        pair_tables(basis), product_tables(basis), pairs.start, pairs.index, pairs.vector, species,
        rows[0], rows[1 : 1 + 3 * n], virial,
    )  # fmt: skip
    known = baseline.evaluate(frame, pairs)
    labels[0] = labelled.energy - known.energy
    labels[1 : 1 + 3 * n] = (labelled.forces - known.forces).reshape(-1)
    factors = np.full(len(labels), weights.forces)
    factors[0] = weights.energy / sqrt(n)
    if labelled.stress is not None:
        left = labelled.stress * frame.get_volume() - known.virial
        labels[1 + 3 * n :] = left[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        factors[1 + 3 * n :] = weights.stress / sqrt(n)
    rows *= factors[:, None]
    labels *= factors
