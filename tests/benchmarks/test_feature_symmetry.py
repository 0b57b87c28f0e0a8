"""Features that break one symmetry are caught at it, and at nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from pair_model import PairModel
from site_model import Sums, SumsWithEnergies

from mlipbench.benchmarks.feature_symmetry import FeatureSymmetry
from mlipbench.benchmarks.operations import OPERATIONS
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Float
from mlipbench.core.view import Bars
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.testing.benchmarks import check_benchmark

MADE = FeatureSymmetry(n_frames=6)
CUTOFF_A = 4.0


def measured(model: Any, data: Dataset, context: Context) -> dict[str, MetricValue]:
    return {v.metric: v for v in MADE.score(MADE.observe(model, data, context), data)}


@pytest.mark.parametrize("model", [Sums(), SumsWithEnergies()], ids=["features", "site energies"])
def test_what_obeys_is_found_to(model: Any, data: Dataset, context: Context) -> None:
    found = measured(model, data, context)
    assert set(found) == {f"{operation}_change" for operation in OPERATIONS}
    # Energies of -1000 eV hold 1e-13 eV, and surroundings are worth about 1 eV.
    assert max(value.value for value in found.values()) < 1e-12


def test_contract(data: Dataset) -> None:
    check_benchmark(FeatureSymmetry(n_frames=4), Sums(), data, perfect=Sums(), n_refusals=0)


def place_in_the_list(atoms: Atoms) -> Float:
    return np.arange(len(atoms)) % 2.0


def density_along_z(atoms: Atoms) -> Float:
    i, r, vector = neighbor_list("idD", atoms, CUTOFF_A)
    return np.bincount(i, vector[:, 2] ** 2 * (1.0 - (r / CUTOFF_A) ** 2) ** 3, minlength=len(atoms))


def handedness(atoms: Atoms) -> Float:
    """a·(b × c) of three weighted sums of the vectors to the neighbours."""
    i, j, r, vector = neighbor_list("ijdD", atoms, CUTOFF_A)
    z = atoms.numbers[j]
    sums = np.zeros((3, len(atoms), 3))
    for k, weight in enumerate((np.exp(-r), np.exp(-(r**2)) * z, r * np.exp(-r) * z**2)):
        np.add.at(sums[k], i, (weight * (1.0 - (r / CUTOFF_A) ** 2) ** 3)[:, None] * vector)
    return np.asarray((sums[0] * np.cross(sums[1], sums[2])).sum(axis=1))


def distance_from_origin(atoms: Atoms) -> Float:
    return np.zeros(len(atoms)) if atoms.pbc.any() else np.asarray((atoms.positions**2).sum(axis=1))


def distance_from_centre_as_stored(atoms: Atoms) -> Float:
    from_centre = np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0), axis=1)
    return from_centre if atoms.pbc.any() else np.zeros(len(atoms))


def number_of_atoms(atoms: Atoms) -> Float:
    return np.full(len(atoms), float(len(atoms)))


@dataclass(frozen=True)
class Breaks(Sums):
    """The sums and one more feature, which should not be there."""

    term: Callable[[Atoms], Float] | None = None

    def site_features(self, frames: list[Atoms]) -> Float:
        assert self.term is not None
        extra = np.concatenate([np.zeros(0), *(self.term(atoms) for atoms in frames)])
        return np.column_stack([super().site_features(frames), 0.01 * extra])


CAUGHT = [
    (place_in_the_list, {"permutation", "supercell"}),
    (density_along_z, {"rotation", "reflection"}),
    (handedness, {"reflection"}),
    (distance_from_origin, {"translation"}),
    (distance_from_centre_as_stored, {"wrap", "supercell"}),
    (number_of_atoms, {"supercell"}),
]


@pytest.mark.parametrize(("term", "caught"), CAUGHT, ids=[term.__name__ for term, _ in CAUGHT])
def test_each_broken_symmetry_is_caught_alone(
    term: Callable[[Atoms], Float], caught: set[str], data: Dataset, context: Context
) -> None:
    found = measured(Breaks(term=term), data, context)
    for operation in OPERATIONS:
        change = found[f"{operation}_change"].value
        assert change > 1e-6 if operation in caught else change < 1e-12, operation


def test_change_of_known_size(data: Dataset, context: Context) -> None:
    """n atoms say n each, so n - 1 more than alone; in the doubled cell they say n more, and 1 + 1/(n - 1) of it."""

    @dataclass(frozen=True)
    class Counts(Sums):
        def site_features(self, frames: list[Atoms]) -> Float:
            return np.concatenate([number_of_atoms(atoms) for atoms in frames])[:, None]

    seen = MADE.observe(Counts(), data, context)
    n = np.array([len(data.frames[i]) for i in seen["supercell_frame"]])  # once for each atom
    expected = np.sqrt(((n / (n - 1.0)) ** 2).mean())
    found = {v.metric: v.value for v in MADE.score(seen, data)}
    assert found.pop("supercell_change") == pytest.approx(expected)
    assert set(found.values()) == {0.0}


def test_interval_is_over_trajectories(data: Dataset, context: Context) -> None:
    found = measured(Breaks(term=density_along_z), data, context)["rotation_change"]
    seen = MADE.observe(Sums(), data, context)
    assert found.n == len({data.trajectory[i] for i in seen["rotation_frame"]}) > 1
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_no_change_at_all_can_be_shown(data: Dataset, context: Context) -> None:
    (shown,) = MADE.views(MADE.observe(Breaks(term=number_of_atoms), data, context), data)
    assert isinstance(shown, Bars)
    assert (shown.values > 0.0).all()  # the axis is of decades


def test_what_cannot_be_asked_is_said(data: Dataset, context: Context) -> None:
    with pytest.raises(NotApplicable, match="neither features nor energies"):
        MADE.observe(PairModel(), data, context)
    with pytest.raises(NotApplicable, match="what it says of the atom alone"):
        MADE.observe(Sums(cutoff_A=0.1), data, context)
    with pytest.raises(BadInput, match="n_frames is 0"):
        replace(MADE, n_frames=0).observe(Sums(), data, context)


def test_round_off_is_no_surroundings(data: Dataset, context: Context) -> None:
    """Single precision that answers with noise where it sees nothing has nothing to be relative to."""

    @dataclass(frozen=True)
    class Noise(Sums):
        def site_features(self, frames: list[Atoms]) -> Float:
            n = sum(len(atoms) for atoms in frames)
            noise = np.random.default_rng(n).uniform(-1e-4, 1e-4, size=(n, 1))
            return np.asarray((-1000.0 + noise).astype(np.float32), dtype=np.float64)

    with pytest.raises(NotApplicable, match="what it says of the atom alone"):
        MADE.observe(Noise(), data, context)
