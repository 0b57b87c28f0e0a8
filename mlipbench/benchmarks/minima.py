"""Where do molecules come to rest in a model, and how stiff are they there?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.molecular import radii_A
from mlipbench.benchmarks.systems import blamed
from mlipbench.core.benchmark import Context
from mlipbench.core.model import Float, Model
from mlipbench.errors import MissingPackage, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.physics.molecules import find_bonds
from mlipbench.physics.vibrations import central_hessian, displaced, is_straight
from mlipbench.simulate.driver import Relaxed, relax

if TYPE_CHECKING:
    from ase import Atoms

NOT_COVERED, FAILED, MOVING, REBONDED, RESHAPED = range(1, 6)
REASONS: Final = {
    0: "measured",
    NOT_COVERED: "not covered",
    FAILED: "the model failed",
    MOVING: "did not come to rest",
    REBONDED: "bonds broke or formed",
    RESHAPED: "became straight, or ceased to be",
}
# Times the sum of covalent radii: bonded; and what must still be as near where it is bonded at the other place.
NEAR, HELD = 1.25, 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """What one molecule gave.

    Attributes:
        reason: number among `REASONS`; 0 when it was measured.
        words: more of the reason.
        positions: shape (n_atoms, 3), Å, at the model's minimum; empty when it was not measured.
        hessian: shape (3 n_atoms, 3 n_atoms), eV/Å^2, there; likewise.
    """

    reason: int
    words: str = ""
    positions: Float = field(default_factory=lambda: np.zeros((0, 3)))
    hessian: Float = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How minima are looked for.

    Attributes:
        force_eV_A: a molecule rests when no force on an atom is larger.
        most_steps: of the relaxation.
        step_A: of the central differences.
        lone_elements: never bonded when bonds are looked for.
    """

    force_eV_A: float
    most_steps: int
    step_A: float
    lone_elements: tuple[str, ...]

    def tried(self, model: Model, frames: Sequence[Atoms], context: Context) -> Iterator[Tried]:
        """Give for each molecule what was found, or why there is nothing."""
        refusals = _refusals(model, frames, context)
        covered = [frame for frame, refusal in zip(frames, refusals, strict=True) if refusal is None]
        context.progress(0, len(covered), "relaxation")
        rested = iter(self._relaxed(model, covered))
        for frame, refusal in zip(frames, refusals, strict=True):
            found = next(rested) if refusal is None else refusal
            if isinstance(found, MlipbenchError):
                is_out = found is refusal and isinstance(found, NotApplicable)  # one that came to be moved is covered
                yield Tried(reason=NOT_COVERED if is_out else FAILED, words=str(found))
            else:
                yield self._not_alike(frame, found) or self._measured(model, found.atoms, context)

    def _relaxed(self, model: Model, frames: Sequence[Atoms]) -> list[Relaxed | MlipbenchError]:
        """Return where molecules slide to: all together, or one by one when that fails."""
        try:
            return list(relax(model, frames, n_steps=self.most_steps, force_eV_A=self.force_eV_A))
        except (ModelFailure, NotApplicable) as error:
            if len(frames) == 1:
                return [error]
            return [one for frame in frames for one in self._relaxed(model, [frame])]

    def _not_alike(self, frame: Atoms, found: Relaxed) -> Tried | None:
        """Return why what was found is no minimum of the same molecule."""
        if found.failure:
            return Tried(reason=FAILED, words=found.failure)
        if not found.rests:
            words = f"a force is larger than {self.force_eV_A:g} eV/Å after {self.most_steps} steps"
            return Tried(reason=MOVING, words=words)
        if not bonded_alike(frame, found.atoms, self.lone_elements):
            return Tried(reason=REBONDED, words="its bonds are not the reference's")
        if is_straight(found.atoms.positions) != is_straight(frame.positions):
            return Tried(reason=RESHAPED, words="it has another number of vibrations than the reference")
        return None

    def _measured(self, model: Model, rest: Atoms, context: Context) -> Tried:
        """Return geometry and Hessian of one molecule at its minimum."""
        moved = []
        for positions in displaced(rest.positions, self.step_A):
            moved.append(rest.copy())
            moved[-1].positions = positions
        try:
            said = predict(model, moved, context, remark="displaced atoms")
        except (ModelFailure, NotApplicable) as error:
            return Tried(reason=FAILED, words=str(error))
        hessian = central_hessian(said.forces.reshape(len(moved), len(rest), 3), self.step_A)
        return Tried(reason=0, positions=rest.positions.copy(), hessian=hessian)


def bonded_alike(one: Atoms, other: Atoms, lone_elements: Sequence[str]) -> bool:
    """Tell whether atoms that are bonded in either are still near each other in the other.

    Args:
        one: a structure.
        other: the same atoms elsewhere.
        lone_elements: symbols of elements that are never bonded.
    """
    radii = radii_A(one.numbers, lone_elements)
    near, held = ([_pairs(atoms, radii, factor) for atoms in (one, other)] for factor in (NEAR, HELD))
    return near[0] <= held[1] and near[1] <= held[0]


def _refusals(model: Model, frames: Sequence[Atoms], context: Context) -> list[MlipbenchError | None]:
    """Return why a model has no answer for each molecule as the reference has it; None where it has one."""
    said = [_refusal(model, frame, context) for frame in frames]
    answered = [frame for frame, error in zip(frames, said, strict=True) if error is None]
    return [
        None if error is None else blamed(model, [frame], error, answered=answered)
        for frame, error in zip(frames, said, strict=True)
    ]


def _refusal(model: Model, frame: Atoms, context: Context) -> MlipbenchError | None:
    """Return why a model has no answer for a molecule as the reference has it."""
    try:
        predict(model, [frame], context, remark="reference geometry")
    except MissingPackage:
        raise
    except (ModelFailure, NotApplicable) as error:
        return error
    return None


def _pairs(atoms: Atoms, radii: Float, factor: float) -> set[tuple[int, int]]:
    bonds = find_bonds(atoms.positions, atoms.cell.array, atoms.pbc, radii=radii, radius_factor=factor)
    return set(zip(bonds.first.tolist(), bonds.second.tolist(), strict=True))
