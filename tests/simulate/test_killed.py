"""Killed by -9 in the middle of a step, run again, and nobody could tell."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from batched_lj import BatchedLJ
from simulate.killed import CASES, LAST_STEP, SAVED_EVERY, model_of
from simulate.test_driver import argon, interrupted
from simulate.toys import same
from untrained_mace import untrained

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule
from mlipbench.errors import BadInput
from mlipbench.simulate.driver import run

NAMES = [name for name, case in CASES.items() if case.model != "mace" or find_spec("mace")]
BEFORE = (LAST_STEP - 1) // SAVED_EVERY


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of killed runs, one for each case by number, and a MACE network."""
    root = tmp_path_factory.mktemp("killed")
    mace_file = root / "untrained.model"
    if find_spec("mace"):
        untrained(mace_file)
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "simulate.killed", str(root), str(mace_file), *NAMES],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True, check=True,
        timeout=200,
    )  # fmt: skip
    assert told.stdout.splitlines() == [f"{name} 9" for name in NAMES]
    return root


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_bit_for_bit(name: str, deaths: Path) -> None:
    case, root = CASES[name], deaths / str(list(CASES).index(name))
    (folder,) = root.iterdir()
    with np.load(folder / "checkpoint.npz") as saved:
        assert int(saved["state-step"]) == BEFORE * SAVED_EVERY < LAST_STEP - 3
    # What the kill may leave besides: a piece that no checkpoint counts, whole or in part.
    (folder / f"piece-{BEFORE:06d}.npz").write_bytes(b"PK\x03\x04 and no more")
    (folder / ".checkpoint.npz").write_bytes(b"PK")
    model = model_of(case.model, deaths / "untrained.model")
    whole = run(model, case.replicas(), case.plan, progress=no_progress)
    told: list[int] = []
    again = run(model, case.replicas(), case.plan, progress=lambda done, total, remark: told.append(done), scratch=root)
    assert told[0] > BEFORE * SAVED_EVERY  # it went on
    for one, other in zip(whole, again, strict=True):
        assert not one.failure
        assert len(one.time_ps) == 1 + case.plan.n_steps // case.plan.sample_every
        assert same(one, other)
        assert np.array_equal(one.velocities, other.velocities)
        assert np.array_equal(one.frame_time_ps, other.frame_time_ps)
        assert one.ended_ps == other.ended_ps
    assert not same(whole[0], whole[1])  # the comparison can fail
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["lock", "tracks.npz"]


PLAN = Schedule(n_steps=40, sample_every=5, frame_every=10)


def cut_short(folder: Path, *, after: int = 20) -> tuple[list[Replica], Path]:
    replicas = [Replica(name="a", atoms=argon(0), seed=0, temperature_K=60.0)]
    interrupted(BatchedLJ(), replicas, PLAN, folder, after=after)
    (made,) = folder.iterdir()
    return replicas, made


DAMAGES = {
    "empty": lambda raw: b"",
    "cut": lambda raw: raw[: len(raw) // 2],
    "cut at the end": lambda raw: raw[:-30],
    "turned bit": lambda raw: turned(raw, raw.index(b"positions") + 300),
    "something else": lambda raw: b"no archive",
}


def turned(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("name", ["checkpoint.npz", "piece-000002.npz"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path) -> None:
    replicas, folder = cut_short(tmp_path)
    path = folder / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(BadInput, match=rf"{name} is damaged: .*Remove its folder and run again"):
        run(BatchedLJ(), replicas, PLAN, progress=no_progress, scratch=tmp_path)


def test_a_missing_piece_is_named(tmp_path: Path) -> None:
    replicas, folder = cut_short(tmp_path)
    (folder / "piece-000001.npz").unlink()
    with pytest.raises(BadInput, match=r"piece-000001\.npz cannot be used: No such file"):
        run(BatchedLJ(), replicas, PLAN, progress=no_progress, scratch=tmp_path)


def test_it_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    replicas, _ = cut_short(tmp_path, after=10)
    for after in (15, 25, 35):
        interrupted(BatchedLJ(), replicas, PLAN, tmp_path, after=after)
    (again,) = run(BatchedLJ(), replicas, PLAN, progress=no_progress, scratch=tmp_path)
    (whole,) = run(BatchedLJ(), replicas, PLAN, progress=no_progress)
    assert same(whole, again)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"temperature_K": 61.0}, {"timestep_fs": 2.0}, {"masses_u": np.full(16, 40.0)}, {"spin": 3}]
)
def test_another_run_has_another_folder(other: dict[str, object], tmp_path: Path) -> None:
    replicas, _ = cut_short(tmp_path)
    more = dict(other)
    atoms = argon(0)
    if "spin" in more:  # which MACE's networks may ask for
        atoms.info["spin"] = more.pop("spin")
    changed = Replica(**{"name": "a", "atoms": atoms, "seed": 0, "temperature_K": 60.0, **more})
    run(BatchedLJ(), [changed], PLAN, progress=no_progress, scratch=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    run(BatchedLJ(), replicas, PLAN, progress=no_progress, scratch=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
