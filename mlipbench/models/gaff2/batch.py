"""GAFF2 asked again and again about the same systems while their atoms move: molecules are told apart once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.dynamics import Forces
from mlipbench.core.model import Float, Int
from mlipbench.models.gaff2.assign import Assigned, assign
from mlipbench.models.gaff2.evaluate import Evaluator

if TYPE_CHECKING:
    from ase import Atoms


class GaffBatch:
    """Keeps which atom is which; positions must stay unwrapped, as dynamics leaves them."""

    def __init__(self, evaluator: Evaluator, frames: Sequence[Atoms]) -> None:
        """Tell the molecules apart.

        Raises:
            NotApplicable: a molecule is neither EC nor EMC.
        """
        self._evaluator = evaluator
        self._known: list[tuple[Assigned, Float, bool]] = []
        for number, frame in enumerate(frames):
            known = assign(frame, where=f"frame {number}")
            # Molecules of the frame may be cut by the cell; what makes them whole stays the same lattice vectors.
            shifts = np.zeros((len(frame), 3))
            if frame.pbc.any():
                shifts = np.round((known.positions - frame.positions) @ np.linalg.pinv(frame.cell.array))
            self._known.append((known, shifts, bool(frame.pbc.all())))

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Return energies, forces and, where wanted, virials."""
        energy, virial = np.zeros(len(self._known)), np.zeros((len(self._known), 3, 3))
        forces, first = np.zeros_like(positions), 0
        for i, (known, shifts, is_periodic) in enumerate(self._known):
            atoms = slice(first, first + len(shifts))
            first += len(shifts)
            where = (positions[atoms] + shifts @ cells[i])[known.order]
            if is_periodic:
                energy[i], own, stress = self._evaluator.periodic(known.names, where, cells[i], with_stress=with_virial)
                virial[i] = stress * abs(float(np.linalg.det(cells[i])))
            else:
                energy[i], own = self._evaluator.alone(known.names, where)
            forces[atoms][known.order] = own
        return Forces(energy=energy, forces=forces, virial=virial if with_virial else None)

    def keep(self, chosen: Int) -> None:
        """Go on with some systems only."""
        self._known = [self._known[i] for i in chosen]

    def memory(self) -> Mapping[str, Float]:
        """Return nothing: every answer depends on its arguments alone."""
        return {}

    def recall(self, memory: Mapping[str, Float]) -> None:
        """Nothing to take back."""
