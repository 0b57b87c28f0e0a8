"""What acts within molecules and between them is told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel, labelled

from mlipbench.benchmarks import molecular
from mlipbench.benchmarks.intra_inter import IntraInter
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Model, Predictions
from mlipbench.errors import BadInput, NotApplicable

LARGEST_MOLECULE = 6


@dataclass(frozen=True)
class Recording(PairModel):
    """The truth, and what it was asked."""

    asked: list[Atoms] = field(default_factory=list)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        self.asked.extend(atoms.copy() for atoms in frames)
        return super().predict(frames)


@dataclass(frozen=True)
class WrongBetween(PairModel):
    """Wrong in frames that are too large for one molecule, right in those of one."""

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        truth = super().predict(frames)
        is_large = truth.n_atoms > LARGEST_MOLECULE
        per_atom = np.repeat(is_large, truth.n_atoms)
        return replace(
            truth,
            energy=truth.energy + 0.002 * is_large * truth.n_atoms,
            forces=truth.forces + 0.03 * per_atom[:, None],
        )


@dataclass(frozen=True)
class Odd(PairModel):
    """Neither conservative nor symmetric: any model at all."""

    def answer(self, atoms: Atoms) -> tuple[float, Float, Float]:
        energy, forces, stress = super().answer(atoms)
        return energy + float(np.sin(atoms.numbers * np.arange(len(atoms))).sum()), forces + 0.3, stress


def values(model: Model, data: Dataset, context: Context) -> dict[str, float]:
    made = IntraInter()
    return {v.metric: v.value for v in made.score(made.observe(model, data, context), data) if not v.part}


@pytest.fixture(scope="module")
def molecules() -> Dataset:
    return labelled(["molecule", "cluster", "liquid"])


def test_error_between_molecules_is_inter_only(molecules: Dataset, context: Context) -> None:
    found = values(WrongBetween(), molecules, context)
    assert found["inter_force_rmse"] == pytest.approx(30.0)
    assert found["inter_energy_rmse"] == pytest.approx(2.0, rel=1e-6)
    assert found["intra_force_rmse"] < 1e-9
    assert found["intra_energy_rmse"] < 1e-6


def test_inter_energy_needs_no_lone_atoms(molecules: Dataset, context: Context) -> None:
    found = values(PairModel(shift_eV={1: 1.0, 3: 2.0, 6: -3.0, 8: 0.5}), molecules, context)
    assert found["intra_energy_rmse"] > 100.0
    assert found["inter_energy_rmse"] < 1e-6


def test_one_isolated_molecule_has_no_inter_part_in_any_model(context: Context) -> None:
    seen = IntraInter().observe(Odd(), labelled(["molecule"]), context)
    np.testing.assert_array_equal(seen["energy"], seen["energy_intra"])
    np.testing.assert_array_equal(seen["forces"], seen["forces_intra"])


def test_single_molecules_do_not_count_as_inter(context: Context) -> None:
    assert not [name for name in values(PairModel(scale=1.1), labelled(["molecule"]), context) if "inter" in name]


def test_forces_in_vacuum_have_no_net_force(molecules: Dataset, context: Context) -> None:
    seen = IntraInter().observe(PairModel(scale=1.1), molecules, context)
    found = molecular.molecular(molecules, np.arange(len(molecules)), lone_elements=())
    net = np.zeros((found.molecule.max() + 1, 3))
    np.add.at(net, found.molecule, seen["forces_intra"])
    np.testing.assert_allclose(net, 0.0, atol=1e-12)


def test_the_two_definitions_differ_and_are_named_apart(molecules: Dataset, context: Context) -> None:
    found = values(PairModel(scale=1.1), molecules, context)
    assert found["inter_force_rmse"] != pytest.approx(found["rigid_inter_force_rmse"], rel=0.05)
    assert found["intra_force_rmse"] != pytest.approx(found["rigid_intra_force_rmse"], rel=1e-3)


def test_molecules_go_into_vacuum_whole_with_their_charge(context: Context) -> None:
    data = labelled(["liquid"], n_trajectories=1, n_frames=1)
    model = Recording()
    IntraInter().observe(model, data, context)
    alone = model.asked[1:]
    assert [atoms.get_chemical_formula() for atoms in alone] == ["H2O", "CO2", "CH4O", "Li"]
    assert not any(atoms.pbc.any() or atoms.cell.array.any() for atoms in alone)
    assert [atoms.info for atoms in alone] == [{}, {}, {}, {"charge": 1}]
    assert max(atoms.get_all_distances().max() for atoms in alone) < 3.5


def test_missing_vacuum_labels_name_the_command(molecules: Dataset, context: Context) -> None:
    for name in ("energy_intra", "forces_intra"):
        without = replace(molecules, **{name: None})  # type: ignore[arg-type]
        with pytest.raises(NotApplicable, match=r"no vacuum labels.*mlipbench data vacuum toy"):
            IntraInter().observe(PairModel(), without, context)


def test_missing_charge_is_refused(molecules: Dataset, context: Context) -> None:
    without = replace(molecules, molecule_charges=((),) * len(molecules))
    with pytest.raises(BadInput, match="1 molecules but 0 molecule charges"):
        IntraInter().observe(PairModel(), without, context)


def check_truth_has_no_error(data: Dataset, context: Context, *, put_back: Callable[[Float], Float]) -> None:
    made = IntraInter()
    seen = dict(made.observe(PairModel(), data, context))
    seen["forces_intra"] = put_back(seen["forces_intra"])
    assert max(v.value for v in made.score(seen, data)) < 1e-6


def test_truth_has_no_error(molecules: Dataset, context: Context) -> None:
    check_truth_has_no_error(molecules, context, put_back=lambda forces: forces)


def test_the_check_has_teeth_for_atom_order(molecules: Dataset, context: Context) -> None:
    """Forces left molecule after molecule, as if the atoms of a frame stood so."""
    found = molecular.molecular(molecules, np.arange(len(molecules)), lone_elements=())
    with pytest.raises(AssertionError):
        check_truth_has_no_error(molecules, context, put_back=lambda forces: forces[found.rows_by_molecule])


def test_the_check_has_teeth_for_unwrapping(
    molecules: Dataset, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(molecular, "unwrap", lambda positions, cell, pbc, molecule, **_: positions)
    with pytest.raises(AssertionError):
        check_truth_has_no_error(molecules, context, put_back=lambda forces: forces)
