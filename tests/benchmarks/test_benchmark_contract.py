"""Every benchmark keeps its contract, and the kit would notice if one did not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import bridge_paths
import broken
import moving_case
import numpy as np
import pytest
import scan_case
import spring_molecules
from ase import Atoms
from known_energy import KnownEnergy
from pair_model import PairModel
from site_model import Sums

from mlipbench import benchmarks
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model
from mlipbench.core.view import Axis, Bars, View
from mlipbench.data import manifest
from mlipbench.errors import BadInput
from mlipbench.testing.benchmarks import check_benchmark

MOVING: dict[str, Any] = {"n_replicas": 2, "duration_ps": 3.2, "timestep_fs": 8.0, "hydrogen_mass_u": None}
QUICK: dict[str, dict[str, Any]] = {
    "energy_force_stress": {},
    "rigid_body_forces": {},
    "intra_inter": {"max_frames": 12},
    "symmetry": {"n_frames": 4},
    "feature_symmetry": {"n_frames": 4},
    "completeness": {},
    "body_order": {"max_neighbours": 3, "n_draws": 3},
    "smoothness": {"n_frames": 1, "max_pairs": 2, "n_points": 61, "n_suspects": 1},
    "locality": {"n_strings": 1, "length_A": 20.0, "far_A": 10.0, "n_moved": 4},
    "extensivity": {"n_molecules": 2},
    "consistency": {"n_frames": 2, "n_directions": 2, "n_jacobians": 1, "n_loop_points": 8},
    "reproducibility": {"n_frames": 4},
    "limits": {},
    "diatomics": {"n_points": 101, "max_pairs": 4},
    "compression": {"n_frames": 2, "n_random": 2, "n_points": 15},
    "cohesion": {"n_frames": 2, "n_points": 15},
    "volume_scan": {},
    "binding_curves": {},
    "equation_of_state": {"elements": ("Si", "Cu")},
    "s22x5": {},
    "barrier_heights": {},
    "frequencies": {},
    "reaction_path": {},
    **dict.fromkeys(("stability", "density", "rdf", "pressure", "diffusion"), MOVING),
    "velocity_spectrum": {**MOVING, "interval_fs": 40.0, "settling_ps": 0.0, "duration_ps": 1.6},
    "nve_drift": {**MOVING, "duration_ps": 0.4},
    "transferability": {**MOVING, "with_dynamics": True},
    "speed": {"n_repeats": 2, "batch_frames": 3},
}
# Benchmarks about single atoms: a model that has features, and what is perfect where there is such a thing.
ABOUT_SITES: dict[str, tuple[Sums, Sums | None]] = {
    "feature_symmetry": (Sums(), Sums()),
    "completeness": (Sums(order=3), None),
    "body_order": (Sums(), None),
}
# Benchmarks that no reference is needed for, so that there is nothing perfect.
UNREFERENCED = ("consistency", "reproducibility", "limits", "diatomics", "compression", "cohesion")
# Benchmarks of what ASE brings along: data of their own. The reference itself is asked in their own tests.
COLLECTIONS = {"equation_of_state": "delta_codes", "s22x5": "s22x5", "barrier_heights": "dbh24"}
# Benchmarks of dynamics. Trajectories this short are too noisy for full scores, even of the reference itself.
IN_MOTION = (
    "stability", "density", "rdf", "pressure", "diffusion", "velocity_spectrum", "nve_drift", "transferability",
)  # fmt: skip


@pytest.mark.parametrize("name", benchmarks.TABLE)
def test_benchmark_keeps_the_contract(name: str, data: Dataset) -> None:
    made = benchmarks.benchmark(name)(**QUICK[name])
    if name in IN_MOTION:
        moving = moving_case.moving() if name == "transferability" else moving_case.state("cold")
        check_benchmark(made, moving_case.MODEL, moving)
        return
    if name in COLLECTIONS:
        check_benchmark(made, KnownEnergy(energy=some_energy), manifest.load(manifest.source(COLLECTIONS[name])))
        return
    if name == "reaction_path":
        check_benchmark(made, bridge_paths.changed(scale=1.1), bridge_paths.data(), perfect=bridge_paths.model())
        return
    if name == "frequencies":
        stiff = spring_molecules.SpringCalculator(names=spring_molecules.NAMES, scale=1.1)
        springs = spring_molecules.data()
        check_benchmark(made, spring_molecules.model(stiff), springs, perfect=spring_molecules.model())
        return
    if name in ("volume_scan", "binding_curves"):
        scans = scan_case.data(("binding",) if name == "binding_curves" else ("volume", "cluster"))
        check_benchmark(made, broken.model(broken.lennard_jones()), scans, perfect=broken.model(broken.Pairs()))
        return
    model, perfect = ABOUT_SITES.get(name, (PairModel(scale=1.1), None if name in UNREFERENCED else PairModel()))
    check_benchmark(made, model, data, perfect=perfect)


def some_energy(atoms: Atoms) -> float:
    """A crystal at rest at 15 Å^3 per atom, and molecules that repel each other."""
    if atoms.pbc.any():
        return len(atoms) * (atoms.cell.volume / len(atoms) / 15.0 - 1.0) ** 2
    return 1e-3 * len(atoms) ** 2


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
