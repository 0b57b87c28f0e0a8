"""What is set in motion, how, and what is left of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from mlipbench.core.model import Float, Int, Progress
from mlipbench.errors import BadInput

if TYPE_CHECKING:
    from ase import Atoms

Thermostat: TypeAlias = Literal["none", "langevin", "rescaling"]
THERMOSTATS: tuple[Thermostat, ...] = ("none", "langevin", "rescaling")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replica:
    """One system, with its own temperature, pressure, time step, masses and random numbers.

    Attributes:
        name: unique among those simulated together.
        atoms: where it starts; its momenta are kept when there are any, otherwise velocities are drawn.
        seed: of all its random numbers, which depend on nothing else.
        temperature_K: of the drawn velocities, and of the thermostat.
        pressure_bar: of the barostat; None keeps the cell.
        timestep_fs: of the integrator.
        masses_u: shape (n_atoms,); None takes those of the atoms.
        group: shape (n_atoms,), which atoms a change of the volume moves together, such as molecules; None for each
            atom on its own. Any fixed grouping samples the same ensemble.

    Raises:
        BadInput: a number is out of range, or an array has another length than there are atoms.
    """

    name: str
    atoms: Atoms
    seed: int
    temperature_K: float
    pressure_bar: float | None = None
    timestep_fs: float = 1.0
    masses_u: Float | None = None
    group: Int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot move."""
        where, n = f"replica {self.name}", len(self.atoms)
        if not n:
            raise BadInput(f"{where}: it has no atoms")
        if not 0.0 <= self.temperature_K < np.inf or not 0.0 < self.timestep_fs < np.inf:
            raise BadInput(
                f"{where}: temperature_K = {self.temperature_K} and timestep_fs = {self.timestep_fs}; "
                "a temperature of 0 or more and a positive time step are needed"
            )
        for name in ("masses_u", "group"):
            given = getattr(self, name)
            if given is not None and given.shape != (n,):
                raise BadInput(f"{where}: {name} has shape {given.shape}; one number for each of {n} atoms is needed")
        masses = self.masses_array()
        if not ((masses > 0.0) & (masses < np.inf)).all():
            raise BadInput(f"{where}: every mass must be positive")
        if self.pressure_bar is not None and not np.isfinite(self.pressure_bar):
            raise BadInput(f"{where}: pressure_bar is {self.pressure_bar}; it must be finite")
        if self.pressure_bar is not None and not self.atoms.pbc.all():
            raise BadInput(f"{where}: a pressure needs a cell that is periodic in all three directions")

    def masses_array(self) -> Float:
        """Return the masses, shape (n_atoms,), u."""
        found: Float = self.atoms.get_masses() if self.masses_u is None else self.masses_u
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long, with which thermostat and barostat, and what is kept.

    Attributes:
        n_steps: of every replica.
        thermostat: "langevin" (BAOAB), "rescaling" (stochastic velocity rescaling), or "none".
        friction_per_ps: of "langevin".
        thermostat_ps: relaxation time of "rescaling".
        barostat_ps: relaxation time of the volume, of something as compressible as is said next.
        compressibility_per_bar: it changes how fast the volume moves, not where it goes; None measures it at the start,
            where nothing has had time to give way: a liquid is some times softer, and so slower.
        barostat_every: steps between changes of the volume; each costs one more evaluation.
        sample_every: steps between entries of energy, pressure and volume.
        frame_every: steps between frames.
        keeps_velocities: are velocities kept with the frames?
        samples_pressure: is the pressure sampled too? It costs a virial each time.
        relaxation_steps: of FIRE, before velocities are drawn.

    Raises:
        BadInput: a number is out of range.
    """

    n_steps: int
    thermostat: Thermostat = "langevin"
    friction_per_ps: float = 1.0
    thermostat_ps: float = 0.1
    barostat_ps: float = 0.3
    compressibility_per_bar: float | None = None
    barostat_every: int = 10
    sample_every: int = 10
    frame_every: int = 100
    keeps_velocities: bool = False
    samples_pressure: bool = True
    relaxation_steps: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no schedule."""
        if self.thermostat not in THERMOSTATS:
            raise BadInput(f"thermostat '{self.thermostat}' is none of {', '.join(THERMOSTATS)}")
        for name, least in (
            ("n_steps", 0), ("relaxation_steps", 0), ("barostat_every", 1), ("sample_every", 1), ("frame_every", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise BadInput(f"dynamics: {name} is {getattr(self, name)}; it must be {least} or more")
        for name in ("friction_per_ps", "thermostat_ps", "barostat_ps", "compressibility_per_bar"):
            if getattr(self, name) is not None and not 0.0 < getattr(self, name) < np.inf:
                raise BadInput(f"dynamics: {name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """What was kept of one replica.

    Attributes:
        name: of the replica.
        time_ps: shape (n_samples,).
        potential_eV, kinetic_eV, pressure_bar, volume_A3: shape (n_samples,); the pressure is zero and the volume is
            zero for what has no cell.
        conserved_eV: shape (n_samples,), energy less what thermostat and barostat have put in; its drift is the
            integrator's error. Empty where the driver does not keep account.
        frame_time_ps: shape (n_frames,).
        positions: shape (n_frames, n_atoms, 3), Å, single precision, never wrapped, groups whole.
        cells: shape (n_frames, 3, 3), Å.
        velocities: shape (n_frames, n_atoms, 3), Å/fs, single precision; (0, n_atoms, 3) when they are not kept.
        ended_ps: time of the last step.
        failure: why it ended before its time, one sentence; empty when it did not.
    """

    name: str
    time_ps: Float
    potential_eV: Float
    kinetic_eV: Float
    pressure_bar: Float
    volume_A3: Float
    conserved_eV: Float
    frame_time_ps: Float
    positions: np.ndarray[Any, np.dtype[np.float32]]
    cells: Float
    velocities: np.ndarray[Any, np.dtype[np.float32]]
    ended_ps: float
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forces:
    """What a model says of some replicas at once.

    Attributes:
        energy: shape (n_replicas,), eV.
        forces: shape (n_atoms_total, 3), eV/Å.
        virial: shape (n_replicas, 3, 3), dE/dstrain, eV; None when it was not asked for.
    """

    energy: Float
    forces: Float
    virial: Float | None


class Batch(Protocol):
    """The same replicas asked again and again while their atoms move."""

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Return energies and forces.

        Args:
            positions: shape (n_atoms_total, 3), Å, replica after replica.
            cells: shape (n_replicas, 3, 3), Å.
            with_virial: all replicas are periodic in all directions, and their virial is wanted.

        Raises:
            ModelFailure: the model has no answer for one of them.
        """

    def keep(self, chosen: Int) -> None:
        """Go on with these replicas only, shape (n_kept,), numbers among the present ones, ascending."""

    def memory(self) -> Mapping[str, Float]:
        """Return what the next answer depends on beside its arguments, such as where neighbours were searched."""

    def recall(self, memory: Mapping[str, Float]) -> None:
        """Take back what `memory` returned for the same replicas."""


@runtime_checkable
class Batched(Protocol):
    """A model that evaluates many systems at once, and keeps their neighbour lists."""

    def batch(self, frames: Sequence[Atoms]) -> Batch:
        """Return what evaluates these systems as they move.

        Raises:
            NotApplicable: a frame holds what the model does not cover.
        """


@runtime_checkable
class OwnDynamics(Protocol):
    """A model with a simulation engine of its own; its name stands in the report."""

    @property
    def engine(self) -> str:
        """Name of the engine, with integrator and barostat."""

    def simulate(self, replicas: Sequence[Replica], schedule: Schedule, progress: Progress) -> tuple[Track, ...]:
        """Run the replicas, each on its own.

        Raises:
            NotApplicable: the engine cannot run a replica.
        """
