"""Any ASE calculator in batched dynamics: one system after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.core.dynamics import Batch, Batched, Forces
from mlipbench.core.model import Float, Int, Model
from mlipbench.errors import MlipbenchError, ModelFailure, NotApplicable
from mlipbench.models.ase import CALCULATOR_ERRORS

if TYPE_CHECKING:
    from ase import Atoms


def batch_of(model: Model, frames: Sequence[Atoms]) -> Batch:
    """Return what evaluates these frames as they move: the model's own batch, or its calculators one by one.

    Raises:
        NotApplicable: a frame holds what the model does not cover.
    """
    return model.batch(frames) if isinstance(model, Batched) else OneByOne(model, frames)


class OneByOne:
    """A calculator for each system, which may remember the last one (such as a wave function); nothing is shared."""

    def __init__(self, model: Model, frames: Sequence[Atoms]) -> None:
        """Copy the frames and make a calculator for each."""
        self._frames = [frame.copy() for frame in frames]
        for frame in self._frames:
            frame.calc = model.calculator()
        self._offsets = _offsets(self._frames)

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Ask each calculator.

        Raises:
            ModelFailure: a calculator raised.
            NotApplicable: it has no stress.
        """
        energy, forces = np.zeros(len(self._frames)), np.zeros((len(positions), 3))
        virial = np.zeros((len(self._frames), 3, 3)) if with_virial else None
        for i, frame in enumerate(self._frames):
            atoms = slice(self._offsets[i], self._offsets[i + 1])
            frame.positions = positions[atoms]
            if frame.pbc.any():
                frame.cell.array[:] = cells[i]
            energy[i], forces[atoms], found = _ask(frame, with_virial=with_virial)
            if virial is not None:
                virial[i] = found
        return Forces(energy=energy, forces=forces, virial=virial)

    def keep(self, chosen: Int) -> None:
        """Go on with some systems only."""
        self._frames = [self._frames[i] for i in chosen]
        self._offsets = _offsets(self._frames)

    def memory(self) -> Mapping[str, Float]:
        """Return nothing: what a calculator remembers is its own affair, so that a continuation may differ by it."""
        return {}

    def recall(self, memory: Mapping[str, Float]) -> None:
        """Nothing to take back."""


def _offsets(frames: Sequence[Atoms]) -> Int:
    return np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)


def _ask(frame: Atoms, *, with_virial: bool) -> tuple[float, Float, Float]:
    """Return energy, forces and virial; what a foreign calculator raises is its own failure."""
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        stress = frame.get_stress(voigt=False) if with_virial else np.zeros((3, 3))
        return (
            float(frame.get_potential_energy()),
            frame.get_forces(),
            stress * (frame.get_volume() if with_virial else 0),
        )
    except MlipbenchError:
        raise
    except (PropertyNotImplementedError, NotImplementedError) as error:
        raise NotApplicable(f"the calculator does not compute what dynamics needs: {error}") from error
    except CALCULATOR_ERRORS as error:
        raise ModelFailure(f"the calculator raised {type(error).__name__}: {error}") from error
