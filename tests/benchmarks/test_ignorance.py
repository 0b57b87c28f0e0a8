"""A model that knows nothing has no score, nor has one that knows nothing of what it is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from pair_model import PairModel

from mlipbench import benchmarks
from mlipbench.core.benchmark import Context, Expecting
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Predictions
from mlipbench.data import manifest

ROWS = ("energy_force_stress", "rigid_body_forces", "intra_inter")
SPLITS = ("test", "valid_quick", "larger_clusters", "hotter", "composition", "density")


@dataclass(frozen=True)
class Labels(PairModel):
    """The labels of a data set, some of them left out."""

    data: Dataset | None = None
    forces: float = 0.0
    between: bool = True

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Answer with a share of the labels; of molecules alone, with those of the molecules."""
        data = self.data
        assert data is not None and data.forces_intra is not None and data.energy_intra is not None
        n_atoms = np.array([len(atoms) for atoms in frames])
        of_frame = {atoms.positions.tobytes(): k for k, atoms in enumerate(data.frames)}
        energy, forces, stress = np.zeros(len(frames)), np.zeros((int(n_atoms.sum()), 3)), np.zeros((len(frames), 3, 3))
        ends = np.cumsum(n_atoms)
        for k, atoms in enumerate(frames):
            frame = of_frame.get(atoms.positions.tobytes())
            if frame is None:
                continue  # a molecule alone
            rows = slice(data.offsets[frame], data.offsets[frame + 1])
            source = data.forces if self.between else data.forces_intra
            forces[ends[k] - n_atoms[k] : ends[k]] = self.forces * source[rows]
        periodic = np.array([bool(atoms.pbc.all()) for atoms in frames])
        return Predictions(n_atoms=n_atoms, energy=energy, forces=forces, stress=stress, has_stress=periodic)


@pytest.fixture(scope="module")
def ecemc() -> Dataset:
    return manifest.load(manifest.source("ecemc_gfn1"))


def headlines(name: str, model: Labels, data: Dataset, context: Context) -> dict[str, tuple[MetricValue, float]]:
    made = benchmarks.benchmark(name)()
    metrics = {metric.name: metric for metric in made.about.metrics if metric.headline}
    values = made.score(made.observe(model, data, context), data)
    return {
        value.metric: (value, score(metrics[value.metric], value.value, zero=value.zero))
        for value in values
        if not value.part and value.metric in metrics
    }


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ROWS)
def test_zero_scores_nothing(name: str, split: str, ecemc: Dataset, context: Context) -> None:
    data = ecemc.split(split)
    found = headlines(name, Labels(data=data), data, context)
    made = benchmarks.benchmark(name)()
    assert isinstance(made, Expecting)
    assert set(found) == set(made.expects(data)), "every expected number is there, and says what ignorance gets"
    assert found
    for metric, (value, points) in found.items():
        assert value.zero is not None, metric
        assert points <= 0.05, (metric, value.value, value.zero)


def test_parts_say_what_ignorance_gets(ecemc: Dataset, context: Context) -> None:
    data = ecemc.split("valid_quick")
    for name in ROWS:
        made = benchmarks.benchmark(name)()
        values = made.score(made.observe(Labels(data=data), data, context), data)
        assert all(value.zero is not None for value in values if value.metric != "force_cosine")


def test_half_the_forces_are_worth_something(ecemc: Dataset, context: Context) -> None:
    """Or the scale would hide what a model knows."""
    data = ecemc.split("valid_quick")
    found = headlines("rigid_body_forces", Labels(data=data, forces=0.5), data, context)
    assert found["translation_force_relative_rmse"][0].value == pytest.approx(0.5)
    assert found["translation_force_relative_rmse"][1] > 0.1
    almost = headlines("rigid_body_forces", Labels(data=data, forces=0.95), data, context)
    assert almost["translation_force_relative_rmse"][1] == pytest.approx(1.0)


def test_no_interaction_scores_nothing_between_molecules(ecemc: Dataset, context: Context) -> None:
    data = ecemc.split("test")
    alone = Labels(data=data, forces=1.0, between=False)
    rigid = headlines("rigid_body_forces", alone, data, context)
    assert rigid["translation_force_relative_rmse"][1] <= 0.05
    assert rigid["rotation_force_relative_rmse"][1] <= 0.05
    assert np.mean([points for _, points in rigid.values()]) < 0.25, "as a row"
    made = benchmarks.benchmark("intra_inter")()
    seen = dict(made.observe(alone, data, context))
    chosen = data.take(seen["frame"].tolist())
    seen |= {"energy": chosen.energy_intra, "energy_intra": chosen.energy_intra, "forces_intra": chosen.forces_intra}
    for value in made.score(seen, data):
        if not value.part and value.metric in {"inter_force_rmse", "inter_energy_rmse"}:
            metric = next(metric for metric in made.about.metrics if metric.name == value.metric)
            assert score(metric, value.value, zero=value.zero) <= 0.05


def test_relative_errors_are_what_rigid_forces_are_judged_by() -> None:
    metrics = benchmarks.benchmark("rigid_body_forces")().about.metrics
    judged = {metric.name for metric in metrics if metric.role == "merit"}
    assert judged == {metric.name for metric in metrics if metric.headline}
    assert judged == {f"{part}_force_relative_rmse" for part in ("translation", "rotation", "vibration")}


def test_without_labels_of_a_part_nothing_is_expected(ecemc: Dataset) -> None:
    """One molecule alone is not moved as a whole."""
    alone = ecemc.take([k for k, kind in enumerate(ecemc.config_type) if kind == "molecule_EC"][:6])
    rigid, intra = (benchmarks.benchmark(name)() for name in ("rigid_body_forces", "intra_inter"))
    assert isinstance(rigid, Expecting) and isinstance(intra, Expecting)
    assert rigid.expects(alone) == ("vibration_force_relative_rmse",)
    assert intra.expects(alone) == ()
    assert "stress_rmse" not in benchmarks.benchmark("energy_force_stress")().expects(  # type: ignore[attr-defined]
        replace(alone, has_stress=np.zeros(6, bool))
    )
