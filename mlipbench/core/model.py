"""What is a model, and what does it answer?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlipbench.errors import ModelFailure

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlipbench.core.dataset import Dataset

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
LARGEST = 1e100  # eV, eV/Å, eV/Å^3: what is larger is no answer, and its square no number
Progress = Callable[[int, int, str], None]  # done, total, a short remark
REFERENCE: Final = "reference"  # kind of the models that know nothing, or the labels: marks on a scale


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """All one needs to make a model again, on any machine that sees the same files.

    Attributes:
        name: how leaderboards call it.
        kind: which loader makes it, a key of `mlipbench.models.TABLE`.
        level_of_theory: of the data it was trained on; empty when unknown.
        elements: chemical symbols it covers; None when it does not say.
        checkpoint: file with its weights; None when it has none.
        checkpoint_sha256: of that file; loading refuses another one.
        identity: what else decides its predictions: the source file's sha256 or distribution and version.
        options: plain JSON values handed to the loader.
    """

    name: str
    kind: str
    level_of_theory: str = ""
    elements: tuple[str, ...] | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    identity: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Energies, forces and stresses of some frames, in their order.

    Attributes:
        n_atoms: shape (n_frames,), atoms of each frame.
        energy: shape (n_frames,), eV.
        forces: shape (n_atoms.sum(), 3), eV/Å, frame after frame.
        stress: shape (n_frames, 3, 3), eV/Å^3, ASE's sign (positive under tension); zero where there is none.
        has_stress: shape (n_frames,); a frame without a cell has none, and so has a model that computes none.

    Raises:
        ModelFailure: a shape is wrong or a number is not finite.
    """

    n_atoms: Int
    energy: Float
    forces: Float
    stress: Float
    has_stress: Bool

    def __post_init__(self) -> None:
        """Refuse wrong shapes and numbers that are not finite, and say which frame they stand in."""
        n = len(self.n_atoms)
        wanted = {"energy": (n,), "forces": (int(self.n_atoms.sum()), 3), "stress": (n, 3, 3), "has_stress": (n,)}
        for name, shape in wanted.items():
            given = getattr(self, name).shape
            if given != shape:
                raise ModelFailure(f"the model returned {name} of shape {given}; {shape} is needed for {n} frames")
        frame_of_atom = np.repeat(np.arange(n), self.n_atoms)
        for name, bad in (
            ("energy", ~_is_answer(self.energy)),
            ("forces", np.isin(np.arange(n), frame_of_atom[~_is_answer(self.forces).all(axis=1)])),
            ("stress", ~_is_answer(self.stress).all(axis=(1, 2))),
        ):
            if bad.any():
                raise ModelFailure(
                    f"the model's {name} is not finite in frame {int(np.argmax(bad))} ({int(bad.sum())} of {n} frames)"
                )

    @property
    def offsets(self) -> Int:
        """First row of each frame in `forces`, and the number of rows: shape (n_frames + 1,)."""
        return np.concatenate([[0], np.cumsum(self.n_atoms)])


def _is_answer(numbers: Float) -> Bool:
    """Tell which numbers are finite, and small enough that their squares are."""
    return np.asarray(np.abs(numbers.astype(np.float64)) < LARGEST)


@runtime_checkable
class Model(Protocol):
    """Anything that predicts energies and forces of frames."""

    @property
    def spec(self) -> ModelSpec:
        """What it takes to make this model again."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict all frames, in batches where the model can; the frames are not changed.

        Raises:
            ModelFailure: the model raised, returned a number that is not finite, or changed its atoms.
            NotApplicable: a frame holds what the model does not cover, such as an element.
        """

    def calculator(self) -> Calculator:
        """Return an ASE calculator of this model, for whatever speaks ASE."""


@runtime_checkable
class SiteEnergies(Protocol):
    """A model whose energy is a sum over atoms that it can name."""

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame."""


@runtime_checkable
class SiteFeatures(Protocol):
    """A model, or a descriptor, that describes each atom's surroundings by invariant numbers."""

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        """Return the features of each atom, shape (n_atoms_total, n_features), frame after frame."""


@runtime_checkable
class AtomEnergies(Protocol):
    """A model that says what a lone atom of each element has for its energy."""

    def atom_energies(self) -> Mapping[str, float]:
        """Return eV by chemical symbol."""


@runtime_checkable
class OtherPrecision(Protocol):
    """A model that can be had in single and in double precision."""

    def in_precision(self, dtype: str) -> Model:
        """Return the same model in "float32" or "float64"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How unsure a model is of some frames: one standard deviation over what its parameters may be, without noise.

    Attributes:
        energy_std: shape (n_frames,), of the total energy, eV.
        forces_std: shape (n_atoms.sum(), 3), of each force component, eV/Å.
    """

    energy_std: Float
    forces_std: Float


@runtime_checkable
class Committee(Protocol):
    """A model with members that may disagree; its ASE calculator answers "energy_std" and "forces_std"."""

    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        """Predict all frames by each member."""

    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        """Return how far the members, or the posterior they were drawn from, spread."""


class Trainer(Protocol):
    """A function that turns data and options into a model on disk."""

    def __call__(
        self,
        train: Dataset,
        valid: Dataset,
        *,
        options: Mapping[str, Any],
        seed: int,
        device: str,
        out: Path,
        progress: Progress,
    ) -> Trained:
        """Train, write the weights under `out`, and return what was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left behind.

    Attributes:
        kind: loader of the checkpoint, a key of `mlipbench.models.TABLE`.
        checkpoint: file name of the weights inside the folder the trainer was given.
        elements: chemical symbols covered.
        options: handed to the loader.
        notes: warnings a reader of the model card must see, one sentence each.
        facts: numbers and short texts for the model card: parameters, epochs, final errors.
        history: one mapping of finite numbers per epoch or step; may be empty.
    """

    kind: str
    checkpoint: str
    elements: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
