"""What are GAFF2's energy, forces and stress of a frame, in double precision?

In a cell the energy is a sum of two parts, each a function of positions and cell alone:

- bonds, angles, torsions, 1-4 pairs and particle-mesh Ewald charges, in the given cell;
- Lennard-Jones between molecules, smoothly switched off between `switch_A` and `cutoff_A`, in a supercell that is
  at least two cutoffs wide everywhere, per image. No dispersion correction.

Ewald's sum does not depend on where it is split between real and reciprocal space, so that the charges need no
supercell: this is the supercell's energy at a fraction of its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlipbench.core.model import Float
from mlipbench.errors import NotApplicable
from mlipbench.models.gaff2 import compose, openmm
from mlipbench.physics.cells import plane_spacings
from mlipbench.units import ANGSTROM_PER_NM, EV_PER_KJ_PER_MOL

LARGEST_CACHE = 32
STRAIN = 1e-4
LOWER = ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """Keeps OpenMM contexts, which are costly to make; not to be shared between threads.

    Attributes:
        cutoff_A: of Lennard-Jones in a cell.
        switch_A: where the switch to zero begins.
        ewald_tolerance: OpenMM's error tolerance, relative to the forces.
        platform: OpenMM's; "Reference" is the one in double precision.
    """

    cutoff_A: float
    switch_A: float
    ewald_tolerance: float
    platform: str
    _contexts: dict[Any, Any] = field(default_factory=dict)

    def alone(self, names: Sequence[str], positions: Float) -> tuple[float, Float]:
        """Return energy in eV and forces in eV/Å without a cell, all pairs.

        Args:
            names: of the molecules.
            positions: shape (n_atoms, 3), Å, in the order of `compose(names)`.
        """
        context = self._context(("alone", *names), lambda: compose(names))
        return _energy_and_forces(context, positions)

    def periodic(
        self, names: Sequence[str], positions: Float, cell: Float, *, with_stress: bool = True
    ) -> tuple[float, Float, Float]:
        """Return energy in eV, forces in eV/Å and stress in eV/Å^3 (3, 3) in a cell, ASE's sign.

        Args:
            names: of the molecules.
            positions: shape (n_atoms, 3), Å, in the order of `compose(names)`, molecules whole.
            cell: shape (3, 3), Å, rows are lattice vectors; any shape.
            with_stress: the stress costs twelve more energies; zeros when it is not wanted.

        Raises:
            NotApplicable: the cell has no volume.
        """
        lower, rotation = _lower_triangular(cell)
        turned = positions @ rotation
        parts = (self._charged(names, lower), self._dispersed(names, lower))
        energy, forces = 0.0, np.zeros_like(turned)
        for part in parts:
            part_energy, part_forces = part.energy_and_forces(turned, lower)
            energy, forces = energy + part_energy, forces + part_forces
        gradient = np.zeros((3, 3))
        for i, j in (
            LOWER if with_stress else ()
        ):  # a lower-triangular strain keeps the cell lower triangular; the energy knows no rotation
            strain = np.zeros((3, 3))
            strain[i, j] = STRAIN
            up, down = (
                sum(part.energy(turned @ (np.eye(3) + s), lower @ (np.eye(3) + s)) for part in parts)
                for s in (strain, -strain)
            )
            gradient[i, j] = gradient[j, i] = (up - down) / (2 * STRAIN)
        stress = rotation @ gradient @ rotation.T / np.linalg.det(lower)
        return energy, forces @ rotation.T, stress

    def _charged(self, names: Sequence[str], lower: Float) -> _Part:
        # Rounded down and up, so that similar cells share a context.
        cutoff_A = np.floor(10.0 * min(self.cutoff_A, 0.48 * float(np.diag(lower).min()))) / 10.0
        alpha = float(np.sqrt(-np.log(2 * self.ewald_tolerance))) / cutoff_A
        mesh = 2 * alpha * np.diag(lower) / (3 * self.ewald_tolerance**0.2)  # OpenMM's own rule
        size = tuple(int(4 * np.ceil(max(n, 6) / 4)) for n in mesh)
        key = ("charged", *names, cutoff_A, size)
        return _Part(self._context(key, lambda: _charged_system(names, cutoff_A, alpha, size)), (1, 1, 1))

    def _dispersed(self, names: Sequence[str], lower: Float) -> _Part:
        a, b, c = (int(np.ceil(2.01 * self.cutoff_A / height)) for height in plane_spacings(lower))
        images = list(names) * (a * b * c)
        key = ("dispersed", *names, a, b, c)
        context = self._context(key, lambda: _dispersed_system(images, self.cutoff_A, self.switch_A))
        return _Part(context, (a, b, c))

    def _context(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._contexts:
            if len(self._contexts) >= LARGEST_CACHE:
                del self._contexts[next(iter(self._contexts))]
            mm = openmm()
            platform = mm.Platform.getPlatformByName(self.platform)
            self._contexts[key] = mm.Context(make(), mm.VerletIntegrator(0.001), platform)
        return self._contexts[key]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the periodic energy, evaluated in `repeats` copies of the cell and given per copy."""

    context: Any
    repeats: tuple[int, int, int]

    def energy(self, positions: Float, lower: Float) -> float:
        self._place(positions, lower)
        return _energy(self.context) / float(np.prod(self.repeats))

    def energy_and_forces(self, positions: Float, lower: Float) -> tuple[float, Float]:
        images = self._place(positions, lower)
        energy, forces = _energy_and_forces(self.context, images)
        return energy / float(np.prod(self.repeats)), forces[: len(positions)]

    def _place(self, positions: Float, lower: Float) -> Float:
        self.context.setPeriodicBoxVectors(*(_reduced(lower * np.array(self.repeats)[:, None]) / ANGSTROM_PER_NM))
        images = np.concatenate([positions + np.array(n) @ lower for n in np.ndindex(*self.repeats)])
        self.context.setPositions(images / ANGSTROM_PER_NM)
        return images


def _energy(context: Any) -> float:
    return float(context.getState(getEnergy=True).getPotentialEnergy()._value) * EV_PER_KJ_PER_MOL


def _energy_and_forces(context: Any, positions: Float) -> tuple[float, Float]:
    context.setPositions(positions / ANGSTROM_PER_NM)
    state = context.getState(getEnergy=True, getForces=True)
    forces = np.array(state.getForces(asNumpy=True)._value) * (EV_PER_KJ_PER_MOL / ANGSTROM_PER_NM)
    return float(state.getPotentialEnergy()._value) * EV_PER_KJ_PER_MOL, forces


def _charged_system(names: Sequence[str], cutoff_A: float, alpha: float, mesh: tuple[int, ...]) -> Any:
    """Return everything but Lennard-Jones between molecules; 1-4 pairs have theirs."""
    system, nonbonded = _with_cutoff(names, "PME", cutoff_A)
    nonbonded.setPMEParameters(alpha * ANGSTROM_PER_NM, *mesh)
    for i in range(nonbonded.getNumParticles()):
        charge, sigma, _ = nonbonded.getParticleParameters(i)
        nonbonded.setParticleParameters(i, charge, sigma, 0.0)
    return system


def _dispersed_system(names: Sequence[str], cutoff_A: float, switch_A: float) -> Any:
    """Return Lennard-Jones between molecules and beyond 1-4 pairs inside them, and nothing else."""
    system, nonbonded = _with_cutoff(names, "CutoffPeriodic", cutoff_A)
    nonbonded.setUseSwitchingFunction(True)
    nonbonded.setSwitchingDistance(switch_A / ANGSTROM_PER_NM)
    for i in range(nonbonded.getNumParticles()):
        _, sigma, epsilon = nonbonded.getParticleParameters(i)
        nonbonded.setParticleParameters(i, 0.0, sigma, epsilon)
    for k in range(nonbonded.getNumExceptions()):
        i, j, *_ = nonbonded.getExceptionParameters(k)
        nonbonded.setExceptionParameters(k, i, j, 0.0, 1.0, 0.0)
    kinds = [type(force).__name__ for force in system.getForces()]
    for number in sorted((n for n, kind in enumerate(kinds) if kind != "NonbondedForce"), reverse=True):
        system.removeForce(number)
    return system


def _with_cutoff(names: Sequence[str], method: str, cutoff_A: float) -> tuple[Any, Any]:
    mm = openmm()
    system = compose(names)
    # Only a start: every evaluation sets its own, but OpenMM refuses a first one below two cutoffs.
    system.setDefaultPeriodicBoxVectors(*(np.eye(3) * 10.0 * cutoff_A / ANGSTROM_PER_NM))
    kinds = [type(force).__name__ for force in system.getForces()]
    nonbonded = system.getForce(kinds.index("NonbondedForce"))
    nonbonded.setNonbondedMethod(getattr(mm.NonbondedForce, method))
    nonbonded.setCutoffDistance(cutoff_A / ANGSTROM_PER_NM)
    nonbonded.setUseDispersionCorrection(False)
    return system, nonbonded


def _lower_triangular(cell: Float) -> tuple[Float, Float]:
    """Return the cell turned so that a lies on x and b in xy, and R with cell @ R = lower; R may mirror."""
    q, r = np.linalg.qr(cell.T)
    signs = np.where(np.diag(r) < 0.0, -1.0, 1.0)
    lower, rotation = (r * signs[:, None]).T, q * signs
    if np.diag(lower).min() < 1e-6:
        raise NotApplicable(f"the cell has no volume: {cell.tolist()}; GAFF2 needs three independent lattice vectors")
    return lower, rotation


def _reduced(lower: Float) -> Float:
    """Return other vectors of the same lattice, in the form OpenMM asks for.

    >>> _reduced(np.array([[2.0, 0, 0], [1.5, 2, 0], [0, 0, 2]])).tolist()
    [[2.0, 0.0, 0.0], [-0.5, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    a, b, c = lower
    c = c - b * np.round(c[1] / b[1])
    c = c - a * np.round(c[0] / a[0])
    b = b - a * np.round(b[0] / a[0])
    return np.array([a, b, c])
