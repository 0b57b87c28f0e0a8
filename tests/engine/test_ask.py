"""What a wrapped model can, and how its answers are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlipbench.core.model import Committee, Model, ModelSpec, SiteEnergies, SiteFeatures
from mlipbench.engine.ask import asked
from mlipbench.engine.run import attempt
from mlipbench.errors import ModelFailure

FRAMES = [Atoms("H2", [[0, 0, 0], [0, 0, 1]])]


class Features:
    """A model that only describes."""

    spec = ModelSpec(name="features", kind="ase")

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, frames: Sequence[Atoms]) -> Any:
        raise RuntimeError("no energies")

    def calculator(self) -> Any:
        raise NotImplementedError

    def site_features(self, frames: Sequence[Atoms]) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_wrapper_can_what_the_model_can() -> None:
    wrapped = asked(Features(np.zeros((2, 3))), attempt, remember=True)
    assert isinstance(wrapped, Model)
    assert isinstance(wrapped, SiteFeatures)
    assert not isinstance(wrapped, SiteEnergies)
    assert not isinstance(wrapped, Committee)
    assert wrapped.site_features(FRAMES).shape == (2, 3)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.full((2, 3), np.nan), "not finite"),
        (np.zeros((3, 3)), r"shape \(3, 3\) for 2 atoms"),
        (np.zeros(2), r"shape \(2,\) for 2 atoms"),
        ("text", "returned str instead of ndarray"),
        (KeyError("x"), "raised KeyError"),
    ],
)
def test_a_wrong_answer_is_the_model_s_failure(answer: Any, says: str) -> None:
    wrapped = asked(Features(answer), attempt, remember=False)
    assert isinstance(wrapped, SiteFeatures)
    with pytest.raises(ModelFailure, match=says):
        wrapped.site_features(FRAMES)
