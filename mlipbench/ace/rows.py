"""Labelled frames become weighted rows, and the rows a triangle, as many at a time as fit in a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.ace.basis import Basis
from mlipbench.ace.kernels import design
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.ace.triangle import Triangle, add_rows, no_rows
from mlipbench.core.model import Float, Progress
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

_CHUNK_ROWS = 2048  # fewer make short products of matrices, more gain nothing


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


def weighted_triangle(
    baseline: LinearAce, data: Sequence[Labelled], weights: Weights, *, progress: Progress, first: int = 0
) -> Triangle:
    """Return what the weighted rows of all frames come down to; rows of weight 0 are left out.

    Memory holds the triangle, one chunk of 2 048 rows, and the rows of one frame, of which each force needs all atoms;
    frames are taken from `data` one after the other and not kept.

    Args:
        baseline: gives the basis, and is taken off the labels.
        data: labelled frames.
        weights: of the rows.
        progress: called after each chunk with the rows so far and their rate.
        first: number of the first frame, for messages.

    Raises:
        BadInput: a weight makes no sense or all are 0, or a label has a wrong shape or is not finite.
        ModelFailure: two atoms of a frame lie on top of each other.
        NotApplicable: a frame holds an element outside the basis.
    """
    _refuse_bad_weights(weights)
    n_columns = baseline.weights.size
    triangle, began = no_rows(n_columns), perf_counter()
    chunk, used = np.empty((_CHUNK_ROWS, n_columns + 1), order="F"), 0
    room = np.empty((0, n_columns))
    for done in range(len(data)):
        try:
            one = data[done]
            room = room_for(one.frame, room)
            rows, labels = frame_rows(baseline, one, weights, room=room)
        except (BadInput, ModelFailure, NotApplicable) as error:
            raise type(error)(f"frame {first + done}: {error}") from error
        while len(rows):
            taken = min(len(rows), _CHUNK_ROWS - used)
            chunk[used : used + taken, :-1], chunk[used : used + taken, -1] = rows[:taken], labels[:taken]
            rows, labels, used = rows[taken:], labels[taken:], used + taken
            if used == _CHUNK_ROWS:
                triangle, used = add_rows(triangle, chunk), 0
                progress(done, len(data), pace(triangle.n_rows, perf_counter() - began))
    triangle = add_rows(triangle, chunk[:used].copy(order="F"))
    progress(len(data), len(data), pace(triangle.n_rows, perf_counter() - began))
    return triangle


def pace(n_rows: int, seconds: float) -> str:
    """Return how many rows are done and how fast.

    >>> pace(4096, 2.0)
    '4096 rows, 2048 a second'
    """
    return f"{n_rows} rows, {n_rows / max(seconds, 1e-9):.0f} a second"


def _refuse_bad_weights(weights: Weights) -> None:
    for name in ("energy", "forces", "stress"):
        if not 0.0 <= getattr(weights, name) < inf:
            raise BadInput(
                f"the ACE fit's weight of {name} is {getattr(weights, name)}; it must be a finite number from 0"
            )
    if not weights.energy + weights.forces + weights.stress > 0:
        raise BadInput("the ACE fit has no weight: energy, forces or stress needs one above 0")


def count_rows(labelled: Labelled) -> int:
    """Return how many rows one frame has at most."""
    return 1 + 3 * len(labelled.frame) + (6 if labelled.stress is not None else 0)


def room_for(frame: Atoms, room: Float) -> Float:
    """Return memory for the rows of a frame: what was given where it is enough, as fresh memory costs as much as rows.

    Args:
        frame: whose rows are to be filled.
        room: shape (any, n_columns).
    """
    n_rows = 7 + 3 * len(frame)
    return room if len(room) >= n_rows else np.empty((n_rows, room.shape[1]))


def bare_rows(basis: Basis, frame: Atoms, pairs: Neighbours, room: Float, *, with_virial: bool = True) -> Float:
    """Fill and return the rows of one frame without weights: energy, forces, and dE/dstrain in Voigt order.

    Args:
        basis: the functions.
        frame: structure.
        pairs: its neighbours within the cutoff (or a little more).
        room: see `room_for`.
        with_virial: fill the last six rows; zero otherwise.

    Returns:
        Shape (7 + 3 n_atoms, n_columns); part of `room`.

    Raises:
        NotApplicable: it holds an element outside the basis.
    """
    n = len(frame)
    rows = room[: 7 + 3 * n]
    rows[:] = 0.0
    if n:
        virial = rows[1 + 3 * n :] if with_virial else rows[:0]
        design(
            pair_tables(basis), product_tables(basis), pairs.start, pairs.index, pairs.vector,
            species_of(frame, basis.numbers), rows[0], rows[1 : 1 + 3 * n], virial,
        )  # fmt: skip
    return rows


def frame_rows(
    baseline: LinearAce, labelled: Labelled, weights: Weights, *, room: Float | None = None
) -> tuple[Float, Float]:
    """Return the weighted rows of one frame, shape (n_rows, n_columns), and their labels, shape (n_rows,).

    Energy, forces atom by atom, and virial in the order xx, yy, zz, yz, xz, xy; without those of weight 0. A frame
    without atoms has none. The rows lie in `room` (see `room_for`) where it is given.

    Raises:
        BadInput, ModelFailure, NotApplicable: as `weighted_triangle`.
    """
    _refuse_bad_labels(labelled)
    frame, basis = labelled.frame, baseline.basis
    n = len(frame)
    if not n:
        return np.zeros((0, baseline.weights.size)), np.zeros(0)
    species_of(frame, basis.numbers)  # an element outside the basis is told before what its neighbours do
    pairs = neighbours(frame, basis.cutoff_A)
    enough = room_for(frame, np.empty((0, baseline.weights.size)) if room is None else room)
    rows = bare_rows(basis, frame, pairs, enough, with_virial=labelled.stress is not None and weights.stress > 0)
    known = baseline.evaluate(frame, pairs)
    factors = np.repeat([weights.energy / sqrt(n), weights.forces, weights.stress / sqrt(n)], [1, 3 * n, 6])
    labels = np.zeros(len(rows))
    labels[0] = labelled.energy - known.energy
    labels[1 : 1 + 3 * n] = (labelled.forces - known.forces).reshape(-1)
    if labelled.stress is None:
        rows, labels, factors = rows[: 1 + 3 * n], labels[: 1 + 3 * n], factors[: 1 + 3 * n]
    else:
        left = labelled.stress * frame.get_volume() - known.virial
        labels[1 + 3 * n :] = left[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if not factors.all():
        rows, labels, factors = rows[factors > 0], labels[factors > 0], factors[factors > 0]
    rows *= factors[:, None]
    return rows, labels * factors


def _refuse_bad_labels(labelled: Labelled) -> None:
    """Raise when a label cannot belong to its frame."""
    frame = labelled.frame
    for name, given, shape in (
        ("energy", labelled.energy, ()),
        ("forces", labelled.forces, (len(frame), 3)),
        ("stress", np.zeros((3, 3)) if labelled.stress is None else labelled.stress, (3, 3)),
    ):
        if np.shape(given) != shape:
            raise BadInput(f"the label {name} has shape {np.shape(given)}; {shape} is needed for {len(frame)} atoms")
        if not np.isfinite(given).all():
            raise BadInput(f"the label {name} is not finite")
    if labelled.stress is not None and frame.cell.rank < 3:
        raise BadInput("it has a stress but no cell with a volume; give it a cell, or no stress")
