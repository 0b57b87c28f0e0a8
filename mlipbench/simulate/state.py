"""Where all replicas are: positions, velocities, cells, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlipbench.core.dynamics import Forces, Replica, Schedule
from mlipbench.core.model import Float, Int
from mlipbench.physics.molecules import renumbered
from mlipbench.simulate import noise
from mlipbench.units import (
    BAR_PER_EV_PER_CUBIC_ANGSTROM,
    BOLTZMANN_EV_PER_K,
    EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS,
)

DYNAMIC = (
    "positions",
    "velocities",
    "cells",
    "added_eV",
    "compressibility_A3_eV",
    "energy",
    "forces",
    "virial",
)  # what a checkpoint holds


PER_ATOM = ("positions", "velocities", "forces")


@dataclass(slots=True, kw_only=True, eq=False)
class State:
    """All replicas that are still in motion; arrays run atom after atom, replica after replica.

    Attributes:
        alive: shape (n,), their numbers among all.
        step: done so far.
        offsets: shape (n + 1,), first atom of each replica.
        owner: shape (n_atoms_total,), replica of each atom, from 0 to n - 1.
        mass_u: shape (n_atoms_total, 1).
        timestep_fs: shape (n,).
        temperature_K: shape (n,).
        pressure_eV_A3: shape (n,), NaN for a constant cell.
        freedom: shape (n,), degrees of freedom that the thermostat heats.
        group: shape (n_atoms_total,), numbered through all replicas.
        group_owner: shape (n_groups,), replica of each group.
        group_mass_u: shape (n_groups, 1).
        positions: shape (n_atoms_total, 3), Å.
        velocities: shape (n_atoms_total, 3), Å/fs.
        cells: shape (n, 3, 3), Å.
        compressibility_A3_eV: shape (n,), that the barostat takes for granted, Å^3/eV.
        added_eV: shape (n,), what thermostat and barostat have put in.
        energy, forces, virial: of the present positions, as `Forces`; the virial may be older.
    """

    alive: Int
    step: int
    offsets: Int
    owner: Int
    mass_u: Float
    timestep_fs: Float
    temperature_K: Float
    pressure_eV_A3: Float
    freedom: Float
    group: Int
    group_owner: Int
    group_mass_u: Float
    positions: Float
    velocities: Float
    cells: Float
    compressibility_A3_eV: Float
    added_eV: Float
    energy: Float
    forces: Float
    virial: Float

    def take(self, found: Forces) -> None:
        """Note what the model says of the present positions."""
        self.energy, self.forces = found.energy, found.forces
        if found.virial is not None:
            self.virial = found.virial

    def by_replica(self, per_atom: Float) -> Float:
        """Add up a number per atom, shape (n_atoms_total,), replica by replica: shape (n,)."""
        summed: Float = np.add.reduceat(per_atom, self.offsets[:-1])
        return summed

    def kinetic_eV(self) -> Float:
        """Return the kinetic energy of each replica, shape (n,)."""
        squares = np.einsum("ia,ia->i", self.velocities, self.velocities)
        return 0.5 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * self.by_replica(self.mass_u[:, 0] * squares)

    def volume_A3(self) -> Float:
        """Return the volume of each replica, shape (n,); zero for what has no cell."""
        found: Float = np.abs(np.linalg.det(self.cells))
        return found

    def group_means(self, per_atom: Float) -> Float:
        """Return mass-weighted means of groups, shape (n_groups, 3), of vectors per atom."""
        n = len(self.group_owner)
        weighted = self.mass_u * per_atom
        sums = np.stack([np.bincount(self.group, weighted[:, axis], minlength=n) for axis in range(3)], axis=1)
        means: Float = sums / self.group_mass_u
        return means

    def pressure(self) -> Float:
        """Return the pressure that a change of the volume by groups feels, shape (n,), eV/Å^3; NaN without a cell.

        3 V P = Σ M V² - ∂E/∂ln L over groups, where L scales the cell and the groups' centres: that derivative is the
        trace of the atoms' virial less the part that would stretch the groups.
        """
        centres, means = self.group_means(self.positions), self.group_means(self.velocities)
        within = np.einsum("ia,ia->i", self.forces, self.positions - centres[self.group])
        squares = self.group_mass_u[:, 0] * np.einsum("ga,ga->g", means, means)
        motion = EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * np.bincount(
            self.group_owner, squares, minlength=len(self.alive)
        )
        virial = np.trace(self.virial, axis1=1, axis2=2) + self.by_replica(within)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float = (motion - virial) / (3.0 * self.volume_A3())
        return np.where(self.volume_A3() > 0.0, found, np.nan)

    def keep(self, chosen: Int) -> None:
        """Go on with some replicas only, numbers among the present ones."""
        atoms = np.isin(self.owner, chosen)
        groups = np.isin(self.group_owner, chosen)
        counts = np.diff(self.offsets)[chosen]
        for name in ("mass_u", "positions", "velocities", "forces"):
            setattr(self, name, getattr(self, name)[atoms])
        for name in (
            "alive", "timestep_fs", "temperature_K", "pressure_eV_A3", "freedom", "cells", "added_eV",
            "compressibility_A3_eV", "energy", "virial",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name)[chosen])
        self.group = (np.cumsum(groups) - 1)[self.group[atoms]]
        self.group_owner = np.searchsorted(chosen, self.group_owner[groups])
        self.group_mass_u = self.group_mass_u[groups]
        self.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.owner = np.repeat(np.arange(len(chosen)), counts)

    def arrays(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {name: np.array(getattr(self, name)) for name in DYNAMIC} | {
            "alive": self.alive, "n_atoms": np.diff(self.offsets), "step": np.array(self.step),
        }  # fmt: skip

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Go back to a checkpoint of the same replicas."""
        self.keep(np.searchsorted(self.alive, arrays["alive"]))
        self.step = int(arrays["step"])
        for name in DYNAMIC:
            setattr(self, name, np.array(arrays[name]))


def starting(replicas: Sequence[Replica], schedule: Schedule) -> State:
    """Return the state of replicas at the start; groups must be whole, and velocities are drawn where there are none.

    Without Langevin's friction the centre of mass rests, and so does the rotation of what is not periodic: nothing
    would ever change them.
    """
    counts = np.array([len(one.atoms) for one in replicas], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    mass = np.concatenate([one.masses_array() for one in replicas])
    groups = [np.arange(len(one.atoms)) if one.group is None else renumbered(one.group) for one in replicas]
    n_groups = np.array([group.max() + 1 for group in groups], dtype=np.int64)
    shifted = np.concatenate([g + s for g, s in zip(groups, np.cumsum(n_groups) - n_groups, strict=True)])
    rests = schedule.thermostat != "langevin"
    velocities = [_velocities(one, rests=rests) for one in replicas]
    n = len(replicas)
    pressure = [np.nan if one.pressure_bar is None else one.pressure_bar for one in replicas]
    return State(
        alive=np.arange(n),
        step=0,
        offsets=offsets,
        owner=np.repeat(np.arange(n), counts),
        mass_u=mass[:, None],
        timestep_fs=np.array([one.timestep_fs for one in replicas]),
        temperature_K=np.array([one.temperature_K for one in replicas]),
        pressure_eV_A3=np.array(pressure) / BAR_PER_EV_PER_CUBIC_ANGSTROM,
        freedom=np.array([_freedom(one, rests=rests) for one in replicas]),
        group=shifted,
        group_owner=np.repeat(np.arange(n), n_groups),
        group_mass_u=np.bincount(shifted, mass).astype(np.float64)[:, None],
        positions=np.concatenate([one.atoms.positions for one in replicas]).astype(np.float64),
        velocities=np.concatenate(velocities),
        cells=np.array([np.where(one.atoms.pbc[:, None], one.atoms.cell.array, 0.0) for one in replicas]),
        compressibility_A3_eV=np.full(n, (schedule.compressibility_per_bar or 0.0) * BAR_PER_EV_PER_CUBIC_ANGSTROM),
        added_eV=np.zeros(n),
        energy=np.zeros(n),
        forces=np.zeros((int(offsets[-1]), 3)),
        virial=np.zeros((n, 3, 3)),
    )


def _freedom(replica: Replica, *, rests: bool) -> float:
    n = len(replica.atoms)
    if not rests or n == 1:  # a lone atom is left its motion, as it has no other
        return 3.0 * n
    return max(3.0 * n - 3.0 - (0.0 if replica.atoms.pbc.any() else _rotations(replica)), 1.0)


def _rotations(replica: Replica) -> float:
    inertia = _inertia(replica.atoms.positions, replica.masses_array())
    return float((np.linalg.eigvalsh(inertia) > 1e-6 * np.trace(inertia)).sum())


def _velocities(replica: Replica, *, rests: bool) -> Float:
    """Return velocities in Å/fs, shape (n_atoms, 3): the atoms' own, or drawn from Maxwell and Boltzmann."""
    masses = replica.masses_array()[:, None]
    momenta = replica.atoms.arrays.get("momenta")
    if momenta is not None and np.any(momenta):
        from ase.units import fs

        own: Float = momenta / replica.atoms.get_masses()[:, None] * fs
        return own
    width = np.sqrt(BOLTZMANN_EV_PER_K * replica.temperature_K / (masses * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    drawn: Float = width * noise.first_velocities(replica.seed, len(masses))
    if not rests or len(masses) == 1:
        return drawn
    drawn -= (masses * drawn).sum(axis=0) / masses.sum()
    if not replica.atoms.pbc.any():
        arm = replica.atoms.positions - (masses * replica.atoms.positions).sum(axis=0) / masses.sum()
        turning = (masses * np.cross(arm, drawn)).sum(axis=0)
        spin = np.linalg.pinv(_inertia(arm, masses[:, 0]), rcond=1e-6) @ turning
        drawn -= np.cross(spin, arm)
    return drawn


def _inertia(positions: Float, masses: Float) -> Float:
    arm = positions - masses @ positions / masses.sum()
    squares = (masses * np.einsum("ia,ia->i", arm, arm)).sum()
    inertia: Float = squares * np.eye(3) - np.einsum("i,ia,ib->ab", masses, arm, arm)
    return inertia
