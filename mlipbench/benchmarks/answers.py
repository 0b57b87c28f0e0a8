"""How is a model asked so that one frame it fails on costs that frame alone, and how finely does it answer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.benchmarks.frames import predict, together
from mlipbench.benchmarks.systems import as_numbers, as_texts, blamed, left_out_view
from mlipbench.core.benchmark import Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float, Int, Model, ModelSpec, Predictions
from mlipbench.core.view import Bars
from mlipbench.errors import MissingPackage, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

EDGE_A: Final = 60.0  # of the cell for those who need one: 20 Å and more around all that is put into it
N_NEAR: Final = 9  # places along a short line, for what a cubic leaves of the answers
NEAR_A: Final = 5e-3  # root mean square displacement of an atom at its ends: fourth derivatives leave below 1e-6 eV
DEGREE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a model says of groups of frames, each answered as a whole or not at all.

    Attributes:
        kept: shape (n_kept,), which groups were answered, ascending.
        said: of the frames of these groups, one after the other.
        failed: shape (n_failed,), which groups the model covers and gave no answer for.
        reasons: of those.
        refusal: why one of the other groups is not covered; None where there are none.
    """

    kept: Int
    said: Predictions
    failed: Int
    reasons: tuple[str, ...]
    refusal: NotApplicable | None

    def or_raise(self) -> Answered:
        """Return it when any group was answered.

        Raises:
            ModelFailure: none was, as the model is at fault.
            NotApplicable: none is covered.
        """
        if not len(self.kept) and len(self.failed):
            raise ModelFailure(self.reasons[0])
        if not len(self.kept) and self.refusal is not None:
            raise self.refusal
        return self


def answered(
    model: Model, groups: Sequence[Sequence[Atoms]], context: Context, *, remark: str, are_whole: bool = False
) -> Answered:
    """Ask for all frames at once, and group by group where that fails.

    Args:
        model: to ask.
        groups: frames that are of use together only.
        context: to report to.
        remark: likewise.
        are_whole: are they frames of the data, moved as a whole or not at all? A model that answers for some then
            covers all of the same elements, and what it refuses of them is its failure (`systems.blamed`). A piece, or
            a lone atom, is other matter that a force field may rightly refuse.

    Raises:
        MissingPackage: a package of the model is not installed.
    """
    kept: list[int] = []
    parts: list[Predictions] = []
    failed: dict[int, str] = {}
    refused: dict[int, NotApplicable] = {}
    everything = range(len(groups))
    for numbers in (everything, *([k] for k in everything)):
        if not len(numbers):
            break
        try:
            parts.append(predict(model, [atoms for k in numbers for atoms in groups[k]], context, remark=remark))
        except MissingPackage:
            raise
        except (ModelFailure, NotApplicable) as error:
            if numbers is not everything and isinstance(error, ModelFailure):
                failed[numbers[0]] = str(error)
            elif numbers is not everything and isinstance(error, NotApplicable):
                refused[numbers[0]] = error
            continue
        kept += numbers
        if numbers is everything:
            break
    known = [atoms for k in kept for atoms in groups[k]]
    for k, refusal in list(refused.items()) if are_whole else ():
        blame = blamed(model, groups[k], refusal, answered=known)
        if isinstance(blame, ModelFailure):
            failed[k] = str(blame)
            del refused[k]
    return Answered(
        kept=np.array(kept, dtype=np.int64), said=together(parts) if parts else _nothing(),
        failed=np.array(list(failed), dtype=np.int64), reasons=tuple(failed.values()),
        refusal=next(iter(refused.values()), None),
    )  # fmt: skip


def _nothing() -> Predictions:
    """Return the answer to no question."""
    return Predictions(
        n_atoms=np.zeros(0, dtype=np.int64), energy=np.zeros(0), forces=np.zeros((0, 3)), stress=np.zeros((0, 3, 3)),
        has_stress=np.zeros(0, dtype=bool),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InWideCell:
    """A model that is asked for pieces of matter in a wide periodic cell, as some calculators need one.

    Attributes:
        model: the model itself.
    """

    model: Model

    @property
    def spec(self) -> ModelSpec:
        """The model's own."""
        return self.model.spec

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Put frames without a cell into one, ask, and leave out the stress of those.

        Raises:
            ModelFailure: the model is at fault.
            NotApplicable: a frame holds what the model does not cover.
        """
        said = self.model.predict([_boxed(atoms) for atoms in frames])
        own = np.array([bool(atoms.pbc.any()) for atoms in frames], dtype=bool)
        return replace(said, stress=said.stress * own[:, None, None], has_stress=said.has_stress & own)

    def calculator(self) -> Calculator:
        """Return the model's own, which is asked for what it is given."""
        return self.model.calculator()


def _boxed(atoms: Atoms) -> Atoms:
    """Return a frame that does not repeat in the middle of a wide cell; every other one as it is."""
    if atoms.pbc.any():
        return atoms
    inside = atoms.copy()
    inside.set_cell([EDGE_A] * 3)
    inside.set_pbc(True)
    inside.positions += 0.5 * EDGE_A
    return inside


def for_pieces(model: Model, piece: Atoms, context: Context) -> Model:
    """Return the model, or the model with a wide cell around pieces when it fails without and answers with one."""
    try:
        predict(model, [piece], context, remark="a piece")
    except ModelFailure:
        boxed = InWideCell(model=model)
        try:
            predict(boxed, [piece], context, remark="a piece in a wide cell")
        except (ModelFailure, NotApplicable):
            return model
        return boxed
    except NotApplicable:
        pass
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOff:
    """The scatter of single answers about a smooth curve, frame by frame.

    Attributes:
        energy: shape (n_frames,), standard deviation in eV.
        force: shape (n_frames,), root mean square standard deviation of a component in eV/Å.
        stress: shape (n_frames,), likewise in eV/Å^3; zero where there is none.
    """

    energy: Float
    force: Float
    stress: Float


def round_off(model: Model, frames: Sequence[Atoms], rng: np.random.Generator, context: Context) -> RoundOff:
    """Measure what a cubic leaves of answers along a short random displacement; zero where the model fails on it."""
    found = along_a_line(model, frames, NEAR_A, N_NEAR, rng, context)
    energy, force, stress = np.zeros((3, len(frames)))
    pieces = np.split(found.said.forces, found.said.offsets[N_NEAR:-1:N_NEAR]) if len(found.kept) else []
    for k, (number, forces) in enumerate(zip(found.kept.tolist(), pieces, strict=True)):
        own = slice(k * N_NEAR, (k + 1) * N_NEAR)
        energy[number] = scatter(found.said.energy[own], DEGREE)
        force[number] = scatter(forces.reshape(N_NEAR, -1), DEGREE)
        stress[number] = scatter(found.said.stress[own].reshape(N_NEAR, -1), DEGREE)
    return RoundOff(energy=energy, force=force, stress=stress)


def along_a_line(
    model: Model, frames: Sequence[Atoms], reach_A: float, n: int, rng: np.random.Generator, context: Context
) -> Answered:
    """Ask for each frame at evenly spaced places along a random displacement, to a root mean square reach per atom.

    A frame that is only shifted would keep its distances, and with them most of its round-off.
    """
    places = np.linspace(-reach_A, reach_A, n)
    ways = [rng.normal(size=(len(atoms), 3)) / 3.0**0.5 for atoms in frames]
    groups = [[moved(atoms, float(place) * way) for place in places] for atoms, way in zip(frames, ways, strict=True)]
    return answered(model, groups, context, remark="round-off")


def scatter(values: Float, degree: int) -> float:
    """Return the root mean square standard deviation of values about a polynomial.

    Args:
        values: shape (n_places,) or (n_places, n), at evenly spaced places.
        degree: of the polynomial.

    >>> scatter(np.arange(7.0) ** 3, 3) < 1e-10
    True
    """
    values = values.reshape(len(values), -1)
    powers = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, len(values)), degree)
    relative = values - values.mean(axis=0)
    left = relative - powers @ (np.linalg.pinv(powers) @ relative)
    return float(np.sqrt((left**2).sum() / values.shape[1] / (len(values) - degree - 1)))


def moved(atoms: Atoms, by_A: Float) -> Atoms:
    """Return a copy with atoms displaced."""
    copy = atoms.copy()
    copy.positions += by_A
    return copy


def failures(key: str, frames: Int, found: Answered) -> dict[str, Int | np.ndarray]:
    """Return what an observation keeps of frames that a model failed on.

    Args:
        key: what was asked.
        frames: shape (n_groups,), number of the frame of each group.
        found: of these groups.
    """
    return {f"{key}_failed": frames[found.failed], f"{key}_reason": as_numbers(found.reasons)}


def with_failures(value: MetricValue, key: str, seen: Observation, data: Dataset) -> MetricValue:
    """Return a value that names the frames without an answer."""
    numbers = seen.get(f"{key}_failed", np.zeros(0, dtype=np.int64)).tolist()
    return replace(value, failed=tuple(data.uid[number] for number in sorted(set(numbers))))


def failures_view(seen: Observation, data: Dataset, *, n_used: int) -> tuple[Bars, ...]:
    """Return a figure of what the model gave no answer for, and why; nothing when it answered everything."""
    names, reasons = [], []
    for key in sorted(key.removesuffix("_failed") for key in seen if key.endswith("_failed")):
        names += [f"{key} of {data.uid[number]}" for number in seen[f"{key}_failed"].tolist()]
        reasons += as_texts(seen[f"{key}_reason"])
    return left_out_view("Frames", names, reasons, n_used=n_used)
