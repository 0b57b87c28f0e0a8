"""Every benchmark keeps its contract, and the kit would notice if one did not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import bridge_paths
import broken
import moving_case
import numpy as np
import pytest
import scan_case
import spring_molecules
from benchmark_cases import ABOUT_SITES, COLLECTIONS, IN_MOTION, QUICK, UNREFERENCED, some_energy
from known_energy import KnownEnergy
from pair_model import PairModel

from mlipbench import benchmarks
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Axis, Bars, View
from mlipbench.data import manifest
from mlipbench.errors import BadInput
from mlipbench.testing.benchmarks import check_benchmark


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_benchmark_keeps_the_contract(name: str, data: Dataset) -> None:
    """What becomes of refusals is a test of its own."""
    made = benchmarks.benchmark(name)(**QUICK[name])
    if name in IN_MOTION:
        moving = moving_case.moving() if name == "transferability" else moving_case.state("cold")
        check_benchmark(made, moving_case.MODEL, moving, n_refusals=0)
        return
    if name in COLLECTIONS:
        check_benchmark(
            made, KnownEnergy(energy=some_energy), manifest.load(manifest.source(COLLECTIONS[name])), n_refusals=0
        )
        return
    if name == "reaction_path":
        check_benchmark(
            made, bridge_paths.changed(scale=1.1), bridge_paths.data(), perfect=bridge_paths.model(), n_refusals=0
        )
        return
    if name == "frequencies":
        stiff = spring_molecules.SpringCalculator(names=spring_molecules.NAMES, scale=1.1)
        springs = spring_molecules.data()
        check_benchmark(made, spring_molecules.model(stiff), springs, perfect=spring_molecules.model(), n_refusals=0)
        return
    if name in ("volume_scan", "binding_curves"):
        scans = scan_case.data(("binding",) if name == "binding_curves" else ("volume", "cluster"))
        check_benchmark(
            made, broken.model(broken.lennard_jones()), scans, perfect=broken.model(broken.Pairs()), n_refusals=0
        )
        return
    model, perfect = ABOUT_SITES.get(name, (PairModel(scale=1.1), None if name in UNREFERENCED else PairModel()))
    check_benchmark(made, model, data, perfect=perfect, n_refusals=0)


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_table_name_is_the_benchmarks_own(name: str) -> None:
    assert benchmarks.about(name).name == name


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="Did you mean 'symmetry'"):
        benchmarks.benchmark("symetry")


METRIC = Metric(name="m", title="M", unit="eV", better="lower", good=0.1, bad=1.0, says="of one frame")


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    about: ClassVar[About] = About(
        name="good", title="Good", question="Is it?", metrics=(METRIC,), observe_version=1, score_version=1, source="-"
    )

    tag: str = "plain"

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        return {"energy": model.predict(data.frames[:1]).energy}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        return (MetricValue(metric="m", value=float(abs(seen["energy"][0] - data.energy[0])), n=1),)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        one = np.ones(1)
        return (Bars(title="B", axis=Axis(quantity="q"), labels=("a",), values=one, low=one, high=one),)


class Mutates(Good):
    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        data.frames[0].positions[0] += 1.0
        return Good.observe(self, model, data, context)


class Objects(Good):
    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        return {"names": np.array(["a"])}


class NotFinite(Good):
    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        return {"energy": np.array([np.inf])}


class Random(Good):
    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        return {"energy": np.random.default_rng().normal(size=1)}


class Forgetful(Good):
    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        return (MetricValue(metric="m", value=float(np.random.default_rng().normal()), n=1),)


class Undeclared(Good):
    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        return (MetricValue(metric="other", value=1.0, n=1),)


class Empty(Good):
    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        return ()


class WrongReference(Good):
    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        return (MetricValue(metric="m", value=float(abs(seen["energy"][0] + data.energy[0])), n=1),)


class TwoTitles(Good):
    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        return Good.views(self, seen, data) * 2


class RaggedView(Good):
    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        bars = Good.views(self, seen, data)[0]
        assert isinstance(bars, Bars)
        return (replace(bars, labels=("a", "b")),)


@dataclass(kw_only=True)
class NotFrozen:
    about: ClassVar[About] = Good.about

    observe = Good.observe
    score = Good.score
    views = Good.views


@pytest.fixture
def few(data: Dataset) -> Dataset:
    return replace(data.take([0, 1]), frames=tuple(atoms.copy() for atoms in data.frames[:2]))


def test_the_kit_passes_a_good_one(few: Dataset) -> None:
    check_benchmark(Good(), PairModel(), few, perfect=PairModel())


@pytest.mark.parametrize(
    ("made", "promise"),
    [
        (Mutates(), "changed the frames"),
        (Objects(), "plain numbers"),
        (NotFinite(), "not finite"),
        (Random(), "same seed"),
        (Forgetful(), "called again"),
        (Undeclared(), "not among the metrics"),
        (Empty(), "returned nothing"),
        (WrongReference(), "the reference itself"),
        (TwoTitles(), "told apart"),
        (RaggedView(), "do not agree"),
        (NotFrozen(), "not frozen"),
        (Good(tag=object()), "plain JSON"),  # type: ignore[arg-type]
    ],
)
def test_the_kit_has_teeth(made: Good, promise: str, few: Dataset) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_benchmark(made, PairModel(), few, perfect=PairModel())
