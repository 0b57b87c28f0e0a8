"""What do the benchmarks of dynamics share: how frames become replicas, and who drives them?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from scipy import stats

from mlipbench.benchmarks.frames import predict_all
from mlipbench.benchmarks.molecular import LONE_ELEMENTS, radii_A
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.dynamics import OwnDynamics, Replica, Schedule, Track
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable
from mlipbench.physics.masses import repartitioned
from mlipbench.physics.molecules import find_bonds, find_molecules, unwrap
from mlipbench.physics.statistics import CONFIDENCE
from mlipbench.simulate.driver import run

if TYPE_CHECKING:
    from ase import Atoms

SAMPLE_PS: Final = 0.05
FRAME_PS: Final = 0.25
ROUNDING_PS: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """Parameters of every benchmark that sets atoms in motion. Rows with the same ones share their trajectories.

    Attributes:
        n_replicas: independent trajectories, each from another frame and with other velocities.
        duration_ps: of each.
        other_durations_ps: for kinds of models that are slow or fast, as in {mace = 3.0}. What is scored is the part
            that all kinds have; the rest of a longer run is only shown.
        compared_ps: length over which models are compared; None takes the shortest of these durations.
        timestep_fs: of the integrator.
        hydrogen_mass_u: hydrogen atoms are made so heavy; None keeps their mass.
        temperature_K: None takes the data's own, from the key temperature_K of each frame.
        pressure_bar: likewise.
        friction_per_ps: of Langevin's thermostat.
        driver: "own" lets a model that has a simulation engine use it, "ours" drives every model alike.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    n_replicas: int = 4
    duration_ps: float = 20.0
    other_durations_ps: Mapping[str, float] = field(default_factory=dict)
    compared_ps: float | None = None
    timestep_fs: float = 2.0
    hydrogen_mass_u: float | None = 3.0
    temperature_K: float | None = None
    pressure_bar: float | None = None
    friction_per_ps: float = 1.0
    driver: Literal["own", "ours"] = "own"
    lone_elements: tuple[str, ...] = LONE_ELEMENTS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moved:
    """Trajectories and what moved.

    Attributes:
        replicas: what was simulated.
        tracks: what was kept of each.
        molecules: per replica, shape (n_atoms,), molecule number of each atom.
        is_own: did the model's own engine drive it?
    """

    replicas: tuple[Replica, ...]
    tracks: tuple[Track, ...]
    molecules: tuple[Int, ...]
    is_own: bool

    @property
    def mass_u(self) -> Float:
        """Mass of each replica, shape (n_replicas,)."""
        return np.array([one.masses_array().sum() for one in self.replicas])


def duration_ps(wanted: Motion, model: Model) -> float:
    """Return how long this model's trajectories are."""
    found = wanted.other_durations_ps.get(model.spec.kind, wanted.duration_ps)
    if not found > 0.0 or wanted.n_replicas < 1 or not wanted.timestep_fs > 0.0:
        raise BadInput(
            f"dynamics: duration {found} ps, n_replicas = {wanted.n_replicas}, timestep_fs = {wanted.timestep_fs}; "
            "all must be positive"
        )
    return found


def compared_ps(wanted: Motion) -> float:
    """Return the length that every model is judged by, whatever its kind.

    Raises:
        BadInput: some kind's trajectories are shorter than `compared_ps`.

    >>> compared_ps(Motion(duration_ps=20.0, other_durations_ps={"mace": 1.5}))
    1.5
    """
    shortest = min((wanted.duration_ps, *wanted.other_durations_ps.values()))
    if wanted.compared_ps is None:
        return shortest
    if not 0.0 < wanted.compared_ps <= shortest:
        raise BadInput(
            f"dynamics: compared_ps = {wanted.compared_ps}, but the shortest trajectories have {shortest} ps; it must"
            " be positive and not above that"
        )
    return wanted.compared_ps


def moved(
    wanted: Motion,
    model: Model,
    data: Dataset,
    context: Context,
    *,
    conditions: Sequence[tuple[float, float]] = (),
    fixed_cell: bool = False,
    schedule: Schedule | None = None,
    purpose: str = "npt",
    settling_ps: float = 0.0,
    is_whole: bool = False,
) -> Moved:
    """Set frames of the data in motion.

    Args:
        wanted: parameters.
        model: what moves them.
        data: frames to start from, spread over its trajectories.
        context: seed, progress and scratch folder.
        conditions: temperature (K) and pressure (bar), with `n_replicas` each; none takes the parameters' own, or else
            the data's.
        fixed_cell: is the cell left as it is, whatever the pressure?
        schedule: None takes Langevin dynamics with a sample every 0.05 ps and a frame every 0.25 ps.
        purpose: part of the seeds: what is simulated for one purpose is independent of what is for another.
        settling_ps: of the schedule, before what is compared begins.
        is_whole: are trajectories returned to their end, or as far as all kinds of models have them?

    Raises:
        NotApplicable: there are no frames, or no temperature is known.
    """
    if not len(data):
        raise NotApplicable(f"data set {data.spec.name} has no frames here to start from")
    length_ps, common_ps = duration_ps(wanted, model), compared_ps(wanted)
    starts = _starts(data, wanted.n_replicas)
    replicas, molecules = [], []
    for number, condition in enumerate(conditions or [None]):
        for k, i in enumerate(starts):
            atoms, molecule, masses = prepared(data, i, wanted)
            temperature_K, pressure_bar = condition or _state(data, i, wanted)
            if fixed_cell or not atoms.pbc.all():
                pressure_bar = None
            replicas.append(
                Replica(
                    name=f"{number}-{k}", atoms=atoms, seed=seed_of(context.seed, purpose, number, k),
                    temperature_K=temperature_K, pressure_bar=pressure_bar, timestep_fs=wanted.timestep_fs,
                    masses_u=masses, group=molecule,
                )
            )  # fmt: skip
            molecules.append(molecule)
    plan = schedule or Schedule(
        n_steps=round(1e3 * length_ps / wanted.timestep_fs),
        friction_per_ps=wanted.friction_per_ps,
        sample_every=max(1, round(1e3 * SAMPLE_PS / wanted.timestep_fs)),
        frame_every=max(1, round(1e3 * FRAME_PS / wanted.timestep_fs)),
        keeps_velocities=True,
    )
    is_own = wanted.driver == "own" and isinstance(model, OwnDynamics) and plan.thermostat == "langevin"
    try:
        tracks = run(model, replicas, plan, progress=context.progress, scratch=context.scratch, by_own_engine=is_own)
    except MissingPackage:
        raise
    except NotApplicable as refusal:
        # one that answers where the dynamics begins covers the system, and must not choose where to stop
        predict_all(model, [replica.atoms for replica in replicas], context, remark="frames to start from")
        raise ModelFailure(f"the model answers for the frames to start from and refuses others: {refusal}") from None
    kept = tracks if is_whole else tuple(until(track, settling_ps + common_ps) for track in tracks)
    return Moved(replicas=tuple(replicas), tracks=kept, molecules=tuple(molecules), is_own=is_own)


def until(track: Track, end_ps: float) -> Track:
    """Return the part of a trajectory up to a time; what ended it later has not happened."""
    last = end_ps + ROUNDING_PS
    if track.ended_ps <= last:
        return track
    samples, frames = track.time_ps <= last, track.frame_time_ps <= last
    return replace(
        track, time_ps=track.time_ps[samples], potential_eV=track.potential_eV[samples],
        kinetic_eV=track.kinetic_eV[samples], pressure_bar=track.pressure_bar[samples],
        volume_A3=track.volume_A3[samples],
        conserved_eV=track.conserved_eV[samples] if len(track.conserved_eV) else track.conserved_eV,
        frame_time_ps=track.frame_time_ps[frames], positions=track.positions[frames], cells=track.cells[frames],
        velocities=track.velocities[frames] if len(track.velocities) else track.velocities,
        ended_ps=end_ps, failure="",
    )  # fmt: skip


def seed_of(seed: int, purpose: str, number: int, k: int) -> int:
    """Return a seed that depends on nothing but these."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{number}:{k}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _starts(data: Dataset, n: int) -> list[int]:
    """Return frames to start from: one of each trajectory first, then others, then again the same."""
    order, seen = [], set[str]()
    for i, name in enumerate(data.trajectory):
        if name not in seen:
            seen.add(name)
            order.append(i)
    order += [i for i in range(len(data)) if i not in set(order)]
    return [order[k % len(order)] for k in range(n)]


def _state(data: Dataset, i: int, wanted: Motion) -> tuple[float, float | None]:
    """Return temperature and pressure of a frame."""
    info = data.frames[i].info
    temperature = wanted.temperature_K if wanted.temperature_K is not None else info.get("temperature_K")
    pressure = wanted.pressure_bar if wanted.pressure_bar is not None else info.get("pressure_bar")
    if temperature is None:
        raise NotApplicable(
            f"data set {data.spec.name}: frame {data.uid[i]} has no key temperature_K; "
            "set temperature_K in the row's parameters"
        )
    return float(temperature), None if pressure is None else float(pressure)


def prepared(data: Dataset, i: int, wanted: Motion) -> tuple[Atoms, Int, Float]:
    """Return a frame with whole molecules, the molecule of each atom, and the masses to move it with."""
    frame = data.frames[i].copy()
    frame.info = {name: frame.info[name] for name in ("charge", "spin") if name in frame.info}
    radii = radii_A(frame.numbers, wanted.lone_elements)
    cell, pbc = np.asarray(frame.cell.array, dtype=np.float64), frame.pbc
    first, last = data.offsets[i], data.offsets[i + 1]
    if data.molecule is not None:
        molecule = data.molecule[first:last]
    else:
        molecule = find_molecules(frame.positions, cell, pbc, radii=radii)
    try:
        frame.positions = unwrap(frame.positions, cell, pbc, molecule, radii=radii)
    except NotApplicable:  # a crystal or a polymer: every atom moves with the volume on its own
        molecule = np.arange(len(frame))
    masses: Float = frame.get_masses()
    if wanted.hydrogen_mass_u is not None:
        bonds = find_bonds(frame.positions, cell, pbc, radii=radii)
        masses = repartitioned(masses, frame.numbers, bonds, hydrogen_mass_u=wanted.hydrogen_mass_u)
    return frame, molecule, masses


def named(data: Dataset, name: str) -> Float:
    """Return an array of the reference's own dynamics for the state of these frames.

    Raises:
        NotApplicable: the frames belong to several states, or the data set has no such array.
    """
    states = sorted(set(data.config_type))
    if len(states) != 1:
        raise NotApplicable(
            f"data set {data.spec.name}: the frames belong to {len(states)} states; choose a split of one"
        )
    key = f"{states[0]}/{name}"
    if key not in data.observables:
        raise NotApplicable(
            f"data set {data.spec.name} holds no '{key}' to compare with; this needs the reference's own dynamics"
        )
    found: Float = data.observables[key]
    return found


def distance(metric: Metric, difference: float, stderr: float, *, n: int, freedom: float | None = None) -> MetricValue:
    """Return the size of a difference with the interval that its standard error gives, which may reach zero.

    Args:
        metric: what it is.
        difference: of either sign, in the metric's unit.
        stderr: of the difference, both sides' errors in it.
        n: independent trajectories.
        freedom: degrees of freedom of the error, for Student's t; None takes n - 1, and below two there is no interval.
    """
    if freedom is None and n < 2:
        return MetricValue(metric=metric.name, value=abs(difference), n=n)
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1 if freedom is None else freedom)) * stderr
    return MetricValue(
        metric=metric.name, value=abs(difference), stderr=stderr,
        low=max(0.0, abs(difference) - reach), high=abs(difference) + reach, n=n,
    )  # fmt: skip
