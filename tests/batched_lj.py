"""Lennard-Jones atoms that are asked about in batches, with numpy alone: cheap enough to simulate in a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones

from mlipbench.core.dynamics import Forces
from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.models.moving import Moving

ARGON_EPSILON_EV, ARGON_SIGMA_A = 0.0103, 3.4


@dataclass(frozen=True)
class BatchedLJ:
    """4 ε [(σ/r)¹² − (σ/r)⁶] up to a cutoff, cut as it is or with energy and force shifted to zero there."""

    epsilon_eV: float = ARGON_EPSILON_EV
    sigma_A: float = ARGON_SIGMA_A
    cutoff_A: float = 2.5 * ARGON_SIGMA_A
    is_shifted: bool = True
    name: str = "lj"

    @property
    def spec(self) -> ModelSpec:
        options = {"epsilon": self.epsilon_eV, "sigma": self.sigma_A, "cutoff": self.cutoff_A, "shift": self.is_shifted}
        return ModelSpec(name=self.name, kind="test", options=options)

    def calculator(self) -> LennardJones:
        return LennardJones(epsilon=self.epsilon_eV, sigma=self.sigma_A, rc=self.cutoff_A)

    def batch(self, frames: Sequence[Atoms]) -> LJBatch:
        return LJBatch(self, frames)

    def pair(self, squares: Float) -> tuple[Float, Float]:
        """Energy, and slope over distance, of pairs."""
        energy, slope = self._bare(squares)
        if self.is_shifted:
            edge, edge_slope = (float(one[0]) for one in self._bare(np.array([self.cutoff_A**2])))
            distance = np.sqrt(squares)
            energy = energy - edge - edge_slope * self.cutoff_A * (distance - self.cutoff_A)
            slope = slope - edge_slope * self.cutoff_A / distance
        return energy, slope

    def _bare(self, squares: Float) -> tuple[Float, Float]:
        sixth = (self.sigma_A**2 / squares) ** 3
        energy = 4.0 * self.epsilon_eV * (sixth**2 - sixth)
        return energy, -24.0 * self.epsilon_eV * (2.0 * sixth**2 - sixth) / squares

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        counts = np.array([len(one) for one in frames])
        positions = np.concatenate([one.positions for one in frames])
        cells = np.array([one.cell.array for one in frames])
        found = self.batch(frames).evaluate(positions, cells, with_virial=True)
        volumes = np.abs(np.linalg.det(cells))
        periodic = volumes > 0.0
        stress = np.zeros((len(frames), 3, 3))
        stress[periodic] = found.virial[periodic] / volumes[periodic, None, None]
        return Predictions(n_atoms=counts, energy=found.energy, forces=found.forces, stress=stress, has_stress=periodic)


class LJBatch(Moving):
    def __init__(self, model: BatchedLJ, frames: Sequence[Atoms]) -> None:
        super().__init__(frames, model.cutoff_A, skin_A=1.0)
        self.model = model

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        self.move(positions, cells)
        energy, forces = np.zeros(len(self.frames)), np.zeros_like(positions)
        virial = np.zeros((len(self.frames), 3, 3))
        for k, (known, frame) in enumerate(zip(self.lists, self.frames, strict=True)):
            pairs = known.pairs(frame)
            squares = np.einsum("pa,pa->p", pairs.vector, pairs.vector)
            near = np.flatnonzero(squares < self.model.cutoff_A**2)
            centre = np.repeat(np.arange(len(frame)), np.diff(pairs.start))[near]
            vector = pairs.vector[near]
            pair, slope = self.model.pair(squares[near])
            pull = slope[:, None] * vector  # every pair stands twice, so each atom takes its own
            first = self.offsets[k]
            for axis in range(3):
                forces[first : self.offsets[k + 1], axis] = np.bincount(centre, pull[:, axis], minlength=len(frame))
            energy[k] = 0.5 * pair.sum()
            virial[k] = 0.5 * vector.T @ pull
        return Forces(energy=energy, forces=forces, virial=virial if with_virial else None)
