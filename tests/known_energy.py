"""A model whose energies are whatever a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlipbench.core.model import ModelSpec, Predictions


@dataclass(frozen=True, kw_only=True)
class KnownEnergy:
    """Energies from a function, no forces; the function may raise."""

    energy: Callable[[Atoms], float]
    elements: tuple[str, ...] | None = None
    calls: list[int] = field(default_factory=list)
    asked: list[Atoms] = field(default_factory=list)

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(name="known", kind="test", elements=self.elements)

    def calculator(self) -> Calculator:
        raise NotImplementedError

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        self.calls.append(len(frames))
        self.asked.extend(frames)
        n_atoms = np.array([len(atoms) for atoms in frames])
        return Predictions(
            n_atoms=n_atoms,
            energy=np.array([self.energy(atoms) for atoms in frames]),
            forces=np.zeros((int(n_atoms.sum()), 3)),
            stress=np.zeros((len(frames), 3, 3)),
            has_stress=np.zeros(len(frames), dtype=bool),
        )
