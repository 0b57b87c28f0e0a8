"""When did a trajectory go wrong, and who may average over one that did?"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlipbench.benchmarks.molecular import radii_A
from mlipbench.benchmarks.motion import Motion, Moved
from mlipbench.core.dynamics import Replica, Track
from mlipbench.core.model import Float, Int
from mlipbench.errors import ModelFailure
from mlipbench.physics.failures import KINDS, Failure, Kind, Trajectory, first_failure

# What the positions alone tell, whatever the temperature.
STRUCTURAL: Final[tuple[Kind, ...]] = ("atoms too close", "hydrogen loss", "fragmentation", "bond change")


def ends(wanted: Motion, found: Moved) -> dict[str, Float | Int]:
    """Return when each trajectory failed or ended, ps, and which of `KINDS` it was; -1 for none."""
    ended, failure = [], []
    for replica, track, molecule in zip(found.replicas, found.tracks, found.molecules, strict=True):
        first = watched(wanted, replica, track, molecule)
        ended.append(track.ended_ps if first is None else min(first.time_ps, track.ended_ps))
        failure.append(-1 if first is None else KINDS.index(first.kind))
    return {"ended": np.array(ended), "failure": np.array(failure, dtype=np.int64)}


def watched(wanted: Motion, replica: Replica, track: Track, molecule: Int) -> Failure | None:
    """Return what went wrong first in a trajectory, by the detectors or by its own end."""
    first = first_failure(
        Trajectory(
            radii_A=radii_A(replica.atoms.numbers, wanted.lone_elements),
            is_hydrogen=replica.atoms.numbers == 1,
            masses_u=replica.masses_array(),
            pbc=np.asarray(replica.atoms.pbc),
            molecule=molecule,
            time_ps=track.time_ps,
            potential_eV=track.potential_eV,
            kinetic_eV=track.kinetic_eV,
            volume_A3=track.volume_A3,
            conserved_eV=track.conserved_eV,
            temperature_K=replica.temperature_K,
            frame_time_ps=track.frame_time_ps,
            positions=track.positions,
            cells=track.cells,
            velocities=track.velocities,
        )
    )
    if not track.failure or (first is not None and first.time_ps <= track.ended_ps):
        return first
    named: Kind = next((kind for kind in KINDS if track.failure.startswith(kind)), "ended early")
    return Failure(kind=named, time_ps=track.ended_ps, reason=track.failure)


def refuse_failed(wanted: Motion, found: Moved) -> None:
    """Raise when a trajectory went wrong by the criteria of `stability`: a broken liquid has no average.

    One of several is enough. What the others would have given is no measure of a model that loses some, and a value
    over survivors would be better the earlier the worst ones die.

    Raises:
        ModelFailure: with the first one's time and reason, and how many there are.
    """
    every = [watched(wanted, *one) for one in zip(found.replicas, found.tracks, found.molecules, strict=True)]
    for replica, failure in zip(found.replicas, every, strict=True):
        if failure is not None:
            n = sum(one is not None for one in every)
            raise ModelFailure(
                f"{n} of {len(every)} trajectories failed; that at {condition(replica)} after {failure.time_ps:.3f} ps:"
                f" {failure.kind}: {failure.reason}"
            )


def refuse_ended(wanted: Motion, found: Moved) -> None:
    """Raise when a trajectory ended early or came apart, where temperatures that no thermostat holds are no criterion.

    Without forces, energy is conserved to the last digit while molecules fly apart.

    Raises:
        ModelFailure: with the first one's time and reason.
    """
    for replica, track, molecule in zip(found.replicas, found.tracks, found.molecules, strict=True):
        if track.failure:
            raise ModelFailure(f"dynamics at {condition(replica)} ended after {track.ended_ps:.3f} ps: {track.failure}")
        failure = watched(wanted, replica, track, molecule)
        if failure is not None and failure.kind in STRUCTURAL:
            raise ModelFailure(
                f"dynamics at {condition(replica)} came apart after {failure.time_ps:.3f} ps: {failure.kind}:"
                f" {failure.reason}"
            )


def condition(replica: Replica) -> str:
    """Return what people call its temperature and pressure."""
    pressure = "" if replica.pressure_bar is None else f", {replica.pressure_bar:g} bar"
    return f"{replica.temperature_K:g} K{pressure}"
