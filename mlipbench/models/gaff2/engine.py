"""Replicas of EC and EMC driven by OpenMM instead of our integrators, and recorded like any other."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Float, Progress
from mlipbench.errors import NotApplicable
from mlipbench.models.gaff2.assign import assign
from mlipbench.models.gaff2.dynamics import Simulation

if TYPE_CHECKING:
    from ase import Atoms

ENGINE: Final = "OpenMM (CPU platform, LangevinMiddle, Monte Carlo barostat, hydrogen 3 u)"


def simulate(
    replicas: Sequence[Replica], schedule: Schedule, progress: Progress, *, cutoff_A: float, switch_A: float
) -> tuple[Track, ...]:
    """Run the replicas one after the other.

    Raises:
        NotApplicable: a box is not cubic, a molecule is neither EC nor EMC, or the thermostat is not Langevin's.
    """
    if schedule.thermostat != "langevin":
        raise NotApplicable(f"OpenMM drives GAFF2 with a Langevin thermostat here, not with '{schedule.thermostat}'")
    tracks = []
    for number, replica in enumerate(replicas):

        def report(done: int, total: int, remark: str, first: int = number) -> None:
            progress(first * total + done, len(replicas) * total, remark)

        tracks.append(_track(replica, schedule, report, cutoff_A=cutoff_A, switch_A=switch_A))
    return tuple(tracks)


def _track(replica: Replica, schedule: Schedule, progress: Progress, *, cutoff_A: float, switch_A: float) -> Track:
    known = assign(replica.atoms, where=f"replica {replica.name}")
    back = np.argsort(known.order)
    simulation = Simulation(
        names=known.names, temperature_K=replica.temperature_K, pressure_bar=replica.pressure_bar,
        timestep_fs=replica.timestep_fs, friction_per_ps=schedule.friction_per_ps, seed=replica.seed,
        edge_A=_edge_A(replica.atoms, replica.name), cutoff_A=cutoff_A, switch_A=switch_A,
    )  # fmt: skip
    simulation.begin(known.positions[known.order], relax=schedule.relaxation_steps > 0)
    sampled: list[tuple[float, ...]] = []
    frames: list[tuple[float, Float, Float, Float]] = []
    stride = gcd(schedule.sample_every, schedule.frame_every)
    for step in range(0, schedule.n_steps + 1, stride):
        time_ps = 1e-3 * step * replica.timestep_fs
        if step:
            simulation.step(1e-3 * stride * replica.timestep_fs)
        is_sampled, is_framed = step % schedule.sample_every == 0, step % schedule.frame_every == 0
        if not is_sampled and not is_framed:
            continue
        positions, edge_A, potential_eV = simulation.state()
        if is_sampled:
            pressure_bar = simulation.measured_pressure_bar()
            sampled.append((time_ps, potential_eV, simulation.kinetic_eV(), pressure_bar, edge_A**3))
        if is_framed:
            velocities = simulation.velocities()[back] if schedule.keeps_velocities else np.zeros((0, 3))
            frames.append((time_ps, positions[back], np.eye(3) * edge_A, velocities))
        if is_sampled:
            progress(step, schedule.n_steps, "dynamics by OpenMM")
    time, potential, kinetic, pressure, volume = np.array(sampled).T
    n = len(replica.atoms)
    return Track(
        name=replica.name, time_ps=time, potential_eV=potential, kinetic_eV=kinetic, pressure_bar=pressure,
        volume_A3=volume, conserved_eV=np.zeros(0),
        frame_time_ps=np.array([frame[0] for frame in frames]),
        positions=np.array([frame[1] for frame in frames], dtype=np.float32),
        cells=np.array([frame[2] for frame in frames]),
        velocities=np.array([frame[3] for frame in frames], dtype=np.float32).reshape(-1, n, 3),
        ended_ps=float(time[-1]),
    )  # fmt: skip


def _edge_A(atoms: Atoms, name: str) -> float:
    """Return the edge of a cubic box."""
    cell = atoms.cell.array
    if not atoms.pbc.all() or not np.allclose(cell, np.eye(3) * cell[0, 0], atol=1e-9):
        raise NotApplicable(f"replica {name}: OpenMM drives GAFF2 in cubic boxes only; the cell is {cell.tolist()}")
    return float(cell[0, 0])
