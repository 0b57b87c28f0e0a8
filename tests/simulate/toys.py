"""Models with closed-form statistical mechanics, asked about in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Batch, Forces, Replica, Schedule, Track
from mlipbench.core.model import Float, Int, ModelSpec
from mlipbench.errors import ModelFailure
from mlipbench.simulate.driver import run

STIFFNESS_EV_A2 = 0.5


@dataclass
class Field:
    """Atoms that do not see each other: without forces a perfect gas, with a stiffness bound to their first places."""

    stiffness_eV_A2: float = 0.0
    fails_after: dict[int, int] = field(default_factory=dict)  # number of a frame: evaluations until it fails
    raises: bool = False

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="field", kind="test", options={"stiffness": self.stiffness_eV_A2})

    def batch(self, frames: Sequence[Atoms]) -> FieldBatch:
        return FieldBatch(self, frames)


class FieldBatch:
    def __init__(self, model: Field, frames: Sequence[Atoms]) -> None:
        self.model, self.calls = model, 0
        self.home = [frame.positions.copy() for frame in frames]
        self.names = [frame.info.get("number", i) for i, frame in enumerate(frames)]

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        self.calls += 1
        home = np.concatenate(self.home)
        counts = [len(one) for one in self.home]
        owner = np.repeat(np.arange(len(counts)), counts)
        forces = -self.model.stiffness_eV_A2 * (positions - home)
        energy = np.bincount(
            owner, 0.5 * self.model.stiffness_eV_A2 * ((positions - home) ** 2).sum(axis=1), minlength=len(counts)
        )
        for k, name in enumerate(self.names):
            if name in self.model.fails_after and self.calls > self.model.fails_after[name]:
                if self.model.raises:
                    raise ModelFailure("no answer")
                energy[k] = np.nan
        virial = np.zeros((len(counts), 3, 3)) if with_virial else None
        return Forces(energy=energy, forces=forces, virial=virial)

    def keep(self, chosen: Int) -> None:
        self.home = [self.home[i] for i in chosen]
        self.names = [self.names[i] for i in chosen]

    def memory(self) -> dict[str, Float]:
        return {"calls": np.array([float(self.calls)])}

    def recall(self, memory: dict[str, Float]) -> None:
        self.calls = int(memory["calls"][0])


@dataclass
class Bound:
    """Pairs of atoms, each pair on a spring of no length: a perfect gas of molecules."""

    stiffness_eV_A2: float = STIFFNESS_EV_A2

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="bound", kind="test", options={"stiffness": self.stiffness_eV_A2})

    def batch(self, frames: Sequence[Atoms]) -> BoundBatch:
        return BoundBatch(self.stiffness_eV_A2, [len(one) // 2 for one in frames])


@dataclass
class BoundBatch:
    stiffness_eV_A2: float
    n_pairs: list[int]

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        apart = positions[0::2] - positions[1::2]
        first = np.cumsum([0, *self.n_pairs[:-1]])
        products = self.stiffness_eV_A2 * np.einsum("pa,pb->pab", apart, apart)
        virial = np.add.reduceat(products, first, axis=0)
        forces = np.repeat(-self.stiffness_eV_A2 * apart, 2, axis=0)
        forces[1::2] *= -1.0
        energy = 0.5 * np.trace(virial, axis1=1, axis2=2)
        return Forces(energy=energy, forces=forces, virial=virial if with_virial else None)

    def keep(self, chosen: Int) -> None:
        self.n_pairs = [self.n_pairs[i] for i in chosen]

    def memory(self) -> dict[str, Float]:
        return {}

    def recall(self, memory: dict[str, Float]) -> None:
        pass


FAULTS = ("energy", "forces", "virial", "raises")


@dataclass
class Faulty:
    """A model that has no answer for frames whose info says "doomed", from its nth evaluation on."""

    model: Any
    after: int
    fault: str = "energy"
    calls: int = 0

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    def batch(self, frames: Sequence[Atoms]) -> FaultyBatch:
        return FaultyBatch(
            self, self.model.batch(frames), [bool(one.info.get("doomed")) for one in frames], [len(o) for o in frames]
        )


@dataclass
class FaultyBatch:
    owner: Faulty
    batch: Batch
    doomed: list[bool]
    counts: list[int]

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        self.owner.calls += 1
        if self.owner.calls <= self.owner.after or not any(self.doomed):
            return self.batch.evaluate(positions, cells, with_virial=with_virial)
        if self.owner.fault == "raises":
            raise ModelFailure("the doomed have no answer")
        found = self.batch.evaluate(positions, cells, with_virial=with_virial)
        if self.owner.fault == "forces":
            found.forces[np.repeat(self.doomed, self.counts), 1] = np.inf
        elif self.owner.fault == "virial" and found.virial is not None:
            found.virial[self.doomed, 0, 1] = np.nan
        else:
            found.energy[self.doomed] = np.nan
        return found

    def keep(self, chosen: Int) -> None:
        self.batch.keep(chosen)
        self.doomed, self.counts = [self.doomed[i] for i in chosen], [self.counts[i] for i in chosen]

    def memory(self) -> dict[str, Float]:
        return dict(self.batch.memory())

    def recall(self, memory: dict[str, Float]) -> None:
        self.batch.recall(memory)


class Halted(Exception):
    """Stands for a power cut."""


def halted(model: Any, replicas: Sequence[Replica], plan: Schedule, folder: Path, *, after: int) -> dict[str, Float]:
    """State after some steps, in the double precision of a checkpoint."""

    def stop(done: int, total: int, remark: str) -> None:
        if done >= after:
            raise Halted

    plan = replace(plan, n_steps=after + 1, sample_every=after)
    with pytest.raises(Halted):
        run(model, replicas, plan, progress=stop, scratch=folder, save_every_s=0.0)
    (path,) = folder.glob("*/checkpoint.npz")
    with np.load(path) as saved:
        return {name.removeprefix("state-"): saved[name] for name in saved.files if name.startswith("state-")}


def deviation(means: Float, wanted: float) -> float:
    """Distance of the average of independent means from its theory, in standard errors."""
    return float(abs(np.mean(means) - wanted) / (np.std(means, ddof=1) / np.sqrt(np.size(means))))


def simulated(model: Any, frames: Sequence[Atoms], plan: Schedule, **more: Any) -> tuple[Track, ...]:
    """Move frames, each with a seed of its own."""
    chosen = {"temperature_K": 300.0, "timestep_fs": 2.0, **more}
    replicas = [Replica(name=str(k), atoms=atoms, seed=k, **chosen) for k, atoms in enumerate(frames)]
    return run(model, replicas, plan, progress=no_progress)


def gas(n: int, *, edge_A: float = 12.0, seed: int = 0, symbol: str = "Ar") -> Atoms:
    rng = np.random.default_rng(seed)
    return Atoms([symbol] * n, rng.uniform(0, edge_A, (n, 3)), cell=[edge_A] * 3, pbc=True)


def same(one: Track, other: Track) -> bool:
    """Are two tracks equal to the last bit?"""
    names = ("time_ps", "potential_eV", "kinetic_eV", "pressure_bar", "volume_A3", "conserved_eV", "positions", "cells")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
