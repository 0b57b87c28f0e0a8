"""A linear ACE asked again and again about the same systems while their atoms move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.dynamics import Forces
from mlipbench.core.model import Float
from mlipbench.models.moving import Moving

if TYPE_CHECKING:
    from ase import Atoms

    from mlipbench.models.ace import AceModel


class AceBatch(Moving):
    """Keeps neighbour lists; on the CPU each system's answer does not depend on which others are in the batch."""

    def __init__(self, model: AceModel, frames: Sequence[Atoms]) -> None:
        """Copy the frames."""
        super().__init__(frames, model.potential.basis.cutoff_A)
        self._evaluator = model.evaluator

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Return energies, forces and virials."""
        self.move(positions, cells)
        pairs = [known.pairs(frame) for known, frame in zip(self.lists, self.frames, strict=True)]
        found = self._evaluator.evaluate_many(self.frames, pairs)
        return Forces(
            energy=np.array([one.energy for one in found]),
            forces=np.concatenate([np.zeros((0, 3)), *(one.forces for one in found)]),
            virial=np.array([one.virial for one in found]).reshape(-1, 3, 3) if with_virial else None,
        )
