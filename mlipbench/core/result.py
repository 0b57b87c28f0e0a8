"""What is left of a finished job?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import ModelSpec

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The model answered.

    Attributes:
        values: what was measured.
        expected: names of metrics that these data allow; one that is missing in `values` was not answered for.
    """

    values: tuple[MetricValue, ...]
    expected: tuple[str, ...] = ()
    outcome: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The model is at fault; scores 0."""

    reason: str
    outcome: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The question does not apply; no score.

    Attributes:
        reason: one sentence.
        missing_package: whose absence is the reason; the job runs again when it is there.
    """

    reason: str
    missing_package: str = ""
    outcome: Literal["skipped"] = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """We are at fault, or the input is; shown as not run.

    Attributes:
        reason: one sentence.
        is_input: the user can mend it: a file, a name, a number.
    """

    reason: str
    is_input: bool = False
    outcome: Literal["broken"] = "broken"


Outcome: TypeAlias = Annotated[Measured | Failed | Skipped | Broken, Discriminator("outcome")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How a result came about.

    Attributes:
        started: UTC, ISO 8601.
        seconds: wall time of the job.
        cpu_seconds: processor time of the job.
        peak_memory_MB: largest resident set of the process up to the end of the job.
        host: machine name.
        hardware: processor (and accelerator) model, cores.
        device: "cpu" or "cuda".
        python: version.
        packages: version of each package that can change a number.
        mlipbench: version.
        seed: of the job.
    """

    started: str
    seconds: float
    cpu_seconds: float
    peak_memory_MB: float
    host: str
    hardware: str
    device: str
    python: str
    packages: Mapping[str, str]
    mlipbench: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a training job left for the model card.

    Attributes:
        spec: the trained model; its checkpoint is a file name inside the job's folder.
        recipe: the recipe with its tier expanded, plain JSON.
        data: name, version, sha256, split names and sizes of what it was trained on.
        notes: warnings for the reader.
        facts: numbers and short texts.
        history: one mapping per epoch or step.
    """

    spec: ModelSpec
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finished job; holds the metrics' definitions, so that a report needs no benchmark.

    Attributes:
        schema: of this record.
        job_id: hash of what decided it.
        kind: "evaluate" or "train".
        row: name of the suite row; "train" for a training.
        model: name of the model.
        model_key: training job id, checkpoint sha256 or identity: what tells two models of one name apart.
        checkpoint_sha256: of the weights that answered; empty when it has none.
        benchmark: name; empty for a training.
        title: of the benchmark.
        question: of the benchmark.
        grade: of the benchmark.
        source: citation of the definition.
        observe_version: of the benchmark.
        score_version: of the benchmark.
        parameters: of the row, tier expanded.
        dataset: name@version of the data; empty when there are none.
        data_sha256: of the data.
        split: of the data.
        level_of_theory: of the labels.
        metrics: definitions of all metrics the benchmark can return.
        outcome: what became of it.
        provenance: how it came about.
        training: what a training left; None for an evaluation.
        spec: the model that answered; None where it is not known.
        training_seed: of the training that made the model; None where it was not trained here. Results of one model
            and row that differ in it are one cell: trainings of one recipe.
        training_form: what the trainings of one recipe with several seeds share; empty where it was not trained here.
    """

    schema: int = SCHEMA
    job_id: str
    kind: Literal["evaluate", "train"]
    row: str
    model: str
    model_key: str
    checkpoint_sha256: str = ""
    benchmark: str = ""
    title: str = ""
    question: str = ""
    grade: str = ""
    source: str = ""
    observe_version: int = 0
    score_version: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    data_sha256: str = ""
    split: str = ""
    level_of_theory: str = ""
    metrics: tuple[Metric, ...] = ()
    outcome: Outcome
    provenance: Provenance
    training: Training | None = None
    spec: ModelSpec | None = None
    training_seed: int | None = None
    training_form: str = ""
