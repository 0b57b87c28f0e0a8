"""A descriptor of known body order, and a model whose site energies are made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from pair_model import PairModel

from mlipbench.ace.basis import Basis
from mlipbench.ace.features import ace_features, soap_features
from mlipbench.ace.soap import Soap
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import NotApplicable
from mlipbench.models.ace import symbols

WEIGHT: Final = {1: 0.7, 3: 1.3, 6: 1.0, 8: 1.6}


@dataclass(frozen=True)
class Sums:
    """Sums over all ordered sets of `order` neighbours, repeated ones too, of an invariant function of their vectors.

    f_k(i) = Σ_{a,b,...} Π_a w_a (1 - r_a²/rc²)³ exp(-Σ_ab c_kab r_a·r_b / rc²), with c_k random and fixed.
    The body order is `order` + 1, and nothing else is lost, as it is a general function of the set's Gram matrix.
    """

    order: int = 2
    n_features: int = 3
    cutoff_A: float = 4.0
    elements: tuple[str, ...] | None = None
    constant: float = 2.5

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="sums", kind="test", elements=self.elements)

    def calculator(self) -> object:
        raise NotImplementedError

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        raise NotApplicable("a descriptor predicts no energies")

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        return np.concatenate([np.zeros((0, self.n_features)), *(self.of_frame(atoms) for atoms in frames)])

    def of_frame(self, atoms: Atoms) -> Float:
        i, j, vector = neighbor_list("ijD", atoms, self.cutoff_A)
        weight = np.array([WEIGHT[z] for z in atoms.numbers])
        found = [self.of_atom(vector[i == k], weight[j[i == k]]) * weight[k] for k in range(len(atoms))]
        return np.asarray(self.constant * atoms.numbers[:, None] + np.array(found))

    def of_atom(self, vectors: Float, weights: Float) -> Float:
        gram = vectors @ vectors.T / self.cutoff_A**2
        each = weights * (1.0 - np.diag(gram)) ** 3
        sets = np.stack(np.meshgrid(*[np.arange(len(vectors))] * self.order, indexing="ij"), -1).reshape(-1, self.order)
        inner = gram[sets[:, :, None], sets[:, None, :]].reshape(len(sets), self.order**2)
        strength = np.random.default_rng(7).normal(size=(self.order**2, self.n_features))
        return np.asarray(each[sets].prod(axis=1) @ np.exp(-inner @ strength))


@dataclass(frozen=True)
class SumsWithEnergies(PairModel):
    """The pair model plus one of the sums, atom by atom; it has site energies and no features."""

    sums: Sums = field(default_factory=lambda: Sums(n_features=1))

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        return -1000.0 + self.sums.site_features(frames)[:, 0]


@dataclass(frozen=True)
class Described(Sums):
    """Features that a function gives frame by frame."""

    function: Callable[[Atoms], Float] | None = None

    def of_frame(self, atoms: Atoms) -> Float:
        assert self.function is not None
        return self.function(atoms)

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        return np.concatenate([self.of_frame(atoms) for atoms in frames])


def ace_of_order(order: int, numbers: tuple[int, ...]) -> Described:
    """The functions of an ACE of up to `order` neighbours.

    Seven neighbours in two triangles, one turned against the other, differ only from a total l of 6 on.
    """
    basis = Basis(numbers=numbers, degrees=(2.0, 2.0, 2.0, 3.0)[:order], l_max=6, l_weight=0.5)
    return Described(elements=symbols(numbers), function=lambda atoms: ace_features(atoms, basis))


def soap(numbers: tuple[int, ...]) -> Described:
    """A power spectrum: up to two neighbours."""
    made = Soap(numbers=numbers, cutoff_A=4.5, n_max=4, l_max=4, sigma_A=0.5)
    return Described(elements=symbols(numbers), function=lambda atoms: soap_features(atoms, made))
