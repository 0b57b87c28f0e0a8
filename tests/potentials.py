"""Pair potentials whose breaks are known, and wrong models whose reach is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from pair_model import PairModel

from mlipbench.core.model import Float, ModelSpec, Predictions

CUTOFF_A, DEPTH_EV, SIGMA_A = 4.0, 20.0, 0.9

Pair = Callable[[Float], tuple[Float, Float]]  # distances → energies and slopes


def well(r: Float) -> tuple[Float, Float, Float]:
    """Lennard-Jones: energy, slope and curvature."""
    s = (SIGMA_A / r) ** 6
    return (
        4 * DEPTH_EV * (s**2 - s),
        4 * DEPTH_EV * (6 * s - 12 * s**2) / r,
        4 * DEPTH_EV * (156 * s**2 - 42 * s) / r**2,
    )


def truncated(r: Float) -> tuple[Float, Float]:
    return well(r)[:2]


def shifted(r: Float) -> tuple[Float, Float]:
    energy, slope, _ = well(r)
    return energy - well(np.array(CUTOFF_A))[0], slope


def force_shifted(r: Float) -> tuple[Float, Float]:
    energy, slope, _ = well(r)
    edge = well(np.array(CUTOFF_A))
    return energy - edge[0] - (r - CUTOFF_A) * edge[1], slope - edge[1]


def enveloped(r: Float) -> tuple[Float, Float]:
    """Twice continuously differentiable at the cutoff."""
    energy, slope, _ = well(r)
    inside = 1.0 - (r / CUTOFF_A) ** 2
    return energy * inside**3, slope * inside**3 - energy * 6.0 * inside**2 * r / CUTOFF_A**2


def enveloped_once(r: Float) -> tuple[Float, Float]:
    """As many write it: the factor is squared, and the second derivative jumps."""
    energy, slope, _ = well(r)
    inside = 1.0 - (r / CUTOFF_A) ** 2
    return energy * inside**2, slope * inside**2 - energy * 4.0 * inside * r / CUTOFF_A**2


def neighbours(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, Float, Float]:
    """Pairs of a frame that does not repeat: atoms, vector from the first to the second, distance."""
    assert not atoms.pbc.any()
    vector = atoms.positions[None] - atoms.positions[:, None]
    distance = np.linalg.norm(vector, axis=2)
    i, j = np.nonzero((distance < CUTOFF_A) & ~np.eye(len(atoms), dtype=bool))
    return i, j, vector[i, j], distance[i, j]


@dataclass(frozen=True)
class Potential:
    """E = sum over pairs nearer than the cutoff; every element alike; site energies are halves of pairs."""

    pair: Pair = enveloped
    precision: type[np.floating] = np.float64

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="pairs", kind="test")

    def calculator(self) -> Calculator:
        raise NotImplementedError

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        answers = [self.answer(atoms) for atoms in frames]
        return Predictions(
            n_atoms=np.array([len(atoms) for atoms in frames]),
            energy=np.array([sites.sum() for sites, _ in answers]),
            forces=np.concatenate([forces for _, forces in answers]),
            stress=np.zeros((len(frames), 3, 3)),
            has_stress=np.zeros(len(frames), dtype=bool),
        )

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        return np.concatenate([self.answer(atoms)[0] for atoms in frames])

    def answer(self, atoms: Atoms) -> tuple[Float, Float]:
        """Site energies and forces; pairs are computed in the precision."""
        i, _, vector, r = neighbours(atoms)
        energy, slope = self.pair(r.astype(self.precision))
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, (slope / r)[:, None] * vector)
        return 0.5 * np.bincount(i, energy, minlength=len(atoms)), forces


@dataclass(frozen=True)
class Embedded(Potential):
    """Site energy i = sum over neighbours j of f_ij ρ_j, with ρ_j the sum over neighbours of j: felt up to twice rc."""

    def answer(self, atoms: Atoms) -> tuple[Float, Float]:
        i, j, vector, r = neighbours(atoms)
        inside = 1.0 - (r / CUTOFF_A) ** 2
        weight, slope = inside**3, -6.0 * inside**2 * r / CUTOFF_A**2
        density = np.bincount(i, weight, minlength=len(atoms))
        forces = np.zeros((len(atoms), 3))
        # E = Σ_j ρ_j².
        np.add.at(forces, i, (2.0 * (density[i] + density[j]) * slope / r)[:, None] * vector)
        return np.bincount(i, weight * density[j], minlength=len(atoms)), forces


@dataclass(frozen=True)
class GlobalTerm(PairModel):
    """The pair model with a term that couples all atoms, wherever they are."""

    term: Callable[[Atoms], tuple[float, Float]] | None = None

    def answer(self, atoms: Atoms) -> tuple[float, Float, Float]:
        energy, forces, stress = super().answer(atoms)
        assert self.term is not None
        more, push = self.term(atoms)
        return energy + more, forces + push, stress


def square_of_size(atoms: Atoms) -> tuple[float, Float]:
    """Not extensive, although no atom feels another."""
    return 1e-3 * len(atoms) ** 2, np.zeros((len(atoms), 3))


def held_to_the_centre(atoms: Atoms) -> tuple[float, Float]:
    """Springs between all atoms and their centroid."""
    apart = atoms.positions - atoms.positions.mean(axis=0)
    return 0.5e-3 * float((apart**2).sum()), -1e-3 * apart


def charges(atoms: Atoms) -> tuple[float, Float]:
    """Every atom has the charge of an electron; q² / (4 π ε0) = 14.399645 eV Å."""
    vector = atoms.positions[:, None] - atoms.positions[None]
    r = np.linalg.norm(vector, axis=2) + np.diag(np.full(len(atoms), np.inf))
    return 0.5 * COULOMB_EV_A * float((1 / r).sum()), COULOMB_EV_A * (vector / r[:, :, None] ** 3).sum(axis=1)


COULOMB_EV_A = 14.399645
