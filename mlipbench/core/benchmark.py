"""What is a benchmark?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model, Progress
from mlipbench.core.view import View

Observation: TypeAlias = Mapping[str, NDArray[Any]]  # plain numeric arrays, no objects
Need: TypeAlias = Literal["labels", "stress", "molecules", "vacuum_labels", "committee", "idle_machine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a benchmark measures, and how to cite it.

    Attributes:
        name: its key in `mlipbench.benchmarks.TABLE`.
        title: for people.
        question: the question it answers, one sentence.
        metrics: all that `score` may return.
        observe_version: moved by hand when the meaning of an observation changes; results are then measured again.
        score_version: moved by hand when a formula changes; results are then scored again from what was observed.
        source: citation of the definition.
        grade: "verification" must pass, "validation" is accuracy, "cost" is time and memory.
        needs: what it asks of data, model or machine; a row whose need is not met is skipped with the reason.
        seconds: rough cost of the default parameters for a fast model on one core, for the time that is left.
    """

    name: str
    title: str
    question: str
    metrics: tuple[Metric, ...]
    observe_version: int
    score_version: int
    source: str
    grade: Literal["verification", "validation", "cost"] = "validation"
    needs: frozenset[Need] = frozenset()
    seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What comes in through the door: randomness, device and a place to report progress.

    Attributes:
        seed: of this job.
        device: "cpu" or "cuda".
        progress: called with done, total and a remark.
        scratch: folder for what takes long and can be gone on with, shared by all jobs of a store; None for none.
    """

    seed: int
    device: str
    progress: Progress
    scratch: Path | None = None

    def rng(self) -> np.random.Generator:
        """Return a fresh generator that depends on the seed alone."""
        return np.random.default_rng(self.seed)


class Benchmark(Protocol):
    """A frozen dataclass of parameters with a costly `observe` and a cheap `score`.

    The row's parameters are its fields, so a suite can set each of them.
    """

    about: ClassVar[About]

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask the model; costly. `data` is the split the row names.

        Raises:
            ModelFailure: the model is at fault.
            NotApplicable: the question does not apply to this model or these data.
        """

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Turn what was seen into numbers; cheap, and needs no model."""

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Say what to show."""


@runtime_checkable
class Expecting(Protocol):
    """A benchmark that can say which numbers these data allow."""

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return names of metrics that a model which answers everything gets on these data."""


def expected(benchmark: Benchmark, data: Dataset) -> tuple[str, ...]:
    """Return names of metrics that must be there, whatever the model; none where the benchmark does not say."""
    return benchmark.expects(data) if isinstance(benchmark, Expecting) else ()


def no_progress(done: int, total: int, remark: str) -> None:
    """Report to nobody."""
