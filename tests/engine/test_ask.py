"""What a wrapped model can, and how its answers are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlipbench.core.model import (
    AtomEnergies,
    Committee,
    Model,
    ModelSpec,
    OtherPrecision,
    Predictions,
    SiteEnergies,
    SiteFeatures,
)
from mlipbench.engine.ask import asked, fingerprint
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


def tagged(**info: Any) -> Atoms:
    frame = FRAMES[0].copy()
    frame.info.update(info)
    return frame


def with_array(name: str, values: Any) -> Atoms:
    frame = FRAMES[0].copy()
    frame.set_array(name, np.asarray(values))
    return frame


LONG = np.zeros(2000)  # numpy's text of it leaves out the middle
OTHER = np.where(np.arange(2000) == 1000, 1.0, 0.0)
DIFFERENT = {
    "an array": (with_array("initial_charges", [0.0, 0.0]), with_array("initial_charges", [0.0, 1.0])),
    "an array's presence": (FRAMES[0], with_array("initial_charges", [0.0, 0.0])),
    "an array's name": (with_array("a", [0.0, 1.0]), with_array("b", [0.0, 1.0])),
    "an array's dtype": (with_array("a", np.zeros(2, np.int64)), with_array("a", np.zeros(2, np.float64))),
    "an array's shape": (with_array("a", np.zeros((2, 4))), with_array("a", np.zeros((2, 2, 2)))),
    "the last bit of a position": (
        Atoms("H2", [[0, 0, 0], [0, 0, 1]]),
        Atoms("H2", [[0, 0, 0], [0, 0, np.nextafter(1, 2)]]),
    ),
    "the middle of a long info": (tagged(a=LONG), tagged(a=OTHER)),
    "the last bit of an info": (tagged(a=np.array([1.0])), tagged(a=np.array([np.nextafter(1, 2)]))),
    "an info's dtype": (tagged(a=np.array([1])), tagged(a=np.array([1], np.int32))),
    "an info's shape": (tagged(a=LONG), tagged(a=LONG.reshape(2, -1))),
    "an array inside an info": (tagged(a={"b": [LONG]}), tagged(a={"b": [OTHER]})),
    "objects in an info": (tagged(a=np.array([1, "x"], object)), tagged(a=np.array([2, "x"], object))),
    "charge": (tagged(charge=0), tagged(charge=1)),
    "where a text ends": (tagged(a="1", b="2"), tagged(a="1', 'b': '2")),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_a_model_may_look_at_changes_the_fingerprint(what: str) -> None:
    first, second = DIFFERENT[what]
    assert fingerprint([first]) != fingerprint([second])
    assert fingerprint([first]) == fingerprint([first.copy()])
    assert fingerprint([first, second]) != fingerprint([second, first])
    assert fingerprint([first]) != fingerprint([first, first])


def test_the_order_of_names_leaves_the_fingerprint() -> None:
    first, second = FRAMES[0].copy(), FRAMES[0].copy()
    for frame, names in ((first, "ab"), (second, "ba")):
        for name in names:
            frame.info[name] = 1
            frame.set_array(name, np.zeros(2))
    assert fingerprint([first]) == fingerprint([second])


def test_a_model_that_marks_its_frames_has_changed_them() -> None:
    class Marks(Features):
        def predict(self, frames: Sequence[Atoms]) -> Predictions:
            for frame in frames:
                frame.set_tags([1] * len(frame))
            return Predictions(
                n_atoms=np.array([2]),
                energy=np.zeros(1),
                forces=np.zeros((2, 3)),
                stress=np.zeros((1, 3, 3)),
                has_stress=np.zeros(1, dtype=bool),
            )

    with pytest.raises(ModelFailure, match="changed the structures"):
        asked(Marks(None), attempt, remember=True).predict([FRAMES[0].copy()])


class Two(Features):
    """A model with lone atoms and another precision."""

    def atom_energies(self) -> Any:
        return self.answer

    def in_precision(self, dtype: str) -> Any:
        return Features(np.zeros((2, 3))) if dtype == "float32" else None


def test_lone_atoms_and_precisions_pass_through() -> None:
    wrapped = asked(Two({"H": -13.6}), attempt, remember=True)
    assert isinstance(wrapped, AtomEnergies) and isinstance(wrapped, OtherPrecision)
    assert wrapped.atom_energies() == {"H": -13.6}
    assert isinstance(wrapped.in_precision("float32"), Model)
    with pytest.raises(ModelFailure, match="the model raised TypeError"):
        asked(Two(1.0), attempt, remember=True).atom_energies()
