"""What the comparisons share: data, trained models, and how large they are."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.ace.basis import Basis
from mlipbench.ace.fit import Weights
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, ModelSpec
from mlipbench.core.result import Measured
from mlipbench.data import manifest
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine import schedule
from mlipbench.engine.executors import executor
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.files.places import default_store
from mlipbench.models.entries import read_model
from mlipbench.store import Store
from mlipbench.training.ace import read_options
from mlipbench.training.e0 import baseline

if TYPE_CHECKING:
    from ase import Atoms

DATA: Final = "ecemc_gfn1"
MODELS: Final = ("ace-medium", "mace-ci", "gap")
OURS: Final = "ace-medium"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much to measure.

    Attributes:
        n_calls: timed calls of each model on the box.
        n_steps: of dynamics.
        n_repeats: of dynamics and of counting distances.
        step_A: how far atoms move between two calls, standard deviation along each direction.
        train_frames: frames to fit; None for all of the quick training split.
        test_frames: frames for accuracy; None for all of the test split.
        assembly_frames: frames of the training data whose rows are assembled.
        farm_frames: of an evaluation job.
        degrees: total degrees of the comparison with ace-jax, in its counting.
        is_whole: measure growth at all points; else at two of each, to see that it works.
        ace_jax_python: interpreter that has ace-jax.
    """

    n_calls: int = 20
    n_steps: int = 40
    n_repeats: int = 3
    step_A: float = 0.005
    train_frames: int | None = None
    test_frames: int | None = None
    assembly_frames: int = 40
    farm_frames: int = 160
    degrees: tuple[int, ...] = (6, 8)
    is_whole: bool = True
    ace_jax_python: str = sys.executable

    @cached_property
    def data(self) -> Dataset:
        """Labelled frames with their splits."""
        return manifest.load(manifest.source(DATA))

    @cached_property
    def train(self) -> Dataset:
        """Frames to fit."""
        return _some(self.data.split("train_quick"), self.train_frames)

    @cached_property
    def test(self) -> Dataset:
        """Frames that accuracy is measured on."""
        return _some(self.data.split("test"), self.test_frames)

    @cached_property
    def box(self) -> Atoms:
        """The largest periodic frame of the test split."""
        frames = self.data.split("test").frames
        return max((frame for frame in frames if frame.pbc.all()), key=len)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(sorted(set(self.data.numbers.tolist())))

    @cached_property
    def e0_eV(self) -> Float:
        """Energy of each element by least squares on the training frames, shape (n_elements,)."""
        from ase.data import chemical_symbols

        symbols = tuple(str(chemical_symbols[number]) for number in self.numbers)
        found = baseline(self.train, "average", symbols, is_shifted=False)
        return np.array([found.energies_eV[symbol] for symbol in symbols])

    @cached_property
    def medium(self) -> Basis:
        """The basis of the recipe ace-medium."""
        entry = read_model(OURS)
        if entry.recipe is None:
            raise BadInput(f"model {OURS} has no recipe")
        return read_options(entry.recipe.options, numbers=self.numbers).basis

    @property
    def weights(self) -> Weights:
        """Weights of the recipe ace-medium: E / √N, forces, V σ / √N."""
        return Weights(energy=10.0, forces=1.0, stress=1.0)

    @cached_property
    def trained(self) -> dict[str, ModelSpec | str]:
        """Trained models by name, from the usual store where they are, else trained now; or why there is none."""
        found: dict[str, ModelSpec | str] = {}
        empty = replace(read_suite("electrolyte"), rows=())
        store = Store(default_store())
        with store.lock(), executor("serial", store, workers=1) as place:
            for name in MODELS:
                try:
                    plan = planning.make(empty, [read_model(name)], tier="quick", device="cpu")
                except BadInput as error:
                    found[name] = str(error)
                    continue
                standing = schedule.run(plan, store, place, lambda _, news: say(news), fresh=False)
                job, stored = standing.ended[0]
                outcome = stored.result.outcome
                if isinstance(outcome, Measured):
                    found[name] = planning.trained_spec(job, stored)
                else:
                    found[name] = f"not trained: {outcome.reason}"
        return found

    def spec(self, name: str) -> ModelSpec:
        """Return a trained model.

        Raises:
            NotApplicable: there is none, such as when its package is not installed.
        """
        found = self.trained[name]
        if isinstance(found, str):
            raise NotApplicable(found)
        return found


def _some(data: Dataset, n_frames: int | None) -> Dataset:
    if n_frames is None or n_frames >= len(data):
        return data
    return data.take(np.linspace(0, len(data) - 1, n_frames).round().astype(int).tolist())


def say(text: str) -> None:
    """Write a line to the terminal."""
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
