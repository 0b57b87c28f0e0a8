"""No model gains by refusing what it would get wrong: whatever is taken away, no row's score rises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
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
from mlipbench.testing.refusals import WAYS, Without, check_refusals, refusals

# Why refusing still pays there.
KNOWN: Final[Mapping[str, str]] = {}
MORE: Final[Mapping[str, dict[str, Any]]] = {"equation_of_state": {"elements": ("Si", "Cu", "Ne", "W", "Al", "Ge")}}

OWN: Final = (*COLLECTIONS, "reaction_path", "frequencies", "volume_scan", "binding_curves")
# Checks that a model fails with all its answers, so that a refusal could make it pass.
BROKEN: Final[Mapping[str, Callable[[], Any]]] = {
    "consistency": broken.NotConservative, "diatomics": broken.CollapsingWall, "compression": broken.CollapsingWall,
    "cohesion": broken.FlippedStress, "limits": broken.JumpAtCutoff, "reproducibility": broken.Forgetful,
}  # fmt: skip


def model_for(name: str, data: Dataset) -> Model:
    """A model that answers and is wrong, more of some systems than of others."""
    if name in COLLECTIONS:
        return wrong_models.MADE[name](data)
    if name in ("volume_scan", "binding_curves"):
        return broken.model(broken.lennard_jones())
    if name in BROKEN:
        return broken.model(BROKEN[name]())
    if name in IN_MOTION:
        return moving_case.MODEL
    return MODELS.get(name, lambda: PairModel(scale=1.1))()


MODELS: Final[Mapping[str, Callable[[], Any]]] = {
    "reaction_path": lambda: bridge_paths.changed(scale=1.1),
    "frequencies": lambda: spring_molecules.model(
        spring_molecules.SpringCalculator(names=spring_molecules.NAMES, scale=1.05)
    ),
    "feature_symmetry": Sums,
    "completeness": lambda: Sums(order=3),
    "body_order": Sums,
}
DATA: Final[Mapping[str, Callable[[], Dataset]]] = {
    **{name: partial(manifest.load, manifest.source(own)) for name, own in COLLECTIONS.items()},
    **dict.fromkeys(IN_MOTION, partial(moving_case.state, "cold")),
    **dict.fromkeys(BROKEN, broken.argon),
    "transferability": moving_case.moving,
    "reaction_path": bridge_paths.data,
    "frequencies": spring_molecules.data,
    "volume_scan": scan_case.data,
    "binding_curves": partial(scan_case.data, ("binding",), n=4),
}
# A run asks hundreds of times; it starts from a frame.
SOMETIMES: Final = (
    Without(by="frame", share=0.5, way="failure", seed=3),
    Without(by="question", share=0.003, way="not finite", seed=1),
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=KNOWN[name])) if name in KNOWN else name
        for name in benchmarks.TABLE if name != "speed"
    ],
)  # fmt: skip
def test_refusing_never_pays(name: str, data: Dataset) -> None:
    made = benchmarks.benchmark(name)(**(QUICK[name] | MORE.get(name, {})))
    frames = DATA[name]() if name in DATA else data
    tries = SOMETIMES if name in IN_MOTION else (*refusals(6), *one_frame(frames)) if name in OWN else refusals(6)
    before, reached = check_refusals(made, model_for(name, frames), frames, tries=tries)
    if name in OWN:  # a score that cannot fall shows nothing
        assert before is not None and 0.05 < before < 1.0
        assert any(0.0 < one < 0.99 * before for one in reached), reached


def one_frame(data: Dataset) -> list[Without]:
    """Take away some one or two frames."""
    return [Without(by="frame", share=1.5 / len(data), way=WAYS[k % 3], seed=k) for k in range(6)]
