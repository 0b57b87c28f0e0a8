"""No model gains by refusing what it would get wrong: whatever is taken away, no row's score rises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import bridge_paths
import broken
import moving_case
import pytest
import scan_case
import spring_molecules
import wrong_models
from benchmark_cases import COLLECTIONS, IN_MOTION, QUICK
from pair_model import PairModel
from site_model import Sums

from mlipbench import benchmarks
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Model
from mlipbench.data import manifest
from mlipbench.testing.refusals import check_refusals

# Why refusing still pays there.
KNOWN: Final[Mapping[str, str]] = {}
MORE: Final[Mapping[str, dict[str, Any]]] = {"equation_of_state": {"elements": ("Si", "Cu", "Ne", "W", "Al", "Ge")}}


def case(name: str, data: Dataset) -> tuple[Model, Dataset]:
    """A model that answers and is wrong, more of some systems than of others, and data for it."""
    if name in IN_MOTION:
        return moving_case.MODEL, moving_case.moving() if name == "transferability" else moving_case.state("cold")
    if name in COLLECTIONS:
        collection = manifest.load(manifest.source(COLLECTIONS[name]))
        return wrong_models.MADE[name](collection), collection
    if name == "reaction_path":
        return bridge_paths.changed(scale=1.1), bridge_paths.data()
    if name == "frequencies":
        stiff = spring_molecules.SpringCalculator(names=spring_molecules.NAMES, scale=1.1)
        return spring_molecules.model(stiff), spring_molecules.data()
    if name in ("volume_scan", "binding_curves"):
        kinds = ("binding",) if name == "binding_curves" else ("volume", "cluster")
        return broken.model(broken.lennard_jones()), scan_case.data(kinds)
    model: Model = PairModel(scale=1.1)
    if name in ("feature_symmetry", "completeness", "body_order"):
        model = Sums(order=3) if name == "completeness" else Sums()  # type: ignore[assignment]
    return model, data


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=KNOWN[name])) if name in KNOWN else name
        for name in benchmarks.TABLE if name != "speed"
    ],
)  # fmt: skip
def test_refusing_never_pays(name: str, data: Dataset) -> None:
    made = benchmarks.benchmark(name)(**(QUICK[name] | MORE.get(name, {})))
    model, frames = case(name, data)
    check_refusals(made, model, frames, n=3 if name in IN_MOTION else 6)
