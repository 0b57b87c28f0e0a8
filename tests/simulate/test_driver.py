"""Replicas do not know of each other, and an interruption changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from batched_lj import BatchedLJ
from simulate.toys import gas, same
from untrained_mace import untrained

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.potential import LinearAce
from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.core.model import Model, ModelSpec
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models.ace import AceModel, _OneByOne
from mlipbench.models.mace import load as load_mace
from mlipbench.models.mace_batch import room_atoms
from mlipbench.simulate.driver import relax, run
from mlipbench.simulate.fallback import OneByOne


def ace() -> AceModel:
    basis = Basis(numbers=(1, 8), cutoff_A=3.5, degrees=(5.0, 4.0), l_max=2)
    weights = 0.02 * np.random.default_rng(0).normal(size=(2, functions(basis).n_functions))
    potential = LinearAce(basis=basis, e0_eV=np.zeros(2), weights=weights, wall_reach_A=np.full((2, 2), 1.2))
    return AceModel(
        spec=ModelSpec(name="ace", kind="ace"), potential=potential, evaluator=_OneByOne(potential=potential)
    )


def mace(tmp_path: Path) -> Model:
    path = untrained(tmp_path / "untrained.model")
    return load_mace(
        ModelSpec(name="mace", kind="mace", checkpoint=str(path), options={"dtype": "float32"}), device="cpu"
    )


def water(seed: int, *, periodic: bool = True) -> Atoms:
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[6.4] * 3, pbc=periodic)
    for place in np.array([[0, 0, 0], [3.2, 3.2, 0], [0, 3.2, 3.2], [3.2, 0, 3.2]]):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(place)
        box += one
    box.set_initial_magnetic_moments(None)
    return box


def argon(seed: int) -> Atoms:
    atoms = bulk("Ar", cubic=True, a=5.4).repeat((2, 2, 1))
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def replicas_of(make, n: int, **more: object) -> list[Replica]:
    chosen = {"temperature_K": 60.0, "timestep_fs": 2.0, **more}
    return [Replica(name=str(k), atoms=make(k), seed=k, **chosen) for k in range(n)]


NPT = Schedule(n_steps=120, sample_every=5, frame_every=20, keeps_velocities=True)


class Interrupted(Exception):
    """Stands for a power cut."""


def interrupted(model: Model, replicas: list[Replica], plan: Schedule, scratch: Path, *, after: int) -> None:
    def cut(done: int, total: int, remark: str) -> None:
        if done >= after:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(model, replicas, plan, progress=cut, scratch=scratch, save_every_s=0.0)


CASES = {
    "langevin at constant pressure": (NPT, {"pressure_bar": 500.0}),
    "rescaling": (replace(NPT, thermostat="rescaling"), {}),
    "constant energy": (replace(NPT, thermostat="none"), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_as_if_nothing_had_been(case: str, tmp_path: Path) -> None:
    plan, more = CASES[case]
    replicas = replicas_of(argon, 3, **more)
    whole = run(BatchedLJ(), replicas, plan, progress=no_progress)
    interrupted(BatchedLJ(), replicas, plan, tmp_path, after=45)
    again = run(BatchedLJ(), replicas, plan, progress=no_progress, scratch=tmp_path)
    assert all(same(one, other) for one, other in zip(whole, again, strict=True))
    assert not list(tmp_path.glob("*/piece-*"))  # what was finished is one file
    read = run(BatchedLJ(), replicas, plan, progress=_fails, scratch=tmp_path)
    assert all(same(one, other) for one, other in zip(whole, read, strict=True))


def _fails(done: int, total: int, remark: str) -> None:
    raise AssertionError("a finished run is read, not run")


SCRIPT = """
import sys
from pathlib import Path
from simulate.test_driver import BatchedLJ, NPT, argon, no_progress, replace, replicas_of, run
plan = replace(NPT, n_steps=100000)
print("begun", flush=True)
run(BatchedLJ(), replicas_of(argon, 3, pressure_bar=500.0), plan, progress=no_progress, scratch=Path(sys.argv[1]),
    save_every_s=0.0)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """A process killed by -9 leaves a checkpoint somewhere; going on from it gives the trajectory of a quiet run."""
    here = str(Path(__file__).parents[1])
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env={**os.environ, "PYTHONPATH": here}, stdout=subprocess.PIPE
    )
    deadline = time.monotonic() + 120.0
    while len(list(tmp_path.glob("*/piece-*"))) < 40 and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    (folder,) = tmp_path.iterdir()
    with np.load(folder / "checkpoint.npz") as saved:
        step = int(saved["state-step"])
    assert step >= 30
    # The killed run's plan is long; the same numbers come from a short one, whose folder has another name.
    plan = replace(NPT, n_steps=100 * (step // 100 + 1))
    replicas = replicas_of(argon, 3, pressure_bar=500.0)
    whole = run(BatchedLJ(), replicas, plan, progress=no_progress)
    interrupted(BatchedLJ(), replicas, plan, tmp_path / "short", after=5)
    (target,) = (tmp_path / "short").iterdir()
    for path in (*folder.glob("piece-*.npz"), folder / "checkpoint.npz"):
        (target / path.name).write_bytes(path.read_bytes())
    again = run(BatchedLJ(), replicas, plan, progress=no_progress, scratch=tmp_path / "short")
    assert all(same(one, other) for one, other in zip(whole, again, strict=True))


@pytest.mark.parametrize("kind", ["lj", "ace"])
def test_a_replica_is_the_same_alone_and_in_company(kind: str) -> None:
    model, make, more = (
        (BatchedLJ(), argon, {}) if kind == "lj" else (ace(), water, {"timestep_fs": 0.3, "temperature_K": 300.0})
    )
    replicas = replicas_of(make, 3, pressure_bar=500.0, **more)
    plan = replace(NPT, n_steps=60)
    together = run(model, replicas, plan, progress=no_progress)
    for one, track in zip(replicas, together, strict=True):
        (alone,) = run(model, [one], plan, progress=no_progress)
        assert same(alone, track)
    assert not np.array_equal(together[0].kinetic_eV, together[1].kinetic_eV)


def test_mace_replicas_are_the_same_to_single_precision(tmp_path: Path) -> None:
    """In another batch sums run in another order; forty steps later that shows in the sixth digit at most."""
    model = mace(tmp_path)
    replicas = replicas_of(water, 3, timestep_fs=0.3, temperature_K=300.0)
    plan = replace(NPT, n_steps=40)
    together = run(model, replicas, plan, progress=no_progress)
    (alone,) = run(model, [replicas[1]], plan, progress=no_progress)
    np.testing.assert_allclose(alone.positions, together[1].positions, atol=2e-5)


def test_atoms_that_fly_apart_are_taken_out() -> None:
    close = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.0]], cell=[20.0] * 3, pbc=True)
    replicas = [
        Replica(name="bad", atoms=close, seed=0, temperature_K=60.0),
        Replica(name="good", atoms=argon(0), seed=1, temperature_K=60.0),
    ]
    bad, good = run(BatchedLJ(), replicas, Schedule(n_steps=30), progress=no_progress)
    assert bad.failure.startswith("temperature runaway")
    assert not good.failure
    assert good.ended_ps == pytest.approx(0.03)


def test_any_calculator_moves_like_a_batch() -> None:
    model = ace()
    replicas = replicas_of(water, 2, pressure_bar=500.0, timestep_fs=0.3, temperature_K=300.0)
    plan = replace(NPT, n_steps=40)
    ours = run(model, replicas, plan, progress=no_progress)
    theirs = run(_Plain(model), replicas, plan, progress=no_progress)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.potential_eV, other.potential_eV, atol=1e-9)
        np.testing.assert_allclose(one.volume_A3, other.volume_A3, rtol=1e-9)


class _Plain:
    """A model that is no more than its ASE calculator."""

    def __init__(self, model: AceModel) -> None:
        self.model, self.spec = model, model.spec

    def calculator(self):
        return self.model.calculator()


def test_a_calculator_without_stress_has_no_constant_pressure() -> None:
    from ase.calculators.calculator import Calculator

    class Forceful(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, *args: object, **more: object) -> None:
            super().calculate(*args, **more)
            self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}

    class Made:
        spec = ModelSpec(name="forceful", kind="test")

        def calculator(self) -> Calculator:
            return Forceful()

    with pytest.raises(NotApplicable, match="does not compute what dynamics needs"):
        run(Made(), replicas_of(argon, 1, pressure_bar=1.0), NPT, progress=no_progress)
    assert isinstance(OneByOne(Made(), [argon(0)]).memory(), dict)


def test_fire_slides_to_rest() -> None:
    frames = [argon(k) for k in range(3)]
    found = relax(BatchedLJ(), frames, n_steps=400, force_eV_A=1e-4)
    assert all(one.rests and not one.failure for one in found)
    perfect = BatchedLJ().predict([bulk("Ar", cubic=True, a=5.4).repeat((2, 2, 1))]).energy[0]
    for one, frame in zip(found, frames, strict=True):
        assert one.energy_eV < BatchedLJ().predict([frame]).energy[0] - 0.01
        assert one.energy_eV == pytest.approx(perfect, abs=1e-4)
    short = relax(BatchedLJ(), frames, n_steps=1, force_eV_A=1e-4)
    assert not any(one.rests for one in short)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature_K": -1.0}, "temperature_K = -1"),
        ({"timestep_fs": 0.0}, "positive time step"),
        ({"masses_u": np.ones(3)}, "one number for each of 5 atoms"),
        ({"masses_u": np.zeros(5)}, "every mass must be positive"),
        ({"masses_u": np.full(5, np.inf)}, "every mass must be positive"),
        ({"masses_u": np.full(5, np.nan)}, "every mass must be positive"),
        ({"temperature_K": np.nan}, "temperature_K = nan"),
        ({"temperature_K": np.inf}, "temperature_K = inf"),
        ({"timestep_fs": np.nan}, "positive time step"),
        ({"pressure_bar": np.nan}, "pressure_bar is nan; it must be finite"),
        ({"pressure_bar": np.inf}, "pressure_bar is inf; it must be finite"),
        ({"group": np.zeros(2, dtype=np.int64)}, "group has shape"),
        ({"atoms": Atoms()}, "no atoms"),
        ({"atoms": Atoms("Ar"), "pressure_bar": 1.0}, "periodic in all three"),
    ],
)
def test_a_replica_that_cannot_move_is_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=f"^replica a: .*{sentence}"):
        Replica(**{"name": "a", "atoms": gas(5), "seed": 0, "temperature_K": 1.0, **wrong})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"thermostat": "nose"}, "none of none, langevin"),
        ({"n_steps": -1}, "n_steps is -1"),
        ({"sample_every": 0}, "sample_every is 0"),
        ({"frame_every": -2}, "frame_every is -2; it must be 1 or more"),
        ({"barostat_every": 0}, "barostat_every is 0"),
        ({"relaxation_steps": -1}, "relaxation_steps is -1; it must be 0 or more"),
        ({"friction_per_ps": 0.0}, "friction_per_ps is 0.0; it must be positive"),
        ({"thermostat_ps": np.nan}, "thermostat_ps is nan; it must be positive"),
        ({"compressibility_per_bar": -1e-5}, "compressibility_per_bar is -1e-05; it must be positive"),
        ({"barostat_ps": 0.0}, "barostat_ps is 0.0; it must be positive"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        Schedule(**{"n_steps": 1, **wrong})


def test_a_batch_is_as_large_as_memory_allows() -> None:
    assert room_atoms(free_bytes=10**10, used_bytes=10**7, n_atoms=100) == 60000
    assert room_atoms(free_bytes=10**6, used_bytes=10**7, n_atoms=100) == 100  # one replica must do


def test_progress_tells_speed_and_time_left() -> None:
    told: list[str] = []
    run(BatchedLJ(), replicas_of(argon, 2), NPT, progress=lambda done, total, remark: told.append(remark))
    assert "2 replicas" in told[-1]
    assert "ns/day" in told[-1]
    assert "s left" in told[-1]


def test_tracks_have_one_entry_per_sample() -> None:
    (track,) = run(BatchedLJ(), replicas_of(argon, 1), NPT, progress=no_progress)
    assert isinstance(track, Track)
    assert len(track.time_ps) == 25
    assert track.positions.shape == track.velocities.shape == (7, 16, 3)
    assert track.conserved_eV == pytest.approx(track.conserved_eV[0], abs=2e-3)


def test_nobody_and_namesakes_are_refused() -> None:
    with pytest.raises(BadInput, match="one replica or more"):
        run(BatchedLJ(), [], NPT, progress=no_progress)
    (one,) = replicas_of(argon, 1)
    with pytest.raises(BadInput, match="a name of its own"):
        run(BatchedLJ(), [one, one], NPT, progress=no_progress)
    assert relax(BatchedLJ(), []) == ()
