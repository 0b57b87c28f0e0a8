"""Rates are atoms over seconds, of calls that no cache can answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel

from mlipbench.benchmarks import speed
from mlipbench.benchmarks.speed import PeakMemory, Speed
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Predictions
from mlipbench.errors import BadInput, NotApplicable


@dataclass
class Clock:
    """Time that passes only when it is told to."""

    now_s: float = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def process_time(self) -> float:
        return 2.0 * self.now_s  # as if two cores were busy


@dataclass(frozen=True)
class Slow(PairModel):
    """Takes a millisecond per atom."""

    clock: Clock = field(default_factory=Clock)
    asked: list[list[Atoms]] = field(default_factory=list)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        self.asked.append([atoms.copy() for atoms in frames])
        self.clock.now_s += 1e-3 * sum(len(atoms) for atoms in frames)
        return super().predict(frames)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    model = Slow()
    monkeypatch.setattr(time, "perf_counter", model.clock.perf_counter)
    monkeypatch.setattr(time, "process_time", model.clock.process_time)
    return model


def test_rate_of_a_model_of_known_speed(slow: Slow, data: Dataset, context: Context) -> None:
    made = Speed(n_repeats=3, batch_frames=4)
    found = {v.metric: v for v in made.score(made.observe(slow, data, context), data)}
    assert found["single_atoms_per_second"].value == pytest.approx(1000.0)
    assert found["batch_atoms_per_second"].value == pytest.approx(1000.0)
    assert found["single_atoms_per_cpu_second"].value == pytest.approx(500.0)
    assert found["single_atoms_per_second"].n == 3
    assert found["memory_growth"].n == found["peak_memory"].n == 1


def test_positions_move_before_every_call(slow: Slow, data: Dataset, context: Context) -> None:
    Speed(n_repeats=3, batch_frames=2).observe(slow, data, context)
    single = [frames[0] for frames in slow.asked if len(frames) == 1]
    assert len(single) == 4  # one that is not timed
    assert all(atoms.pbc.all() for atoms in single)
    assert len({atoms.positions.tobytes() for atoms in single}) == 4
    assert max(np.abs(atoms.positions - single[0].positions).max() for atoms in single) < 0.1


def test_memory_that_is_taken_is_seen() -> None:
    with PeakMemory() as memory:
        taken = np.ones(8_000_000)
        time.sleep(0.1)  # many times the interval between two looks
        del taken
    assert 40.0 < memory.growth_MB < 200.0


def test_largest_frame_is_periodic_if_one_is(data: Dataset) -> None:
    free = data.take([i for i, atoms in enumerate(data.frames) if not atoms.pbc.any()])
    assert data.frames[speed._largest(data)].pbc.all()
    assert len(free.frames[speed._largest(free)]) == max(len(atoms) for atoms in free.frames)


def test_nothing_to_time_is_said(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="no frames"):
        Speed().observe(PairModel(), data.take([]), context)
    with pytest.raises(BadInput, match="1 or more"):
        Speed(n_repeats=0).observe(PairModel(), data, context)
