"""Truncation is no error, rest hides none, and a part that a model fails on costs that part alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import broken
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator

from mlipbench.benchmarks.consistency import Consistency
from mlipbench.benchmarks.slopes import CANNOT_TELL, unexplained
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.view import Bars
from mlipbench.physics.conservation import THREE_STEPS, slopes

QUICK = Consistency(n_frames=2, n_directions=2, n_jacobians=1, n_loop_points=8)


def at_rest() -> Dataset:
    data = broken.argon(n=1)
    crystal = bulk("Ar", "fcc", a=5.25, cubic=True)
    return replace(data.take([0]), frames=(crystal,), forces=np.zeros((len(crystal), 3)), config_type=("crystal",))


def measured(calculator: Calculator, data: Dataset, context: Context) -> dict[str, MetricValue]:
    seen = QUICK.observe(broken.model(calculator), data, context)
    return {value.metric: value for value in QUICK.score(seen, data)}


@pytest.mark.parametrize(
    ("calculator", "wrong"),
    [(broken.Pairs, set()), (broken.WrongForces, {"force_gradient"}), (broken.WrongStress, {"stress_strain"})],
)
def test_rest_hides_nothing(calculator: type[Calculator], wrong: set[str], context: Context) -> None:
    found = measured(calculator(), at_rest(), context)
    definition = {metric.name: metric for metric in QUICK.about.metrics}
    assert {name for name, value in found.items() if value.value >= definition[name].bad} == wrong
    for name in wrong:
        assert found[name].value == pytest.approx(0.01, rel=0.5)


def observed(error: float, *, curvature: float, noise_eV: float) -> dict[str, np.ndarray]:
    """One frame with a force of 1 eV/Å along one displacement, off by an error, on a curve with a fifth power."""
    h = 0.04
    x = h * np.array(THREE_STEPS)
    return {
        "g_slopes": slopes(x + curvature * x**5, h)[None], "g_expected": np.array([1.0 + error]),
        "g_item": np.array([0]), "g_size": np.array([1.0]), "g_extent": np.array([1.0]),
        "noise": np.array([noise_eV]),
    }  # fmt: skip


def test_truncation_is_taken_off_and_an_error_is_not() -> None:
    """Two steps alone would be wrong by c h⁴/4: 0.03 here."""
    curvature = 0.03 * 4.0 / 0.04**4
    assert unexplained(observed(0.0, curvature=curvature, noise_eV=0.0), "g", step=0.04, least=0.0).square[0] < 1e-20
    left = unexplained(observed(0.01, curvature=curvature, noise_eV=0.0), "g", step=0.04, least=0.0)
    assert left.resolution[0] < CANNOT_TELL
    assert np.sqrt(left.square[0]) == pytest.approx(0.01, abs=2 * left.resolution[0])
    assert np.sqrt(left.square[0]) > 3e-3


def test_what_cannot_be_told_does_not_pass() -> None:
    for numerical in ({"curvature": 1e8, "noise_eV": 0.0}, {"curvature": 0.0, "noise_eV": 1e-3}):
        left = unexplained(observed(0.0, **numerical), "g", step=0.04, least=0.0)
        assert left.resolution[0] > CANNOT_TELL
        assert np.sqrt(left.square[0]) >= left.resolution[0] > 3e-3


class NeedsACell(broken.Pairs):
    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if atoms.cell.rank < 3:
            raise ValueError("a singular cell")
        super().calculate(atoms, *arguments, **keywords)


class NoPieces(broken.Pairs):
    """As a potential that divides by the number of third atoms."""

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if not atoms.pbc.any() or atoms.get_volume() > 1e5:
            raise ZeroDivisionError("no third atom")
        super().calculate(atoms, *arguments, **keywords)


def test_a_piece_is_tried_in_a_wide_cell(context: Context) -> None:
    found = measured(NeedsACell(), at_rest(), context)
    assert found["jacobian_antisymmetry"].value < 1e-4
    assert found["force_gradient"].value < 1e-4


def test_a_piece_without_an_answer_costs_itself(context: Context) -> None:
    data = at_rest()
    seen = QUICK.observe(broken.model(NoPieces()), data, context)
    found = {value.metric: value for value in QUICK.score(seen, data)}
    assert "jacobian_antisymmetry" not in found and "jacobian_antisymmetry" in QUICK.expects(data)
    assert found["force_gradient"].value < 1e-4 and found["stress_strain"].value < 1e-4
    told = " ".join(label for view in QUICK.views(seen, data) if isinstance(view, Bars) for label in view.labels)
    assert "jacobian_antisymmetry of" in told and "no third atom" in told


def test_stress_is_expected_where_there_is_a_cell() -> None:
    crystal, cluster = at_rest(), broken.argon(n=1).take([1])
    assert "stress_strain" in QUICK.expects(crystal) and "net_torque" not in QUICK.expects(crystal)
    assert "stress_strain" not in QUICK.expects(cluster) and "net_torque" in QUICK.expects(cluster)
