"""Rows of the design matrix over torch tensors: dense dB/dA of each centre times dA/dr of its pairs.

On the CPU it gives the numbers of `mlipbench.ace.kernels.design`, which knows where dB/dA is zero and is faster there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.neighbours import Neighbours
from mlipbench.ace.torch_batch import Chunk, chunks, join, origin, room
from mlipbench.ace.torch_features import (
    PairTables,
    gradient,
    pair_features,
    summed,
    torch_pair_tables,
    without_each,
)
from mlipbench.errors import BadInput

if TYPE_CHECKING:
    import torch
    from ase import Atoms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """What energies, forces and virials are per unit of each coefficient, on a device, frame after frame.

    Columns run over functions within centre elements.

    Attributes:
        energy: shape (n_frames, n_columns).
        forces: shape (3 n_atoms, n_columns).
        virial: shape (n_frames, 6, n_columns), dE/dstrain in Voigt order xx, yy, zz, yz, xz, xy.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor


class _Terms(NamedTuple):
    """Product terms of one ν, on the device.

    Attributes:
        function: shape (n_terms,).
        factors: ν tensors of shape (n_terms,), features.
        coefficient: shape (n_terms, 1).
        entries: ν tensors of shape (n_terms,), the nonzero of dB/dA that the derivative by each factor is added to.
    """

    function: torch.Tensor
    factors: tuple[torch.Tensor, ...]
    coefficient: torch.Tensor
    entries: tuple[torch.Tensor, ...]


class _Tables(NamedTuple):
    """What it takes to make the rows, on the device.

    Attributes:
        pairs: of the features.
        n_functions: per centre element.
        terms: of each ν in use.
        places: shape (n_entries,), where each nonzero of dB/dA stands in its transpose (features, functions).
    """

    pairs: PairTables
    n_functions: int
    terms: tuple[_Terms, ...]
    places: torch.Tensor


def design_rows(
    basis: Basis,
    frames: Sequence[Atoms],
    *,
    device: str,
    dtype: str = "float64",
    pairs: Sequence[Neighbours] | None = None,
    chunk_bytes: int | None = None,
) -> Rows:
    """Return the rows of some frames; they take 8 · (7 n_frames + 3 n_atoms) · n_columns bytes in "float64".

    Args:
        basis: the functions.
        frames: structures.
        device: "cpu", "cuda", or a GPU's number as in "cuda:1".
        dtype: "float64" or "float32".
        pairs: neighbours of each frame within the cutoff (or a little more), when they are known already.
        chunk_bytes: about how much scratch memory to take beside the rows; None for what suits the device.

    Raises:
        BadInput: there is no such precision or kind of device, or positions or a cell make no sense.
        ModelFailure: two atoms lie on top of each other.
        NotApplicable: torch is not installed, there is no such GPU, or a frame holds an element outside the basis.
    """
    like = origin(device, dtype)
    limit = room(chunk_bytes, like)
    batch = join(basis, frames, pairs)
    tables = _tables(basis, like)
    n_elements, n_functions, n_atoms = len(basis.numbers), tables.n_functions, len(batch.frame)
    energy = like.new_zeros((len(frames), n_elements, n_functions))
    forces = like.new_zeros((n_atoms + 1, 3, n_elements, n_functions))  # the last atom is no atom
    virial = like.new_zeros((len(frames), 6, n_elements, n_functions))
    width = n_functions * n_elements * tables.pairs.n_features
    centre_bytes = like.element_size() * (width + 4 * len(tables.places))
    pair_bytes = like.element_size() * (4 * n_functions + 18 * tables.pairs.n_features)
    # All centres have the zeros of dB/dA in the same places, so they are written once.
    scratch = like.new_zeros((min(max(1, limit // centre_bytes), n_atoms), width))
    for chunk in chunks(batch, like, centre_bytes=centre_bytes, pair_bytes=pair_bytes, limit=limit):
        z = chunk.element
        _add(tables, chunk, scratch, energy[:, z], forces[:, :, z], virial[:, :, z])
    return Rows(energy=energy.flatten(1), forces=forces[:n_atoms].flatten(2).flatten(0, 1), virial=virial.flatten(2))


def _tables(basis: Basis, like: torch.Tensor) -> _Tables:
    """Return the tables of a basis, in the precision and on the device of a tensor."""
    import torch

    table = functions(basis)
    constant = len(basis.numbers) * table.n_features
    flat = table.term_features * table.n_functions + table.term_function[:, None]
    places, entries = np.unique(flat, return_inverse=True)
    entries = entries.reshape(flat.shape)
    order = (table.term_features < constant).sum(axis=1)

    def numbers(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)

    terms = []
    for width in range(1, flat.shape[1] + 1):
        chosen = order == width
        if chosen.any():
            terms.append(
                _Terms(
                    numbers(table.term_function[chosen]),
                    tuple(numbers(table.term_features[chosen, :width].T)),
                    numbers(table.term_coefficient[chosen, None]).to(like),
                    tuple(numbers(entries[chosen, :width].T)),
                )
            )
    kept = places < constant * table.n_functions  # the constant sorts last
    return _Tables(torch_pair_tables(basis, like), table.n_functions, tuple(terms), numbers(places[kept]))


def _add(
    tables: _Tables,
    chunk: Chunk,
    scratch: torch.Tensor,
    energy: torch.Tensor,
    forces: torch.Tensor,
    virial: torch.Tensor,
) -> None:
    """Add the rows of some centres of one element.

    Args:
        tables: of the basis.
        chunk: the centres.
        scratch: shape (m or more, n_elements · n_features · n_functions), for dB/dA.
        energy: shape (n_frames, n_functions).
        forces: shape (n_atoms + 1, 3, n_functions).
        virial: shape (n_frames, 6, n_functions).
    """
    found = pair_features(tables.pairs, chunk)
    values, entries = _functions(tables, summed(tables.pairs, chunk, found)[0])
    energy.index_add_(0, chunk.frame, values)
    dense = scratch[: len(chunk.centre)].index_copy_(1, tables.places, entries)
    by_feature = dense.view(len(dense), -1, tables.pairs.n_features, tables.n_functions)
    slopes = gradient(tables.pairs, found)
    for z in range(len(tables.pairs.cutoffs)):
        chosen = (chunk.neighbour_element == z).nonzero()[:, 0]
        if len(chosen):
            _add_pairs(chunk, chosen, slopes, by_feature[:, z], forces, virial)


def _functions(tables: _Tables, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return functions and nonzeros of dB/dA of each centre, shapes (m, n_functions) and (m, n_entries).

    A has shape (n_elements · n_features, m).
    """
    m = a.shape[1]
    values, nonzeros = a.new_zeros((tables.n_functions, m)), a.new_zeros((len(tables.places), m))
    for terms in tables.terms:
        factors = [a.index_select(0, factor) for factor in terms.factors]
        others = without_each(factors, terms.coefficient)
        values.index_add_(0, terms.function, others[0] * factors[0])
        for entry, other in zip(terms.entries, others, strict=True):
            nonzeros.index_add_(0, entry, other)
    return values.T, nonzeros.T


def _add_pairs(
    chunk: Chunk,
    chosen: torch.Tensor,
    slopes: torch.Tensor,
    by_feature: torch.Tensor,
    forces: torch.Tensor,
    virial: torch.Tensor,
) -> None:
    """Add the rows that come from the pairs with neighbours of one element.

    Each centre gets as many places as the most that one has; the empty ones have no slope and belong to no atom.

    Args:
        chunk: the centres.
        chosen: shape (k,), pairs.
        slopes: shape (3, n_features, p), dA/dr.
        by_feature: shape (m, n_features, n_functions), dB/dA for the features of this element.
        forces: shape (n_atoms + 1, 3, n_functions).
        virial: shape (n_frames, 6, n_functions).
    """
    import torch

    m, n_atoms = len(chunk.centre), len(forces) - 1
    owner = chunk.owner.index_select(0, chosen)
    count = torch.bincount(owner, minlength=m)
    most = int(count.max())
    place = owner * most + torch.arange(len(owner), device=owner.device) - (count.cumsum(0) - count)[owner]
    padded = slopes.new_zeros((m * most, 3, slopes.shape[1]))
    padded.index_copy_(0, place, slopes.index_select(2, chosen).permute(2, 0, 1))
    found = torch.bmm(padded.view(m, 3 * most, -1), by_feature)  # (m, pair and axis, n_functions)
    other = owner.new_full((m * most,), n_atoms).index_copy_(0, place, chunk.index.index_select(0, chosen))
    forces.index_add_(0, other, found.view(m * most, 3, -1), alpha=-1)
    # One product sums the pairs of each centre: as they are for its own force, times the vector for the virial.
    vector = chunk.vector.new_zeros((m * most, 3)).index_copy_(0, place, chunk.vector.index_select(0, chosen))
    sums = vector.new_zeros((m, 9, most, 3))
    parts = vector.view(m, most, 3)
    for row, (axis, along) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        sums[:, row, :, axis] = parts[:, :, along]
    for axis in range(3):
        sums[:, 6 + axis, :, axis] = 1.0
    totals = torch.bmm(sums.view(m, 9, -1), found)
    virial.index_add_(0, chunk.frame, totals[:, :6])
    forces.index_add_(0, chunk.centre, totals[:, 6:])


def triangle(pieces: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the upper triangle R of the QR factorisation of all rows, in one pass over pieces of them.

    A piece has shape (n_rows, n_columns), labels being one more column, and may be the triangle of other rows, so that
    triangles merge. RᵀR is XᵀX; the signs of the rows of R are not fixed. It stays on the device, where only one piece
    need be at a time; pieces with fewer rows than columns waste work.

    Raises:
        BadInput: there is no piece.
    """
    import torch

    found: torch.Tensor | None = None
    for piece in pieces:
        stacked = piece if found is None else torch.cat([found, piece])
        found = torch.linalg.qr(stacked, mode="r").R
    if found is None:
        raise BadInput("a triangle needs one piece of rows at least")
    return found
