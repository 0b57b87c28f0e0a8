"""Does a benchmark keep its contract?

For the benchmarks of this package, and for anyone's. Every check ends in an AssertionError that says which promise was
broken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.benchmark import Benchmark, Context, Observation, expected, no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue, score
from mlipbench.core.model import Model
from mlipbench.core.view import Bars, Lines, Parity, View
from mlipbench.testing.refusals import check_refusals, refusals

if TYPE_CHECKING:
    from ase import Atoms

PERFECT_SCORE: Final = 0.999


def check_benchmark(
    benchmark: Benchmark,
    model: Model,
    data: Dataset,
    context: Context | None = None,
    *,
    perfect: Model | None = None,
    n_refusals: int = 3,
) -> None:
    """Run a benchmark on a model and small data, and check everything its contract promises.

    Args:
        benchmark: with small parameters.
        model: that answers well.
        data: that the benchmark applies to.
        context: seed and device; None for seed 0 on the CPU.
        perfect: a model that returns the reference labels, vacuum labels too; its accuracy must get full scores.
        n_refusals: how often some of the model's answers are taken away, see `check_refusals`.

    Raises:
        AssertionError: a promise is broken.
        MlipbenchError: what the benchmark itself raises.
    """
    context = Context(seed=0, device="cpu", progress=no_progress) if context is None else context
    _check_parameters(benchmark)
    before = [atoms.copy() for atoms in data.frames]
    seen = benchmark.observe(model, data, context)
    _check_frames(before, data.frames)
    _check_observation(seen)
    values = benchmark.score(seen, data)
    _check_values(benchmark, values)
    _check_expected(benchmark, data, values)
    _demand(_plain(values) == _plain(benchmark.score(seen, data)), "score gives other values when it is called again")
    _check_views(benchmark.views(seen, data))
    _check_frames(before, data.frames)
    if benchmark.about.grade != "cost":
        _check_same(seen, benchmark.observe(model, data, context))
    if n_refusals and benchmark.about.grade != "cost":
        check_refusals(benchmark, model, data, context, tries=refusals(n_refusals))
    if perfect is not None:
        _check_perfect(benchmark, benchmark.score(benchmark.observe(perfect, data, context), data))


def _demand(holds: bool, promise: str) -> None:  # noqa: FBT001, the one thing it is about
    if not holds:
        raise AssertionError(promise)


def _check_parameters(benchmark: Benchmark) -> None:
    """Parameters are the fields of a frozen dataclass, and plain enough for JSON; metrics are told apart by name."""
    kind = type(benchmark)
    _demand(is_dataclass(kind), f"{kind.__name__} is not a dataclass")
    frozen = getattr(kind, "__dataclass_params__", None)
    _demand(bool(getattr(frozen, "frozen", False)), f"{kind.__name__} is not frozen")
    given: dict[str, Any] = asdict(benchmark)  # type: ignore[call-overload]
    try:
        again = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the parameters {given} are not plain JSON values") from error
    _demand(set(again) == set(given), "a parameter is lost in JSON")
    about = benchmark.about
    names = [metric.name for metric in about.metrics]
    _demand(len(set(names)) == len(names), f"two metrics of {about.name} have one name")
    _demand(min(about.observe_version, about.score_version) > 0, "versions count from 1")
    _demand(bool(about.title and about.question and about.source), "title, question and source say something")
    for metric in about.metrics:
        _demand(metric.good != metric.bad, f"{metric.name}: good and bad are the same value")
        _demand(
            (metric.good < metric.bad) == (metric.better == "lower"), f"{metric.name}: good is not on its better side"
        )
        _demand(bool(metric.says), f"{metric.name}: says is empty")


def _check_frames(before: Sequence[Atoms], after: Sequence[Atoms]) -> None:
    """The frames are as they were."""
    same = all(one == other and one.info.keys() == other.info.keys() for one, other in zip(before, after, strict=True))
    _demand(same, "the benchmark changed the frames it was given")


def _check_observation(seen: Observation) -> None:
    """Plain finite numbers."""
    _demand(len(seen) > 0, "observe returned nothing")
    for name, array in seen.items():
        _demand(isinstance(array, np.ndarray), f"{name} is not an array")
        _demand(array.dtype.kind in "biuf", f"{name} has dtype {array.dtype}; plain numbers are allowed")
        _demand(bool(np.isfinite(array).all()), f"{name} is not finite")


def _check_values(benchmark: Benchmark, values: Sequence[MetricValue]) -> None:
    """Every value is declared, and stands once for each part."""
    _demand(len(values) > 0, "score returned nothing; a benchmark that does not apply raises NotApplicable in observe")
    declared = {metric.name for metric in benchmark.about.metrics}
    keys = [(value.metric, value.part) for value in values]
    _demand(len(set(keys)) == len(keys), "a value stands twice for one metric and part")
    for value in values:
        _demand(value.metric in declared, f"{value.metric} is not among the metrics the benchmark declares")
        _demand(value.n >= 1, f"{value.metric} {value.part}: no independent unit")
        both = set(value.failed) & set(value.samples.units if value.samples else ())
        _demand(not both, f"{value.metric} {value.part} is made of units that are said to have failed: {sorted(both)}")
        n_said = value.n + len(value.failed)
        _demand(value.n_all is None or value.n_all >= n_said, f"{value.metric} {value.part}: more units than there are")
        if value.low is not None and value.high is not None:
            _demand(value.low <= value.value <= value.high, f"{value.metric} {value.part} is outside its interval")


def _check_expected(benchmark: Benchmark, data: Dataset, values: Sequence[MetricValue]) -> None:
    """What the data allow is declared, and a model that answers gets it."""
    declared, measured = {metric.name for metric in benchmark.about.metrics}, {value.metric for value in values}
    for name in expected(benchmark, data):
        _demand(name in declared, f"{name} is expected, but not among the metrics the benchmark declares")
        _demand(name in measured, f"{name} is expected of these data, but a model that answers has no value")


def _check_views(views: Sequence[View]) -> None:
    """Titles tell views apart, and all lengths agree."""
    titles = [view.title for view in views]
    _demand(all(titles) and len(set(titles)) == len(titles), f"titles are empty or not told apart: {titles}")
    for view in views:
        if isinstance(view, Parity):
            sizes = {len(view.reference), len(view.predicted), len(view.group) or len(view.reference)}
            numbers = [view.reference, view.predicted]
        elif isinstance(view, Bars):
            sizes = {len(view.labels), len(view.values), len(view.low), len(view.high)}
            numbers = [view.values, view.low, view.high]
        elif isinstance(view, Lines):
            sizes = {len(view.x), view.y.shape[1]}
            numbers = [view.x, view.y]
            _demand(len(view.names) == len(view.y), f"{view.title}: one name per curve is needed")
        _demand(len(sizes) == 1, f"{view.title}: lengths {sorted(sizes)} do not agree")
        _demand(all(bool(np.isfinite(array).all()) for array in numbers), f"{view.title}: a number is not finite")


def _check_same(seen: Observation, again: Observation) -> None:
    """The same seed gives the same observation, to round-off."""
    _demand(seen.keys() == again.keys(), "observe returns other arrays for the same seed")
    for name, array in seen.items():
        same = array.shape == again[name].shape and np.allclose(array, again[name], rtol=1e-6, atol=1e-9)
        _demand(bool(same), f"{name} differs when it is observed again with the same seed")


def _check_perfect(benchmark: Benchmark, values: Sequence[MetricValue]) -> None:
    """The reference itself gets full scores, everywhere."""
    definition = {metric.name: metric for metric in benchmark.about.metrics}
    if benchmark.about.grade == "cost":
        return
    for value in values:
        reached = score(definition[value.metric], value.value)
        _demand(
            reached >= PERFECT_SCORE,
            f"{value.metric} {value.part} gives the reference itself {value.value:g}, a score of {reached:.3f}",
        )


def _plain(values: Sequence[MetricValue]) -> list[tuple[object, ...]]:
    return [(v.metric, v.part, v.value, v.stderr, v.low, v.high, v.n) for v in values]
