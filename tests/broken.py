"""Pair potentials for argon with one thing wrong each, and small data to find it out on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import Float, Int, ModelSpec
from mlipbench.models.ase import AseModel
from mlipbench.models.toy import Springs

DEPTH_EV, SIGMA_A, CUTOFF_A = 0.05, 3.4, 7.5


class Pairs(Springs):
    """Lennard-Jones, faded out so that the second derivative vanishes at the cutoff too."""

    def __init__(self) -> None:
        super().__init__(cutoff_A=CUTOFF_A)

    def bare(self, r: Float) -> tuple[Float, Float]:
        """Energy and slope before fading out."""
        s = (SIGMA_A / r) ** 6
        return 4 * DEPTH_EV * (s**2 - s), 4 * DEPTH_EV * (6 * s - 12 * s**2) / r

    def pair(self, distance: Float) -> tuple[Float, Float]:
        energy, slope = self.bare(distance)
        inside = 1.0 - (distance / self.cutoff_A) ** 2
        return energy * inside**3, slope * inside**3 - energy * 6 * inside**2 * distance / self.cutoff_A**2


class NoAttraction(Pairs):
    def bare(self, r: Float) -> tuple[Float, Float]:
        s = (SIGMA_A / r) ** 12
        return 4 * DEPTH_EV * s, -48 * DEPTH_EV * s / r


class CollapsingWall(Pairs):
    """A wall that turns over at 2 Å and leads down."""

    def bare(self, r: Float) -> tuple[Float, Float]:
        energy, slope = super().bare(r)
        hole, width = -4e4, 1.0
        gauss = hole * np.exp(-((r / width) ** 2))
        return energy / (1 + (1.9 / r) ** 12) + gauss, (
            slope / (1 + (1.9 / r) ** 12)
            + energy * 12 * (1.9 / r) ** 12 / r / (1 + (1.9 / r) ** 12) ** 2
            - 2 * r / width**2 * gauss
        )


class JumpAtCutoff(Pairs):
    def pair(self, distance: Float) -> tuple[Float, Float]:
        energy, slope = super().pair(distance)
        return energy - 0.002, slope


class Changed(Pairs):
    """Pairs whose results are spoilt afterwards."""

    spoil: Callable[[dict[str, Any], Atoms], None]

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        type(self).spoil(self.results, self.atoms)


def scaled(name: str, factor: float) -> Callable[[dict[str, Any], Atoms], None]:
    def spoil(results: dict[str, Any], _: Atoms) -> None:
        if name in results:
            results[name] = results[name] * factor

    return spoil


def by_density(results: dict[str, Any], atoms: Atoms) -> None:
    """Forces weighted by how crowded an atom is: equivariant, and of no potential."""
    results["forces"] = results["forces"] * (1.0 - 0.2 * results["energies"] / DEPTH_EV)[:, None]


class WrongForces(Changed):
    spoil = staticmethod(scaled("forces", 1.01))


class FlippedStress(Changed):
    spoil = staticmethod(scaled("stress", -1.0))


class WrongStress(Changed):
    spoil = staticmethod(scaled("stress", 1.01))


class NotConservative(Changed):
    spoil = staticmethod(by_density)


class NumberedAtoms(Pairs):
    """Pairs get stronger with the atoms' place in the list."""

    def weight(self, first: Int, second: Int) -> Float:
        return np.asarray(1.0 + 0.05 * (first + second), dtype=np.float64)


class Forgetful(Pairs):
    """10 meV and 10 meV/Å of noise that no seed controls."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        rng = np.random.default_rng()
        self.results["energy"] += 1e-2 * rng.normal()
        self.results["forces"] = self.results["forces"] + 1e-2 * rng.normal(size=self.results["forces"].shape)


def lennard_jones() -> Calculator:
    return LennardJones(sigma=SIGMA_A, epsilon=DEPTH_EV, rc=CUTOFF_A, ro=0.6 * CUTOFF_A, smooth=True)


def morse() -> Calculator:
    return MorsePotential(epsilon=DEPTH_EV, r0=3.8, rho0=6.0, rcut1=1.5, rcut2=2.0)


def model(calculator: Calculator) -> AseModel:
    return AseModel(spec=ModelSpec(name="toy", kind="ase"), bare=calculator)


def argon(symbol: str = "Ar", lattice_A: float = 5.6, *, n: int = 3) -> Dataset:
    """Warm crystals and pieces of them, without labels."""
    rng = np.random.default_rng(0)
    frames, config_types = [], []
    for k in range(n):
        atoms = bulk(symbol, "fcc", a=lattice_A, cubic=True) * (2, 1, 1)
        atoms.rattle(0.04 * lattice_A, rng=rng)
        frames.append(atoms)
        config_types.append("crystal")
        piece = bulk(symbol, "fcc", a=lattice_A, cubic=True) * (2, 2, 2)
        piece.set_pbc(False)
        order = np.argsort(np.linalg.norm(piece.positions - piece.positions.mean(axis=0) - 0.1 * k, axis=1))
        piece = piece[order[:6]]
        piece.set_cell(None)
        piece.rattle(0.04 * lattice_A, rng=rng)
        frames.append(piece)
        config_types.append("cluster")
    n_atoms = sum(len(atoms) for atoms in frames)
    names = tuple(f"{kind}_{k}" for k, kind in enumerate(config_types))
    return Dataset(
        spec=DatasetSpec(
            name=symbol, version="1", level_of_theory="none", licence="MIT", citation=(), elements=(symbol,), sha256=""
        ),
        frames=tuple(frames), uid=names, trajectory=names, config_type=tuple(config_types),
        energy=np.zeros(len(frames)), forces=np.zeros((n_atoms, 3)), stress=np.zeros((len(frames), 3, 3)),
        has_stress=np.zeros(len(frames), dtype=bool),
    )  # fmt: skip


class Rounded(Pairs):
    """Site energies far from zero in single precision, added up in double, as potentials of all electrons have them."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        sites = (self.results["energies"] - 100.0).astype(np.float32).astype(np.float64)
        self.results["energies"], self.results["energy"] = sites, float(sites.sum())
        self.results["forces"] = self.results["forces"].astype(np.float32).astype(np.float64)


class RoundedWrongForces(Rounded):
    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results["forces"] = self.results["forces"] * 1.01


class Scattered(Pairs):
    """An energy that depends on the last digits of positions, the same each time."""

    scatter_eV = 1e-5

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        # of distances, and of no order, so that no symmetry is broken
        first, second = np.triu_indices(len(self.atoms), 1)
        apart = self.atoms.get_all_distances(mic=bool(self.atoms.pbc.any()))[first, second]
        self.results["energy"] += self.scatter_eV * float(np.sin(1e4 * apart.sum()))


class ScatteredWrongForces(Scattered):
    scatter_eV = 3e-3

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results["forces"] = self.results["forces"] * 1.1


class Bonded(Pairs):
    """Springs between atoms by number, whatever their distance."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        positions = self.atoms.positions
        apart = positions[1:] - positions[:-1]
        self.results["energy"] += 0.005 * float((apart**2).sum())
        self.results["forces"][1:] -= 0.01 * apart
        self.results["forces"][:-1] += 0.01 * apart
