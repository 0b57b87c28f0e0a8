"""Runs that kill themselves: `python -m simulate.killed FOLDER MACE_FILE`, each case in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batched_lj import BatchedLJ
from simulate.test_driver import ace, argon, water

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Batch, Forces, Replica, Schedule
from mlipbench.core.model import Float, Int, ModelSpec
from mlipbench.models.mace import load
from mlipbench.simulate.driver import run
from mlipbench.simulate.record import Record
from mlipbench.simulate.state import State

SAVED_EVERY, LAST_STEP = 7, 26  # checkpoints at 7, 14 and 21; the end comes in the middle of the step to 26
PLAN = Schedule(n_steps=48, sample_every=3, frame_every=5, barostat_every=4, keeps_velocities=True)


@dataclass(frozen=True)
class Case:
    model: str
    plan: Schedule
    pressure_bar: float | None = None

    def replicas(self) -> list[Replica]:
        made, kelvin, step = (argon, 60.0, 4.0) if self.model == "lj" else (water, 300.0, 0.3)
        return [
            Replica(
                name=str(k), atoms=made(k), seed=k, temperature_K=kelvin, timestep_fs=step,
                pressure_bar=self.pressure_bar if k != 1 else None,
            )
            for k in range(2)
        ]  # fmt: skip


CASES = {
    "lj, constant pressure": Case("lj", PLAN, 500.0),
    "lj, rescaling at constant pressure": Case("lj", replace(PLAN, thermostat="rescaling"), 500.0),
    "lj, constant energy": Case("lj", replace(PLAN, thermostat="none")),
    "ace, constant pressure": Case("ace", PLAN, 500.0),
    "ace, rescaling": Case("ace", replace(PLAN, thermostat="rescaling")),
    "mace, constant pressure": Case("mace", PLAN, 500.0),
}


def model_of(name: str, mace_file: Path) -> Any:
    if name == "mace":
        spec = ModelSpec(name="mace", kind="mace", checkpoint=str(mace_file), options={"dtype": "float32"})
        return load(spec, device="cpu")
    return BatchedLJ() if name == "lj" else ace()


@dataclass
class Mortal:
    """A model during one of whose evaluations the process is killed."""

    model: Any
    at_step: int

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def batch(self, frames: Sequence[Any]) -> MortalBatch:
        return MortalBatch(self, self.model.batch(frames))


steps_done = 0


@dataclass
class MortalBatch:
    owner: Mortal
    batch: Batch

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        if steps_done >= self.owner.at_step - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.batch.evaluate(positions, cells, with_virial=with_virial)

    def keep(self, chosen: Int) -> None:
        self.batch.keep(chosen)

    def memory(self) -> Mapping[str, Float]:
        return self.batch.memory()

    def recall(self, memory: Mapping[str, Float]) -> None:
        self.batch.recall(memory)


def die(case: Case, folder: Path, mace_file: Path) -> None:
    """Run until the kill, with a checkpoint every few steps."""
    real_save, real_note = Record.save, Record.note

    def save(self: Record, state: State, memory: Mapping[str, Float]) -> None:
        if state.step % SAVED_EVERY == 0:
            real_save(self, state, memory)

    def note(self: Record, state: State) -> None:
        global steps_done  # noqa: PLW0603
        steps_done = state.step
        real_note(self, state)

    Record.save, Record.note = save, note  # type: ignore[method-assign]
    model = Mortal(model_of(case.model, mace_file), LAST_STEP)
    run(model, case.replicas(), case.plan, progress=no_progress, scratch=folder, save_every_s=0.0)


def main() -> None:
    root, mace_file, *names = sys.argv[1:]
    for number, name in enumerate(CASES):
        if name not in names:
            continue
        child = os.fork()
        if child == 0:
            die(CASES[name], Path(root) / str(number), Path(mace_file))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(name, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "survived", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
