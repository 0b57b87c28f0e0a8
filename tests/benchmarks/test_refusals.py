"""No model gains by refusing what it would get wrong: whatever is taken away, no row's score rises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final
from zlib import crc32

import bridge_paths
import broken
import moving_case
import numpy as np
import pytest
import scan_case
import spring_molecules
import wrong_models
from ase import Atoms
from batched_lj import BatchedLJ
from benchmark_cases import COLLECTIONS, IN_MOTION, QUICK
from known_energy import KnownEnergy
from pair_model import PairModel
from site_model import Sums

from mlipbench import benchmarks
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import View
from mlipbench.data import manifest
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.testing.refusals import WAYS, Without, check_refusals, refusals, refusing

# Why refusing still pays there.
SKIPS: Final = "a refusal (NotApplicable) of one frame whose elements the model names skips the whole row"
KNOWN: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "feature_symmetry", "completeness",
            "body_order", "smoothness", "locality", "extensivity", "consistency", "diatomics",
            "compression", "cohesion",
        ),
        SKIPS,
    ),
}  # fmt: skip
MORE: Final[Mapping[str, dict[str, Any]]] = {"equation_of_state": {"elements": ("Si", "Cu", "Ne", "W", "Al", "Ge")}}

OWN: Final = (*COLLECTIONS, "reaction_path", "frequencies", "volume_scan", "binding_curves")
SLOW: Final = (*IN_MOTION, "volume_scan")
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
        return BatchedLJ(sigma_A=3.45)
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
    Without(by="frame", share=0.5, way="refusal", seed=4),
    Without(by="question", share=0.002, way="not finite", seed=1),
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=(
                *([pytest.mark.xfail(strict=True, raises=AssertionError, reason=KNOWN[name])] if name in KNOWN else []),
                *([pytest.mark.slow] if name in SLOW else []),
            ),
        )
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The size of the energy of each of some frames, in eV; what is refused is named, dropped or passed on."""

    about: ClassVar[About] = About(
        name="lookup", title="Lookup", question="Is it?", observe_version=1, score_version=1, source="-",
        metrics=(
            Metric(
                name="size", title="Size", unit="eV", better="lower", good=0.0, bad=10.0, says="mean", headline=True
            ),
        ),
    )  # fmt: skip

    names_failures: bool = True
    passes_refusals_on: bool = False

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        told, lost = [], []
        for number, atoms in enumerate(data.frames):
            try:
                told.append((number, abs(float(model.predict([atoms]).energy[0]))))
            except (ModelFailure, NotApplicable) as error:
                if self.passes_refusals_on and isinstance(error, NotApplicable):
                    raise
                lost.append(number)
        if not told:
            raise ModelFailure("nothing")
        return {"told": np.array(told), "lost": np.array(lost, dtype=np.int64)}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        rows = np.column_stack([seen["told"][:, 1], np.ones(len(seen["told"]))])
        units = [data.uid[int(k)] for k in seen["told"][:, 0]]
        value = measure(self.about.metrics[0], rows, units, "mean")
        failed = tuple(data.uid[k] for k in seen["lost"].tolist()) if self.names_failures else ()
        return (replace(value, failed=failed, n_all=len(data)),)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Lookup):
    """The same as a check, which the worst frame decides; the worst of what is left, if failures are not named."""

    about: ClassVar[About] = replace(Lookup.about, grade="verification")

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        found = Lookup.score(self, seen, data)[0]
        return (replace(found, value=float(seen["told"][:, 1].max()), samples=None, stderr=None, low=None, high=None),)


def far_off(atoms: Atoms) -> float:
    """Most is right, and some is past all scales."""
    return 15.0 if crc32(atoms.positions.tobytes()) % 3 == 0 else 0.1


def test_the_kit_has_teeth(data: Dataset) -> None:
    model, tries = KnownEnergy(energy=far_off), [*refusals(12), *one_frame(data)]
    before, reached = check_refusals(Lookup(), model, data, tries=tries)
    assert before is not None and 0.2 < before < 0.9
    assert len(reached) == len(tries) and max(reached) <= before and len(set(reached)) > 3
    with pytest.raises(AssertionError, match="the score of the row rises from"):
        check_refusals(Lookup(names_failures=False), model, data, tries=tries)
    with pytest.raises(AssertionError, match="skipped, though the model covers it"):
        check_refusals(Lookup(passes_refusals_on=True), model, data, tries=tries)


def test_a_check_that_a_refusal_lets_pass_is_seen(data: Dataset) -> None:
    bad = int(np.argmax([far_off(atoms) for atoms in data.frames]))
    model = KnownEnergy(
        energy=lambda atoms: 15.0 if np.array_equal(atoms.positions, data.frames[bad].positions) else 0.1
    )
    tries = [Without(by="frame", share=0.5, way="not finite", seed=k) for k in range(6)]
    assert any(one.chosen(data)(data.frames[bad]) for one in tries)
    check_refusals(Check(), model, data, tries=tries)
    with pytest.raises(AssertionError, match="check size passes, which fails with all answers"):
        check_refusals(Check(names_failures=False), model, data, tries=tries)


def test_a_model_of_something_else_may_be_skipped(data: Dataset) -> None:
    everything = Without(by="composition", share=1.0, way="refusal", seed=0)
    row = Lookup(passes_refusals_on=True)
    assert check_refusals(row, KnownEnergy(energy=far_off), data, tries=[everything])[1] == [0.0]


def test_what_is_refused_depends_on_the_structure_alone(data: Dataset) -> None:
    for without in refusals(12):
        first, second = without.chosen(data), without.chosen(data)
        told = [first(atoms) for atoms in data.frames]
        assert told == [second(atoms.copy()) for atoms in data.frames]
    model = refusing(PairModel(), data, Without(by="frame", share=1.0, way="refusal", seed=0))
    assert set(model.spec.elements) == {symbol for atoms in data.frames for symbol in atoms.symbols}
    with pytest.raises(NotApplicable):
        model.predict(data.frames[:1])
    shaken = data.frames[0].copy()
    shaken.positions[0] += 0.1
    assert model.predict([shaken]).energy[0] == PairModel().predict([shaken]).energy[0]
