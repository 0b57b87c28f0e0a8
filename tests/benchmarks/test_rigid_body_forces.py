"""An error of one kind is counted as that kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel, labelled

from mlipbench.benchmarks import molecular as molecular_module
from mlipbench.benchmarks.molecular import LONE_ELEMENTS, molecular, radii_A
from mlipbench.benchmarks.rigid_body_forces import RigidBodyForces
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Predictions
from mlipbench.core.view import Bars
from mlipbench.errors import NotApplicable

PARTS = ("translation_force_rmse", "rotation_force_rmse", "vibration_force_rmse")


@dataclass(frozen=True)
class Plus(PairModel):
    """The truth plus given forces, for the frames it was made for."""

    extra: Float = field(default_factory=lambda: np.zeros(3))

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        truth = PairModel().predict(frames)
        return replace(truth, forces=truth.forces + self.extra)


def rmse(data: Dataset, extra: Float, context: Context) -> dict[str, float]:
    made = RigidBodyForces()
    values = made.score(made.observe(Plus(extra=extra), data, context), data)
    return {v.metric: v.value for v in values if not v.part and v.metric in PARTS}


@pytest.fixture(scope="module")
def molecules() -> Dataset:
    return labelled(["cluster", "liquid"])


def kinds_of_error(data: Dataset) -> dict[str, Float]:
    """Forces that only move, only turn, and only stretch molecules."""
    found = molecular(data, np.arange(len(data)), lone_elements=LONE_ELEMENTS)
    random = np.random.default_rng(0).normal(scale=0.1, size=data.forces.shape)
    parts = found.split(random)
    return {
        "translation_force_rmse": parts.translation,
        "rotation_force_rmse": parts.rotation,
        "vibration_force_rmse": parts.vibration,
    }


@pytest.mark.parametrize("kind", PARTS)
def test_error_of_one_kind_stays_of_that_kind(kind: str, molecules: Dataset, context: Context) -> None:
    extra = kinds_of_error(molecules)[kind]
    found = rmse(molecules, extra, context)
    counted = np.ones(len(extra), bool) if kind == PARTS[0] else molecules.numbers != 3
    assert found.pop(kind) == pytest.approx(1000.0 * np.sqrt((extra[counted] ** 2).mean()))
    assert max(found.values()) < 1e-9


def test_molecules_may_be_found(molecules: Dataset, context: Context) -> None:
    extra = np.random.default_rng(1).normal(scale=0.1, size=molecules.forces.shape)
    given, found = (rmse(data, extra, context) for data in (molecules, replace(molecules, molecule=None)))
    assert found == pytest.approx(given)


def test_ion_is_not_bonded_to_its_solvent() -> None:
    np.testing.assert_array_equal(radii_A(np.array([3, 8]), ("Li",)), [0.0, 0.66])
    np.testing.assert_array_equal(radii_A(np.array([3, 8]), ()), [1.28, 0.66])


def test_molecules_alone_have_vibrations_only(context: Context) -> None:
    data = labelled(["molecule"])
    assert set(rmse(data, np.full(data.forces.shape, 0.1), context)) == {"vibration_force_rmse"}


def test_lone_atoms_do_not_apply(context: Context) -> None:
    with pytest.raises(NotApplicable, match="lone atoms only"):
        RigidBodyForces().observe(PairModel(), labelled(["atom"]), context)


def test_endless_molecule_is_left_out_and_counted(molecules: Dataset, context: Context) -> None:
    carbon = Atoms("C6", [[1.4 * k, 0, 0] for k in range(6)], cell=[8.4, 20, 20], pbc=True)
    base = molecules.take([0])
    both = replace(
        molecules.take([0, 0]), frames=(base.frames[0], carbon), uid=("whole", "endless"),
        forces=np.concatenate([base.forces, np.zeros((6, 3))]),
        molecule=np.concatenate([base.molecule, np.zeros(6, int)]),
    )  # fmt: skip
    made = RigidBodyForces()
    seen = made.observe(PairModel(), both, context)
    assert seen["frame"].tolist() == [0]
    assert int(seen["n_left_out"]) == 1
    shown = {view.title: view for view in made.views(seen, both)}["Frames"]
    assert isinstance(shown, Bars)
    assert shown.values.tolist() == [1.0, 1.0]
    with pytest.raises(NotApplicable, match="frame endless: molecule 0 is bonded to its own periodic image"):
        made.observe(PairModel(), both.take([1]), context)


WRONG: dict[str, Callable[..., Float]] = {
    "no unwrapping": lambda positions, cell, pbc, molecule, **_: positions,
    "box only": lambda positions, cell, pbc, molecule, **_: (
        positions - np.rint(positions / np.where(pbc, np.diag(cell), np.inf)) * np.diag(cell)
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_unwrapping_is_noticed(
    name: str, molecules: Dataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = kinds_of_error(molecules)["rotation_force_rmse"]
    monkeypatch.setattr(molecular_module, "unwrap", WRONG[name])
    assert rmse(molecules, extra, context)["vibration_force_rmse"] > 1.0
