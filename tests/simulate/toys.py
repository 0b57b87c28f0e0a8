"""Models with closed-form statistical mechanics, asked about in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from mlipbench.core.dynamics import Forces, Track
from mlipbench.core.model import Float, Int, ModelSpec
from mlipbench.errors import ModelFailure

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


def gas(n: int, *, edge_A: float = 12.0, seed: int = 0, symbol: str = "Ar") -> Atoms:
    rng = np.random.default_rng(seed)
    return Atoms([symbol] * n, rng.uniform(0, edge_A, (n, 3)), cell=[edge_A] * 3, pbc=True)


def same(one: Track, other: Track) -> bool:
    """Are two tracks equal to the last bit?"""
    names = ("time_ps", "potential_eV", "kinetic_eV", "pressure_bar", "volume_A3", "conserved_eV", "positions", "cells")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
