"""All replicas in motion, to the end or on from where they were interrupted.

A step is half a kick, half a drift, friction and noise, half a drift, new forces, half a kick (BAOAB; velocity Verlet
without friction). A replica that fails leaves the batch; the others do not notice, since random numbers are their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Batch, Forces, OwnDynamics, Replica, Schedule, Track
from mlipbench.core.model import Bool, Float, Int, Model, Progress
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.files.hashes import canonical_id
from mlipbench.simulate import integrate
from mlipbench.simulate.fallback import batch_of
from mlipbench.simulate.noise import Noise
from mlipbench.simulate.record import Record, finished, keep
from mlipbench.simulate.relax import relaxed
from mlipbench.simulate.state import PER_ATOM, State, starting
from mlipbench.units import BAR_PER_EV_PER_CUBIC_ANGSTROM, BOLTZMANN_EV_PER_K

if TYPE_CHECKING:
    from ase import Atoms

VERSION: Final = 1  # moves when the same input would give other numbers; what was simulated before then counts no more
SAVE_EVERY_S: Final = 20.0
LONGEST_MOVE_A: Final = 1.0  # in one step; nothing that is well does that
STRAIN: Final = 1e-3  # of lengths, to measure the compressibility
COMPRESSIBILITIES_PER_BAR: Final = (1e-7, 1e-4)  # from diamond to a liquid under its own vapour pressure
LARGEST_CHANGE: Final = 5.0  # of the volume, up or down, against the start
HOTTEST_K: Final = 1e5  # as in the code of Fu et al., TMLR (2023)
PS_PER_NS: Final = 1e3
SECONDS_PER_DAY: Final = 86400.0


def run(
    model: Model,
    replicas: Sequence[Replica],
    schedule: Schedule,
    *,
    progress: Progress,
    scratch: Path | None = None,
    by_own_engine: bool = False,
    save_every_s: float = SAVE_EVERY_S,
) -> tuple[Track, ...]:
    """Simulate the replicas together and return what was kept of each.

    Args:
        model: a `Batched` one is asked about all replicas at once, any other through its ASE calculator.
        replicas: one or more, with different names.
        schedule: for all of them.
        progress: called with steps done, steps in all, and ns/day (all replicas together) with the time left.
        scratch: folder in which checkpoints and finished records are kept under a hash of all that decides the
            numbers: an interrupted run goes on, a finished one is read. None keeps nothing.
        by_own_engine: let the model's own engine drive it (`OwnDynamics`); an interrupted run of that begins again.
        save_every_s: wall seconds between checkpoints.

    Raises:
        NotApplicable: the model does not cover a replica, has no stress and a pressure is wanted, or has no engine.
        BadInput: there are no replicas, two share a name, or the scratch folder cannot be used.
    """
    names = [one.name for one in replicas]
    if not names or len(set(names)) < len(names):
        raise BadInput(f"dynamics: one replica or more is needed, each with a name of its own; got {names}")
    engine = ""
    if by_own_engine:
        if not isinstance(model, OwnDynamics):
            raise NotApplicable(f"model {model.spec.name} has no simulation engine of its own")
        engine = model.engine
    elif len({bool(one.atoms.pbc.all()) for one in replicas}) > 1:
        return _apart(model, replicas, schedule, progress=progress, scratch=scratch, save_every_s=save_every_s)
    folder = None if scratch is None else scratch / _key(model, replicas, schedule, engine)
    with _alone(folder):
        known = finished(replicas, folder)
        if known is not None:
            return known
        if isinstance(model, OwnDynamics) and by_own_engine:
            tracks = model.simulate(replicas, schedule, progress)
            if folder is not None:
                keep(folder, tracks)
            return tracks
        record = Record(replicas, schedule, folder)
        _Run(model, replicas, schedule, record, progress, save_every_s).go()
        record.finish()
        return record.tracks()


def _apart(
    model: Model,
    replicas: Sequence[Replica],
    schedule: Schedule,
    *,
    progress: Progress,
    scratch: Path | None,
    save_every_s: float,
) -> tuple[Track, ...]:
    """Simulate what is periodic, which has a virial, and then what is not: a batch is asked for all virials or none."""
    found: dict[int, Track] = {}
    for half, wanted in enumerate((True, False)):
        own = [i for i, one in enumerate(replicas) if bool(one.atoms.pbc.all()) == wanted]

        def report(done: int, total: int, remark: str, before: int = half) -> None:
            progress(before * total + done, 2 * total, remark)

        chosen = [replicas[i] for i in own]
        tracks = run(model, chosen, schedule, progress=report, scratch=scratch, save_every_s=save_every_s)
        found |= dict(zip(own, tracks, strict=True))
    return tuple(found[i] for i in range(len(replicas)))


def relax(
    model: Model, frames: Sequence[Atoms], *, n_steps: int = 200, force_eV_A: float = 0.05
) -> tuple[Relaxed, ...]:
    """Slide frames downhill together, their cells fixed, with FIRE.

    Args:
        model: asked about all frames at once where it can.
        frames: they are not changed.
        n_steps: at most.
        force_eV_A: a frame rests when no force on an atom is larger, eV/Å.

    Raises:
        NotApplicable: the model does not cover a frame.
    """
    if not frames:
        return ()
    replicas = [Replica(name=str(i), atoms=frame, seed=0, temperature_K=0.0) for i, frame in enumerate(frames)]
    schedule = Schedule(n_steps=0, thermostat="none")
    record = Record(replicas, schedule, None)
    under_way = _Run(model, replicas, schedule, record, no_progress, SAVE_EVERY_S)
    rests, state = under_way.slide(n_steps, force_eV_A)
    place = {int(number): k for k, number in enumerate(state.alive)}
    found = []
    for i, frame in enumerate(frames):
        atoms, k = frame.copy(), place.get(i)
        if k is not None:
            atoms.positions = state.positions[state.offsets[k] : state.offsets[k + 1]]
        found.append(
            Relaxed(
                atoms=atoms,
                energy_eV=float(state.energy[k]) if k is not None else 0.0,
                rests=k is not None and bool(rests[k]),
                failure=record.failures.get(i, ""),
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relaxed:
    """Where a frame has slid to.

    Attributes:
        atoms: there.
        energy_eV: there; zero for one that failed.
        rests: are all forces small?
        failure: why the model had no answer on the way; empty when it had.
    """

    atoms: Atoms
    energy_eV: float
    rests: bool
    failure: str


def _key(model: Model, replicas: Sequence[Replica], schedule: Schedule, engine: str) -> str:
    """Return a hash of all that decides the numbers."""
    from hashlib import sha256

    spec = asdict(model.spec)
    arrays = sha256()
    for one in replicas:
        for array in (
            one.atoms.numbers, one.atoms.positions, one.atoms.cell.array, one.atoms.pbc, one.masses_array(),
            one.atoms.get_momenta(), np.array([]) if one.group is None else one.group,
        ):  # fmt: skip
            arrays.update(np.ascontiguousarray(array).tobytes() + b"|")
    decides = {
        "version": VERSION,
        "engine": engine,
        "model": {name: spec[name] for name in ("kind", "checkpoint_sha256", "identity", "options", "elements")},
        "replicas": [
            [o.name, int(o.seed), o.temperature_K, o.pressure_bar, o.timestep_fs]
            + [f"{name} {o.atoms.info[name]}" for name in ("charge", "spin") if name in o.atoms.info]
            for o in replicas
        ],
        "start": arrays.hexdigest(),
        "schedule": asdict(schedule),
    }
    return canonical_id(decides)


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """Let one process at a time simulate the same; another one waits and then reads what is there."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # ends with the process, however that ends
        yield


class _Run:
    """One simulation under way."""

    def __init__(
        self,
        model: Model,
        replicas: Sequence[Replica],
        schedule: Schedule,
        record: Record,
        progress: Progress,
        save_every_s: float,
    ) -> None:
        self._replicas, self._schedule, self._record = replicas, schedule, record
        self._model, self._progress, self._save_every_s = model, progress, save_every_s
        self._has_pressure = any(one.pressure_bar is not None for one in replicas)
        self._is_periodic = all(bool(one.atoms.pbc.all()) for one in replicas)
        self._state = starting(replicas, schedule)
        self._start_volume = self._state.volume_A3()
        self._batch: Batch
        self._noise: Noise

    def go(self) -> None:
        """Run to the end."""
        state, n_steps = self._state, self._schedule.n_steps
        memory = self._record.resume(state)
        self._prepare()
        if memory is None:
            self._begin()
        elif len(state.alive):
            self._batch.recall(memory)
        begun, first, saved = time.monotonic(), state.step, time.monotonic()
        while state.step < n_steps and len(state.alive):
            self._step()
            now = time.monotonic()
            if now - saved >= self._save_every_s and state.step < n_steps:
                self._record.save(state, self._batch.memory())
                saved = now
            if state.step % self._schedule.sample_every == 0 or state.step == n_steps:
                self._progress(state.step, n_steps, _pace(state, state.step - first, now - begun, n_steps))

    def slide(self, n_steps: int, force_eV_A: float) -> tuple[Bool, State]:
        """Slide downhill, and return which replicas rest, and where all are."""
        self._prepare()
        rests = relaxed(self._state, self._evaluate, n_steps=n_steps, force_eV_A=force_eV_A)
        return rests, self._state

    def _prepare(self) -> None:
        """Make noise and batch for the replicas that are in motion."""
        state = self._state
        chosen = [self._replicas[i] for i in state.alive]
        self._noise = Noise([one.seed for one in chosen], [len(one.atoms) for one in chosen], state.freedom.tolist())
        if chosen:
            self._batch = batch_of(self._model, [one.atoms for one in chosen])

    def _begin(self) -> None:
        state = self._state
        if self._schedule.relaxation_steps and len(state.alive):
            relaxed(state, self._evaluate, n_steps=self._schedule.relaxation_steps)
        if not len(state.alive):
            return
        self._evaluate(with_virial=self._is_periodic and (self._has_pressure or self._schedule.samples_pressure))
        if self._has_pressure and self._schedule.compressibility_per_bar is None and len(state.alive):
            self._measure_compressibility()
        if len(state.alive):
            self._record.note(state)

    def _measure_compressibility(self) -> None:
        """Squeeze and stretch a little, and note how the pressure answers; atoms, cells and forces end as they were."""
        state = self._state
        kept = state.arrays()
        pressures = []
        for change in (STRAIN, -STRAIN):
            integrate.stretch(state, np.where(np.isfinite(state.pressure_eV_A3), 1.0 + change, 1.0))
            self._evaluate(with_virial=True)
            pressures.append(state.pressure())
            chosen = np.isin(kept["alive"], state.alive)
            atoms = np.repeat(chosen, kept["n_atoms"])
            kept = {
                name: value[atoms] if name in PER_ATOM else value[chosen] if np.ndim(value) else value
                for name, value in kept.items()
            }
            pressures = [one[chosen] if len(one) != len(state.alive) else one for one in pressures]
            state.restore(kept)
            if not len(state.alive):
                return
        modulus = (pressures[1] - pressures[0]) / (6.0 * STRAIN)  # -dP/dlnV, eV/Å^3
        stiffest, softest = (one * BAR_PER_EV_PER_CUBIC_ANGSTROM for one in COMPRESSIBILITIES_PER_BAR)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(modulus > 0.0, 1.0 / modulus, np.inf)
        state.compressibility_A3_eV = np.clip(np.nan_to_num(found, nan=softest), stiffest, softest)

    def _step(self) -> None:
        state, schedule = self._state, self._schedule
        if self._has_pressure and state.step % schedule.barostat_every == 0:
            self._breathe()
            if not len(state.alive):
                return
        before = state.positions.copy()
        integrate.kick(state, 0.5)
        if schedule.thermostat == "langevin":
            integrate.drift(state, 0.5)
            integrate.rub(state, schedule.friction_per_ps, self._noise)
            integrate.drift(state, 0.5)
        else:
            integrate.drift(state, 1.0)
        self._drop_fliers(before)
        following = state.step + 1
        wanted = self._is_periodic and (
            (schedule.samples_pressure and following % schedule.sample_every == 0)
            or (self._has_pressure and following % schedule.barostat_every == 0)
        )
        if len(state.alive):
            self._evaluate(with_virial=wanted)
        if not len(state.alive):
            return
        integrate.kick(state, 0.5)
        if schedule.thermostat == "rescaling":
            integrate.rescale(state, schedule.thermostat_ps, self._noise)
        state.step = following
        self._drop_hot()
        if len(state.alive):
            self._record.note(state)

    def _breathe(self) -> None:
        """Change volumes, and ask for the forces there."""
        state, schedule = self._state, self._schedule
        integrate.breathe(
            state,
            barostat_ps=schedule.barostat_ps,
            every=schedule.barostat_every,
            noise=self._noise,
        )
        ratio = state.volume_A3() / self._start_volume[state.alive]
        gone = ~((ratio < LARGEST_CHANGE) & (ratio > 1.0 / LARGEST_CHANGE)) & np.isfinite(state.pressure_eV_A3)
        kinds = ["evaporation" if x > 1.0 else "density collapse" for x in ratio]
        reasons = [
            f"{kind}: the volume is {x:.3g} times that of the start" for kind, x in zip(kinds, ratio, strict=True)
        ]
        self._drop(gone, reasons)
        if not len(state.alive):
            return
        alive, energy = state.alive.copy(), state.energy.copy()
        self._evaluate(with_virial=True)
        kept = np.isin(alive, state.alive)
        state.added_eV += np.where(np.isfinite(state.pressure_eV_A3), state.energy - energy[kept], 0.0)

    def _evaluate(self, *, with_virial: bool) -> None:
        """Ask the model; replicas that it has no finite answer for leave."""
        state = self._state
        found = self._answers(with_virial=with_virial)
        if found is None:
            return
        parts = np.abs(found.forces).max(axis=1)
        finite = np.isfinite(found.energy) & np.isfinite(state.by_replica(parts))
        if found.virial is not None:
            finite &= np.isfinite(found.virial).all(axis=(1, 2))
        state.take(found)
        self._drop(~finite, ["non-finite: energy, forces or virial of the model"] * len(finite))

    def _answers(self, *, with_virial: bool) -> Forces | None:
        """Return the model's answer for all replicas that have one; None when there are none left."""
        state = self._state
        try:
            return self._batch.evaluate(state.positions, state.cells, with_virial=with_virial)
        except ModelFailure:
            reasons = [self._alone_reason(i, with_virial=with_virial) for i in range(len(state.alive))]
            if not any(reasons):
                raise
            self._drop(np.array([bool(reason) for reason in reasons]), reasons)
            return self._answers(with_virial=with_virial) if len(state.alive) else None

    def _alone_reason(self, i: int, *, with_virial: bool) -> str:
        """Return why the model has no answer for one replica alone, or nothing."""
        state = self._state
        atoms = slice(state.offsets[i], state.offsets[i + 1])
        frame = self._replicas[state.alive[i]].atoms.copy()
        frame.positions = state.positions[atoms]
        if frame.pbc.any():
            frame.cell.array[:] = state.cells[i]
        try:
            batch_of(self._model, [frame]).evaluate(
                state.positions[atoms], state.cells[i : i + 1], with_virial=with_virial
            )
        except ModelFailure as error:
            return str(error)
        return ""

    def _drop_fliers(self, before: Float) -> None:
        """Take out replicas with an atom that moved too far in one step, before neighbours are searched."""
        state = self._state
        moved = np.linalg.norm(state.positions - before, axis=1)
        longest = np.maximum.reduceat(np.nan_to_num(moved, nan=np.inf), state.offsets[:-1])
        reasons = [f"temperature runaway: an atom moved {x:.2g} Å in one step" for x in longest]
        self._drop(~(longest < LONGEST_MOVE_A), reasons)

    def _drop_hot(self) -> None:
        state = self._state
        temperature = 2.0 * state.kinetic_eV() / (state.freedom * BOLTZMANN_EV_PER_K)
        reasons = [f"temperature runaway: {x:.3g} K" for x in temperature]
        self._drop(~(temperature < HOTTEST_K), reasons)

    def _drop(self, gone: Bool, reasons: Sequence[str]) -> None:
        """Let replicas leave the batch, and note why."""
        if not gone.any():
            return
        state = self._state
        for i in np.flatnonzero(gone):
            self._record.fail(int(state.alive[i]), reasons[int(i)])
        kept: Int = np.flatnonzero(~gone)
        state.keep(kept)
        self._noise.keep(kept)
        if len(kept):
            self._batch.keep(kept)


def _pace(state: State, steps: int, seconds: float, n_steps: int) -> str:
    """Return ns/day and the time left."""
    if not steps or seconds <= 0.0:
        return "dynamics"
    per_second = steps / seconds
    ns = 1e-3 / PS_PER_NS * float(state.timestep_fs.sum()) * per_second * SECONDS_PER_DAY
    left = (n_steps - state.step) / per_second
    return f"dynamics, {len(state.alive)} replicas, {ns:.3g} ns/day, {left:.0f} s left"
