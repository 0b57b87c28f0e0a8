"""The linear ACE over torch tensors, for a GPU: many frames in one call, and the rows of the design matrix.

On the CPU it gives the numbers of `mlipbench.ace.kernels`, which is faster there. All sums have a fixed order on the
CPU; a GPU adds in any order, so that its results may differ from run to run in the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlipbench.ace.basis import functions
from mlipbench.ace.neighbours import Neighbours
from mlipbench.ace.potential import Evaluation, LinearAce, has_stress
from mlipbench.ace.torch_batch import Batch, Chunk, chunks, join, origin, room
from mlipbench.ace.torch_design import Rows, design_rows, triangle
from mlipbench.ace.torch_features import (
    PairTables,
    pair_features,
    pulled_back,
    summed,
    torch_pair_tables,
    without_each,
)
from mlipbench.core.model import Float, Int

if TYPE_CHECKING:
    import torch
    from ase import Atoms

__all__ = ["Rows", "TorchAce", "design_rows", "repulsion", "triangle"]


class _Order(NamedTuple):
    """Monomials of one ν with their coefficients, on the device.

    Attributes:
        factors: ν tensors of shape (n_monomials,), features.
        weights: shape (n_elements, n_monomials), eV, for each centre element.
    """

    factors: tuple[torch.Tensor, ...]
    weights: torch.Tensor


def _orders(potential: LinearAce, like: torch.Tensor) -> tuple[_Order, ...]:
    """Return the monomials of each ν in use, with the coefficients folded onto them."""
    import torch

    table = functions(potential.basis)
    folded = np.stack([
        np.bincount(
            table.term_monomial, row[table.term_function] * table.term_coefficient, minlength=len(table.monomials)
        )
        for row in potential.weights
    ])
    found, first = [], 0
    for order, last in enumerate(table.monomial_ends.tolist(), start=1):
        if last > first:
            columns = torch.from_numpy(np.ascontiguousarray(table.monomials[first:last, :order].T)).to(like.device)
            found.append(_Order(tuple(columns), torch.from_numpy(folded[:, first:last]).to(like)))
        first = last
    return tuple(found)


def _numbers(values: torch.Tensor) -> Float:
    """Return a tensor of any device and precision as an array."""
    found: Float = values.cpu().numpy().astype(np.float64)
    return found


def _elements(batch: Batch) -> Int:
    """Return the element of each atom, in the order of the frames."""
    result = np.empty_like(batch.element)
    result[batch.centre] = batch.element
    return result


class _Wall(NamedTuple):
    """Repulsion of nuclei at short range, on the device.

    Attributes:
        charges: shape (n_elements,), of the nuclei.
        reach_A: shape (n_elements, n_elements), where it ends; 0 for none.
    """

    charges: torch.Tensor
    reach_A: torch.Tensor

    def of(self, chunk: Chunk, distance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return half the energy of each pair, shape (p,), and half its derivative by the vector, shape (p, 3)."""
        reach = self.reach_A[chunk.element].index_select(0, chunk.neighbour_element)
        energy, pull = distance.new_zeros(distance.shape), chunk.vector.new_zeros(chunk.vector.shape)
        near = (distance < reach).nonzero()[:, 0]
        if len(near):
            r = distance[near]
            charge = self.charges.index_select(0, chunk.neighbour_element[near])
            values, slopes = repulsion(r, self.charges[chunk.element], charge, reach[near])
            energy[near] = 0.5 * values
            pull[near] = (0.5 * slopes / r)[:, None] * chunk.vector[near]
        return energy, pull


def repulsion(
    distance: torch.Tensor, charge_1: torch.Tensor, charge_2: torch.Tensor, reach: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return energy and slope (eV, eV/Å) of pairs within reach; the namesake of `kernels.repulsion`.

    Source: Ziegler, Biersack and Littmark, The Stopping and Range of Ions in Solids (1985).
    """
    screening = 0.46850 / (charge_1**0.23 + charge_2**0.23)
    x = distance / screening
    screened, slope = distance * 0.0, distance * 0.0
    for share, rate in ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)):
        part = share * (-rate * x).exp()
        screened, slope = screened + part, slope - rate * part / screening
    coulomb = 14.399645 * charge_1 * charge_2 / distance
    u = 1.0 - (distance / reach) ** 2
    energy = coulomb * screened * u**3
    return energy, coulomb * ((slope - screened / distance) * u**3 - screened * 6.0 * u * u * distance / reach**2)


@dataclass(frozen=True, slots=True, eq=False)
class TorchAce:
    """A linear ACE on a torch device, for many frames in one call.

    Attributes:
        potential: the model.
        device: "cpu", "cuda", or a GPU's number as in "cuda:1".
        dtype: "float64", or "float32" for about seven digits in half the memory.
        chunk_bytes: about how much scratch memory a call may take on the device; None for what suits it. Lists of
            neighbours, on the CPU, and results grow with the frames of a call.

    Raises:
        BadInput: there is no such precision or kind of device.
        NotApplicable: torch is not installed, or finds no such GPU.
    """

    potential: LinearAce
    _: KW_ONLY
    device: str
    dtype: str = "float64"
    chunk_bytes: int | None = None
    _like: torch.Tensor = field(init=False, repr=False)
    _limit: int = field(init=False, repr=False)
    _pairs: PairTables = field(init=False, repr=False)
    _orders: tuple[_Order, ...] = field(init=False, repr=False)
    _wall: _Wall = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Put the tables on the device."""
        like = origin(self.device, self.dtype)
        import torch

        basis = self.potential.basis
        object.__setattr__(self, "_like", like)
        object.__setattr__(self, "_limit", room(self.chunk_bytes, like))
        object.__setattr__(self, "_pairs", torch_pair_tables(basis, like))
        object.__setattr__(self, "_orders", _orders(self.potential, like))
        charges, reach = np.array(basis.numbers, dtype=np.float64), self.potential.wall_reach_A
        object.__setattr__(self, "_wall", _Wall(torch.from_numpy(charges).to(like), torch.from_numpy(reach).to(like)))

    def evaluate_many(self, frames: Sequence[Atoms], pairs: Sequence[Neighbours] | None = None) -> list[Evaluation]:
        """Return energies, forces and stress of each frame; the frames are not changed.

        Args:
            frames: structures; the stress needs periodicity in all directions.
            pairs: neighbours of each frame within the cutoff (or a little more), when they are known already.

        Raises:
            NotApplicable: a frame holds an element that the potential does not cover.
            ModelFailure: two atoms lie on top of each other.
            BadInput: positions or a cell make no sense, or `pairs` has another length than `frames`.
        """
        if not len(frames):
            return []
        batch = join(self.potential.basis, frames, pairs)
        sites = self._like.new_zeros(len(batch.frame))
        forces = self._like.new_zeros((len(batch.frame), 3))
        virials = self._like.new_zeros((len(frames), 9))
        for chunk in chunks(batch, self._like, **self._needs(), limit=self._limit):
            self._add(chunk, sites, forces, virials)
        ends = np.cumsum(batch.sizes)[:-1]
        sites_eV = np.split(_numbers(sites) + self.potential.e0_eV[_elements(batch)], ends)
        virials_eV = _numbers(virials).reshape(-1, 3, 3)
        symmetric = 0.5 * (virials_eV + virials_eV.transpose(0, 2, 1))
        return [
            Evaluation(
                energy=float(site.sum()),
                site_energies=site,
                forces=force,
                virial=virial,
                stress=virial / frame.get_volume() if has_stress(frame) else None,
            )
            for frame, site, force, virial in zip(
                frames, sites_eV, np.split(_numbers(forces), ends), symmetric, strict=True
            )
        ]

    def _needs(self) -> dict[str, int]:
        """Return the bytes that a centre and a pair need in a chunk."""
        size = self._like.element_size()
        products = max((2 * len(order.factors) + 2) * order.weights.shape[1] for order in self._orders)
        return {
            "centre_bytes": size * (products + 4 * len(self.potential.basis.numbers) * self._pairs.n_features),
            "pair_bytes": size * (6 * self._pairs.n_features + 16 * self._pairs.harmonics.shape[0]),
        }

    def _add(self, chunk: Chunk, sites: torch.Tensor, forces: torch.Tensor, virials: torch.Tensor) -> None:
        """Add the energies of some centres, and what they do to forces and virials."""
        found = pair_features(self._pairs, chunk)
        a, slot = summed(self._pairs, chunk, found)
        energy, adjoint = self._polynomial(chunk.element, a)
        each = adjoint.T.reshape(-1, self._pairs.n_features).index_select(0, slot).T.contiguous()
        wall, slope = self._wall.of(chunk, found.distance)
        pull = pulled_back(self._pairs, found, each).T + slope
        sites.index_add_(0, chunk.centre, energy.index_add_(0, chunk.owner, wall))
        forces.index_add_(0, chunk.index, pull, alpha=-1)
        forces.index_add_(0, chunk.centre.index_select(0, chunk.owner), pull)
        virial = (pull[:, :, None] * chunk.vector[:, None, :]).flatten(1)
        virials.index_add_(0, chunk.frame.index_select(0, chunk.owner), virial)

    def _polynomial(self, element: int, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return Σ weight · monomial of each centre, shape (m,), and its derivative by A, shape (features, m)."""
        energy, adjoint = a.new_zeros(a.shape[1]), a.new_zeros(a.shape)
        for order in self._orders:
            part = a.new_zeros(a.shape)
            factors = [a.index_select(0, factor) for factor in order.factors]
            others = without_each(factors, order.weights[element][:, None])
            for factor, other in zip(order.factors, others, strict=True):
                part.index_add_(0, factor, other)
            # Euler: a sum of products of ν features is Σ feature · derivative / ν.
            energy += (part * a).sum(dim=0) / len(factors)
            adjoint += part
        return energy, adjoint
