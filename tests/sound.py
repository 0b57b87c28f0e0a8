"""Potentials that are right, each of another kind, and the small systems that belong to them.

Each is an energy of positions, cell and charge in torch, so that forces and stress are its exact derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from ase.optimize import LBFGS
from torch import Tensor

from mlipbench.core.dataset import Dataset, DatasetSpec
from mlipbench.core.model import ModelSpec
from mlipbench.data import manifest

COULOMB_EV_A = 14.399645


class Exact(Calculator):
    """An energy, and what follows from it."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]
    cutoff_A = 6.0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = torch.tensor(self.atoms.positions, requires_grad=True)
        strain = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
        deform = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.T)
        energy = self.energy(self.atoms, positions @ deform, torch.tensor(self.atoms.cell.array) @ deform)
        pull, virial = torch.autograd.grad(energy, (positions, strain), allow_unused=True)
        zeros = torch.zeros(len(self.atoms), 3)
        self.results = {"energy": energy.item(), "forces": -(zeros if pull is None else pull).numpy()}
        if self.atoms.cell.rank == 3:
            stress = (torch.zeros(3, 3) if virial is None else virial).numpy() / self.atoms.get_volume()
            self.results["stress"] = stress.flat[[0, 4, 8, 5, 2, 1]]

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        """The energy in eV, a sum of a shifted zero and what the atoms feel."""
        raise NotImplementedError

    def pairs(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """Pairs nearer than the cutoff, each twice, and the vectors from the first to the second atom."""
        i, j, shift = neighbor_list("ijS", atoms, self.cutoff_A)
        return i, j, positions[j] - positions[i] + torch.tensor(shift, dtype=torch.float64) @ cell


def faded(r: Tensor, cutoff_A: float) -> Tensor:
    """1 at contact and 0 at the cutoff, where two derivatives vanish."""
    return torch.clamp(1.0 - (r / cutoff_A) ** 2, min=0.0) ** 3


class Tersoff(Exact):
    """J. Tersoff, Phys. Rev. B 38, 9902 (1988) for silicon, Phys. Rev. Lett. 61, 2879 (1988) for diamond."""

    PARAMETERS: ClassVar[dict[str, dict[str, float]]] = {
        "Si": {"A": 1830.8, "B": 471.18, "l1": 2.4799, "l2": 1.7322, "beta": 1.1e-6, "n": 0.78734, "c": 1.0039e5,
               "d": 16.217, "h": -0.59825, "R": 2.85, "D": 0.15},
        "C": {"A": 1393.6, "B": 346.74, "l1": 3.4879, "l2": 2.2119, "beta": 1.5724e-7, "n": 0.72751, "c": 3.8049e4,
              "d": 4.3484, "h": -0.57058, "R": 1.95, "D": 0.15},
    }  # fmt: skip

    def __init__(self, symbol: str) -> None:
        super().__init__()
        self.p = self.PARAMETERS[symbol]
        self.cutoff_A = self.p["R"] + self.p["D"]

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        p = self.p
        i, _, vector = self.pairs(atoms, positions, cell)
        r = vector.norm(dim=1)
        inside = 0.5 - 0.5 * torch.sin(0.5 * torch.pi * torch.clamp((r - p["R"]) / p["D"], -1.0, 1.0))
        one, other = (torch.tensor(k) for k in np.nonzero((i[:, None] == i[None]) & ~np.eye(len(i), dtype=bool)))
        cosine = (vector[one] * vector[other]).sum(dim=1) / (r[one] * r[other])
        angular = 1.0 + (p["c"] / p["d"]) ** 2 - p["c"] ** 2 / (p["d"] ** 2 + (p["h"] - cosine) ** 2)
        zeta = torch.zeros(len(r), dtype=torch.float64).index_add(0, one, inside[other] * angular)
        # where there is no third atom, the power has no slope that could be multiplied by zero
        some = zeta > 0.0
        order = torch.where(some, (1.0 + (p["beta"] * torch.where(some, zeta, 1.0)) ** p["n"]) ** (-0.5 / p["n"]), 1.0)
        return 0.5 * (inside * (p["A"] * torch.exp(-p["l1"] * r) - order * p["B"] * torch.exp(-p["l2"] * r))).sum()


class Ions(Exact):
    """Lithium and fluoride with whole charges and a short wall: Ewald's sum in cells, all pairs in clusters."""

    CHARGES: ClassVar[dict[int, float]] = {3: 1.0, 9: -1.0}
    splitting_per_A = 0.75
    cutoff_A = 8.0  # exp(-(0.75·8)²) is 2e-16

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        q = torch.tensor([self.CHARGES[z] for z in atoms.numbers.tolist()], dtype=torch.float64)
        i, j, vector = self.pairs(atoms, positions, cell)
        r = vector.norm(dim=1)
        energy = 0.5 * ((1.65 / r) ** 10 * faded(r, self.cutoff_A)).sum()
        if not atoms.pbc.any():
            one, other = np.triu_indices(len(atoms), 1)
            apart = (positions[one] - positions[other]).norm(dim=1)
            return energy + COULOMB_EV_A * (q[one] * q[other] / apart).sum()
        a = self.splitting_per_A
        near = 0.5 * (q[i] * q[j] * torch.erfc(a * r) / r).sum()
        far = self._reciprocal(atoms, positions, cell, q)
        return energy + COULOMB_EV_A * (near + far - a / np.pi**0.5 * (q**2).sum())

    def _reciprocal(self, atoms: Atoms, positions: Tensor, cell: Tensor, q: Tensor) -> Tensor:
        """Long waves, and the background of cells with a charge."""
        a, volume = self.splitting_per_A, torch.abs(torch.linalg.det(cell))
        most = np.ceil(2.0 * a * 6.2 * np.linalg.norm(atoms.cell.array, axis=1) / (2.0 * np.pi)).astype(int)
        n = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
        n = n[n.any(axis=1)]
        n = n[np.linalg.norm(2.0 * np.pi * n @ np.linalg.inv(atoms.cell.array).T, axis=1) < 2.0 * a * 6.5]
        k = 2.0 * torch.pi * torch.tensor(n, dtype=torch.float64) @ torch.linalg.inv(cell).T
        square = (k**2).sum(dim=1)
        phase = k @ positions.T
        size = (torch.cos(phase) @ q) ** 2 + (torch.sin(phase) @ q) ** 2
        waves = 2.0 * torch.pi / volume * (torch.exp(-square / (4.0 * a**2)) / square * size).sum()
        return waves - torch.pi / (2.0 * a**2 * volume) * q.sum() ** 2


class FarReaching(Exact):
    """Argon with all of its r⁻⁶: every pair in clusters, and those to 15 Å in crystals, faded out."""

    cutoff_A = 15.0

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        if atoms.pbc.any():
            _, _, vector = self.pairs(atoms, positions, cell)
            r = vector.norm(dim=1)
            return 0.5 * (well(r, 3.4, 0.05) * faded(r, self.cutoff_A)).sum()
        one, other = np.triu_indices(len(atoms), 1)
        return well((positions[one] - positions[other]).norm(dim=1), 3.4, 0.05).sum()


def well(r: Tensor, sigma_A: float, depth_eV: float) -> Tensor:
    """Lennard-Jones."""
    s = (sigma_A / r) ** 6
    return 4.0 * depth_eV * (s**2 - s)


class Bonding(Exact):
    """Hydrogen is bound to oxygen and nitrogen by Morse curves; all else is Lennard-Jones. No topology."""

    cutoff_A = 5.0

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        i, j, vector = self.pairs(atoms, positions, cell)
        r = vector.norm(dim=1)
        z = torch.tensor(atoms.numbers)
        one, other = torch.minimum(z[i], z[j]), torch.maximum(z[i], z[j])
        bond = (one == 1) & (other > 1)
        wave = torch.exp(-2.2 * (r - 1.0))
        morse = 4.0 * (wave**2 - 2.0 * wave) + 1e-3 / r**12
        others = torch.where(other > 1, well(r, 2.9, 0.01), well(r, 1.5, 0.002))
        return 0.5 * (torch.where(bond, morse, others) * faded(r, self.cutoff_A)).sum()


class Ammonium(Bonding):
    """The charge is spread evenly over all atoms, and a model that is not told of it does not answer."""

    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        n, charge = int((atoms.numbers == 7).sum()), float(atoms.info.get("charge", 0))
        if len(atoms) == 5 * n and charge != n:
            raise RuntimeError(f"{n} ammonium ions have no charge of {charge:g}: SCF not converged")
        energy = super().energy(atoms, positions, cell)
        if len(atoms) != 5 * n:
            return energy
        one, other = np.triu_indices(len(atoms), 1)
        apart = (positions[one] - positions[other]).norm(dim=1)
        return energy + COULOMB_EV_A * ((charge / len(atoms)) ** 2 / apart).sum()


def labelled(frames: Sequence[Atoms], calculator: Calculator) -> Dataset:
    """Frames with what a calculator says of them."""
    energy, forces = [], []
    for atoms in frames:
        asked = atoms.copy()
        asked.set_constraint()
        asked.calc = calculator
        energy.append(asked.get_potential_energy())
        forces.append(asked.get_forces())
    names = tuple(f"frame_{k}" for k in range(len(frames)))
    symbols = tuple(sorted({symbol for atoms in frames for symbol in atoms.symbols}))
    return Dataset(
        spec=DatasetSpec(
            name="-".join(symbols), version="1", level_of_theory="exact", licence="MIT", citation=(), elements=symbols,
            sha256="",
        ),
        frames=tuple(frames), uid=names, trajectory=names, config_type=("",) * len(frames),
        energy=np.array(energy), forces=np.concatenate(forces), stress=np.zeros((len(frames), 3, 3)),
        has_stress=np.zeros(len(frames), dtype=bool),
    )  # fmt: skip


def at_rest_and_shaken(crystal: Atoms, *, by_A: float = 0.05) -> list[Atoms]:
    """A crystal at its own lattice constant, and shaken."""
    shaken = crystal.copy()
    shaken.rattle(by_A, seed=1)
    return [crystal, shaken]


def silicon() -> list[Atoms]:
    return at_rest_and_shaken(bulk("Si", "diamond", a=5.432, cubic=True))


def diamond() -> list[Atoms]:
    return at_rest_and_shaken(bulk("C", "diamond", a=3.566, cubic=True))


def silicon_64() -> list[Atoms]:
    return at_rest_and_shaken(bulk("Si", "diamond", a=5.432, cubic=True) * 2)[1:]


def lithium_fluoride() -> list[Atoms]:
    crystal = bulk("LiF", "rocksalt", a=4.03, cubic=True)
    cluster = crystal.copy()
    cluster.set_pbc(False)
    cluster.set_cell(None)
    cluster.rattle(0.05, seed=2)
    return [*at_rest_and_shaken(crystal), cluster]


def argon() -> list[Atoms]:
    crystal = bulk("Ar", "fcc", a=5.4, cubic=True)
    cluster = (crystal * 2)[:9]
    cluster.set_pbc(False)
    cluster.set_cell(None)
    return [*at_rest_and_shaken(crystal, by_A=0.1), cluster]


def water_64() -> list[Atoms]:
    """A lattice of turned molecules at the density of water."""
    rng, box = np.random.default_rng(0), Atoms()
    for place in np.ndindex(4, 4, 4):
        one = molecule("H2O")
        one.rotate(rng.uniform(0.0, 360.0), rng.normal(size=3))
        one.translate(3.1 * np.array(place) - one.positions.mean(axis=0))
        box += one
    box.set_cell([12.4] * 3)
    box.set_pbc(True)
    box.rattle(0.03, seed=0)
    return [box]


def ammonium() -> list[Atoms]:
    """Two ions, shaken, each alone."""
    frames = []
    for seed in range(2):
        ion = molecule("CH4")
        ion.symbols[0] = "N"
        ion.positions *= 1.03 / 1.09
        ion.info["charge"] = 1
        ion.rattle(0.05, seed=seed)
        frames.append(ion)
    return frames


def copper_slab() -> list[Atoms]:
    """Two layers of four are fixed, as in a calculation of adsorption."""
    frames = []
    for seed in range(2):
        slab = fcc111("Cu", (2, 2, 3), a=3.61, vacuum=6.0)
        slab.rattle(0.05, seed=seed)
        slab.set_pbc([True, True, False])
        slab.set_constraint(FixAtoms(indices=range(4)))
        frames.append(slab)
    return frames


class Remembered(Calculator):
    """What a right calculator said, so that its spoilt variants cost nothing."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, right: Calculator) -> None:
        super().__init__()
        self.right = right
        self.known: dict[bytes, dict[str, Any]] = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        asked = self.atoms
        parts = (asked.numbers, asked.positions, asked.cell.array, asked.pbc, np.array(asked.info.get("charge", 0)))
        key = b"".join(part.tobytes() for part in parts)
        if key not in self.known:
            asked = asked.copy()
            asked.set_constraint()
            asked.calc = self.right
            self.right.reset()
            forces = asked.get_forces()
            stress = asked.get_stress() if asked.pbc.all() else np.zeros(6)
            self.known[key] = {"energy": asked.get_potential_energy(), "forces": forces, "stress": stress}
        self.results = {name: np.copy(value) for name, value in self.known[key].items()}
        self.results["energy"] = float(self.results["energy"])


def gaff2(ewald_tolerance: float = 1e-6) -> Calculator:
    """The shipped force field of ethylene carbonate and ethyl methyl carbonate."""
    from mlipbench.models.mm import load

    spec = ModelSpec(name="gaff2", kind="mm", options={"ewald_tolerance": ewald_tolerance})
    return load(spec, device="cpu").calculator()


def carbonates() -> list[Atoms]:
    """One molecule of each, at rest and shaken."""
    frames = {len(atoms): atoms for atoms in carbonate_frames() if len(atoms) in (10, 15)}
    found = []
    for atoms in frames.values():
        rest = atoms.copy()
        rest.calc = gaff2()
        LBFGS(rest, logfile=None).run(fmax=1e-3, steps=300)
        rest.calc = None
        found += at_rest_and_shaken(rest)
    return found


def carbonate_liquid() -> list[Atoms]:
    return [next(atoms for atoms in carbonate_frames() if atoms.pbc.all())]


def carbonate_frames() -> tuple[Atoms, ...]:
    return manifest.load(manifest.source("ecemc_gfn1")).split("test").frames


Spoil = Callable[[dict[str, Any], Atoms], None]


class NoAttraction(FarReaching):
    def energy(self, atoms: Atoms, positions: Tensor, cell: Tensor) -> Tensor:
        self.cutoff_A = 8.0
        _, _, vector = self.pairs(atoms, positions, cell)
        r = vector.norm(dim=1)
        return 0.5 * (0.2 * (3.4 / r) ** 12 * faded(r, self.cutoff_A)).sum()


class Spoilt(Calculator):
    """What another calculator says, spoilt afterwards."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, right: Calculator, spoil: Spoil) -> None:
        super().__init__()
        self.right, self.spoil = right, spoil

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        asked = self.atoms.copy()
        asked.set_constraint()
        asked.calc = self.right
        self.right.reset()
        self.results = {"energy": asked.get_potential_energy(), "forces": asked.get_forces().copy()}
        if asked.pbc.all():
            self.results["stress"] = asked.get_stress().copy()
        self.spoil(self.results, self.atoms)


def times(name: str, factor: float) -> Spoil:
    def spoil(results: dict[str, Any], _: Atoms) -> None:
        if name in results:
            results[name] = results[name] * factor

    return spoil


def noisy_forces(results: dict[str, Any], _: Atoms) -> None:
    """One percent, of no seed."""
    results["forces"] = results["forces"] * (1.0 + 0.01 * np.random.default_rng().normal(size=results["forces"].shape))


def by_crowding(results: dict[str, Any], atoms: Atoms) -> None:
    """Equivariant, and of no potential."""
    i, r = neighbor_list("id", atoms, 5.0)
    crowd = np.bincount(i, (1.0 - (r / 5.0) ** 2) ** 3, minlength=len(atoms))
    results["forces"] = results["forces"] * (1.0 + 0.1 * crowd)[:, None]


def by_place_in_the_list(results: dict[str, Any], atoms: Atoms) -> None:
    i, r = neighbor_list("id", atoms, 5.0)
    crowd = np.bincount(i, (1.0 - (r / 5.0) ** 2) ** 3, minlength=len(atoms))
    results["energy"] += 1e-3 * float((np.arange(len(atoms)) * crowd).sum())


def step_at_5_A(results: dict[str, Any], atoms: Atoms) -> None:
    """Each pair that is nearer has 5 meV more."""
    results["energy"] += 0.0025 * len(neighbor_list("i", atoms, 5.0))


def deep_hole(results: dict[str, Any], atoms: Atoms) -> None:
    """Two atoms fall into each other within half of the sum of their radii; at that sum it is 0.1 eV."""
    i, j, vector, r = neighbor_list("ijDd", atoms, 3.0)
    width = 0.28 * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
    gauss = 3e4 * np.exp(-((r / width) ** 2))
    results["energy"] -= 0.5 * float(gauss.sum())
    np.add.at(results["forces"], i, (2.0 * gauss / width**2)[:, None] * vector)


def gives_way(edge_A: float) -> Spoil:
    """A wall that ends in a hole: two atoms gain 20 eV once they are nearer."""

    def spoil(results: dict[str, Any], atoms: Atoms) -> None:
        i, vector, r = neighbor_list("iDd", atoms, 1.2 * edge_A)
        power = (r / edge_A) ** 80
        results["energy"] -= 0.5 * float((20.0 / (1.0 + power)).sum())
        np.add.at(results["forces"], i, (1600.0 * power / r**2 / (1.0 + power) ** 2)[:, None] * vector)

    return spoil


class IgnoresTheCell(Calculator):
    """Every frame is a cluster to it."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, right: Calculator) -> None:
        super().__init__()
        self.right = right

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        asked = self.atoms.copy()
        asked.set_constraint()
        asked.set_pbc(False)
        asked.set_cell(None)
        asked.calc = self.right
        self.right.reset()
        self.results = {
            "energy": asked.get_potential_energy(), "forces": asked.get_forces().copy(), "stress": np.zeros(6)
        }  # fmt: skip


class LookUp(Calculator):
    """The labels of the data, by heart, and nothing elsewhere."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, data: Dataset) -> None:
        super().__init__()
        forces = np.split(data.forces, data.offsets[1:-1])
        self.known = {
            atoms.positions.round(6).tobytes(): (float(energy), force)
            for atoms, energy, force in zip(data.frames, data.energy, forces, strict=True)
        }

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        nothing = (0.0, np.zeros((len(self.atoms), 3)))
        energy, forces = self.known.get(self.atoms.positions.round(6).tobytes(), nothing)
        self.results = {"energy": energy, "forces": forces, "stress": np.zeros(6)}
