"""How does OpenMM move GAFF2 molecules: Langevin dynamics, with its Monte Carlo barostat where there is a pressure?

The Hamiltonian is that of `evaluate`, in one cell that is at least two cutoffs wide, in single precision and with a
coarser Ewald sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from mlipbench.core.model import Float
from mlipbench.errors import NotApplicable
from mlipbench.models.gaff2 import CUTOFF_A, SWITCH_A, compose, openmm
from mlipbench.units import ANGSTROM_PER_NM, EV_PER_KJ_PER_MOL, density_g_per_cm3

EWALD_TOLERANCE: Final = 5e-4
HYDROGEN_MASS_U: Final = 3.0  # with 2 fs conserves energy as 1 fs with 1 u does; static averages do not feel masses
BAROSTAT_EVERY: Final = 25  # steps


@dataclass(slots=True, kw_only=True)
class Simulation:
    """A cubic box of EC and EMC molecules in motion; owns an OpenMM context.

    Attributes:
        names: of the molecules, atoms in the order of `compose(names)`.
        temperature_K: of the Langevin thermostat.
        pressure_bar: of the barostat; None for a constant cell.
        timestep_fs: of the integrator (BAOAB-like "middle" scheme), hydrogen atoms 3 u.
        friction_per_ps: of the thermostat.
        seed: of noise, barostat and starting velocities.
        edge_A: of the cubic box at the start.
        cutoff_A: of Lennard-Jones, and of the real-space part of Ewald's sum.
        switch_A: where Lennard-Jones begins to be switched off.
    """

    names: Sequence[str]
    temperature_K: float
    pressure_bar: float | None
    timestep_fs: float
    friction_per_ps: float
    seed: int
    edge_A: float
    cutoff_A: float = CUTOFF_A
    switch_A: float = SWITCH_A
    _context: Any = field(init=False, repr=False)
    _integrator: Any = field(init=False, repr=False)
    _barostat: Any = field(init=False, repr=False)
    _mass_u: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the context.

        Raises:
            NotApplicable: OpenMM is not installed, or the box is less than two cutoffs wide.
        """
        mm = openmm()
        if self.edge_A < 2.0 * self.cutoff_A:
            raise NotApplicable(
                f"GAFF2 dynamics: the box is {self.edge_A:.2f} Å wide; two cutoffs are {2 * self.cutoff_A:.2f} Å"
            )
        system = moving_system(self.names, edge_A=self.edge_A, cutoff_A=self.cutoff_A, switch_A=self.switch_A)
        # One that never acts measures the pressure of a constant cell.
        self._barostat = mm.MonteCarloBarostat(
            self.pressure_bar or 0.0, self.temperature_K, BAROSTAT_EVERY if self.pressure_bar is not None else 0
        )
        self._barostat.setRandomNumberSeed(_seed(self.seed + 1))
        system.addForce(self._barostat)
        self._integrator = mm.LangevinMiddleIntegrator(
            self.temperature_K, self.friction_per_ps, self.timestep_fs / 1000.0
        )
        self._integrator.setRandomNumberSeed(_seed(self.seed))
        self._mass_u = sum(system.getParticleMass(i)._value for i in range(system.getNumParticles()))
        # One thread and sums in a fixed order: the same numbers every time on one machine.
        options = {"Threads": "1", "DeterministicForces": "true"}
        self._context = mm.Context(system, self._integrator, mm.Platform.getPlatformByName("CPU"), options)

    def begin(self, positions: Float, *, relax: bool = True) -> None:
        """Set positions, shape (n_atoms, 3) in Å, relax them a little, and draw velocities."""
        self._context.setPositions(positions / ANGSTROM_PER_NM)
        if relax:
            openmm().LocalEnergyMinimizer.minimize(self._context, maxIterations=500)
        self._context.setVelocitiesToTemperature(self.temperature_K, _seed(self.seed + 2))

    def step(self, duration_ps: float) -> None:
        """Go on for a while."""
        self._integrator.step(round(1000.0 * duration_ps / self.timestep_fs))

    def density_g_cm3(self) -> float:
        """Return the density now."""
        edge_A = self._context.getState().getPeriodicBoxVectors(asNumpy=True)._value[0, 0] * ANGSTROM_PER_NM
        return density_g_per_cm3(self._mass_u, float(edge_A) ** 3)

    def state(self) -> tuple[Float, float, float]:
        """Return positions, shape (n_atoms, 3), Å, molecules whole; the box's edge, Å; the potential energy, eV."""
        state = self._context.getState(getPositions=True, getEnergy=True)
        edge_A = float(state.getPeriodicBoxVectors(asNumpy=True)._value[0, 0]) * ANGSTROM_PER_NM
        potential_eV = float(state.getPotentialEnergy()._value) * EV_PER_KJ_PER_MOL
        return np.array(state.getPositions(asNumpy=True)._value) * ANGSTROM_PER_NM, edge_A, potential_eV

    def kinetic_eV(self) -> float:
        """Return the kinetic energy."""
        return float(self._context.getState(getEnergy=True).getKineticEnergy()._value) * EV_PER_KJ_PER_MOL

    def measured_pressure_bar(self) -> float:
        """Return the pressure now, by OpenMM's finite difference over scaled molecules."""
        return float(self._barostat.computeCurrentPressure(self._context)._value)

    def velocities(self) -> Float:
        """Return velocities, shape (n_atoms, 3), Å/fs."""
        state = self._context.getState(getVelocities=True)
        return np.array(state.getVelocities(asNumpy=True)._value) * (ANGSTROM_PER_NM / 1000.0)

    def checkpoint(self) -> bytes:
        """Return what it takes to go on, random numbers too; good for the same machine and version.

        Not how far the barostat has learned the size of its steps: it begins anew, and the ensemble is the same.
        """
        return bytes(self._context.createCheckpoint())

    def restore(self, checkpoint: bytes) -> None:
        """Go back to a checkpoint."""
        self._context.loadCheckpoint(checkpoint)


def moving_system(names: Sequence[str], *, edge_A: float, cutoff_A: float, switch_A: float) -> Any:
    """Return an `openmm.System` in a cubic box, hydrogen atoms 3 u at the expense of what they are bonded to."""
    mm = openmm()
    system = compose(names)
    system.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in np.eye(3) * edge_A / ANGSTROM_PER_NM))
    for force in system.getForces():
        if isinstance(force, mm.NonbondedForce):
            force.setNonbondedMethod(mm.NonbondedForce.PME)
            force.setCutoffDistance(cutoff_A / ANGSTROM_PER_NM)
            force.setUseSwitchingFunction(True)
            force.setSwitchingDistance(switch_A / ANGSTROM_PER_NM)
            force.setUseDispersionCorrection(False)
            force.setEwaldErrorTolerance(EWALD_TOLERANCE)
        if isinstance(force, mm.HarmonicBondForce):
            _repartition(system, force)
    return system


def _repartition(system: Any, bonds: Any) -> None:
    """Move mass from heavy atoms to the hydrogen atoms bonded to them."""
    masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
    for k in range(bonds.getNumBonds()):
        i, j = bonds.getBondParameters(k)[:2]
        light, heavy = (i, j) if masses[i] < masses[j] else (j, i)
        if masses[light] < 2.0:
            system.setParticleMass(heavy, system.getParticleMass(heavy)._value - (HYDROGEN_MASS_U - masses[light]))
            system.setParticleMass(light, HYDROGEN_MASS_U)


def _seed(number: int) -> int:
    """Return a seed that OpenMM takes as it is; 0 would mean a random one."""
    return number % (2**31 - 2) + 1
