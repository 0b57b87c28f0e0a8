"""Which results belong on one leaderboard, and which of its cells are empty?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from scipy import stats

from mlipbench.core.metric import Metric, MetricValue, Samples
from mlipbench.core.result import Broken, Failed, Measured, Result, Skipped
from mlipbench.core.suite import Row, Suite, Tier
from mlipbench.physics.statistics import SUMS

State: TypeAlias = Literal["measured", "failed", "skipped", "broken", "absent"]
STATE_WORDS: dict[State, str] = {
    "measured": "Measured",
    "failed": "Failed",
    "skipped": "Skipped",
    "broken": "Not run",
    "absent": "Not run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the suite, with what its results say about it.

    Attributes:
        row: of the suite.
        title: of the benchmark; its name when there is no result yet.
        question: of the benchmark.
        grade: "verification", "validation" or "cost"; empty when there is no result yet.
        source: citation of the definition.
        dataset: name@version.
        level_of_theory: of the labels.
        metrics: all the benchmark can return.
    """

    row: Row
    title: str
    question: str = ""
    grade: str = ""
    source: str = ""
    dataset: str = ""
    level_of_theory: str = ""
    metrics: tuple[Metric, ...] = ()

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.row.name

    @property
    def headline(self) -> tuple[Metric, ...]:
        """Metrics of the first table; all of them when the benchmark names none."""
        return tuple(metric for metric in self.metrics if metric.headline) or self.metrics

    def metric(self, name: str) -> Metric | None:
        """Return the definition of one metric, or None when the benchmark has no such metric."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of one model in one row; several seeds are one cell.

    Attributes:
        model: name.
        row: name.
        state: how it ended; "absent" when there is no result.
        reason: why there are no values; empty when there are.
        values: measured, combined over seeds.
        results: the jobs behind it.
    """

    model: str
    row: str
    state: State
    reason: str = ""
    values: tuple[MetricValue, ...] = ()
    results: tuple[Result, ...] = ()

    def value(self, metric: str, part: str = "") -> MetricValue | None:
        """Return one value, or None when it was not measured."""
        return next((value for value in self.values if value.metric == metric and value.part == part), None)

    @property
    def expected(self) -> frozenset[str]:
        """Names of metrics that the data allow, whether the model answered or not."""
        known = [result.outcome.expected for result in self.results if isinstance(result.outcome, Measured)]
        return frozenset(name for names in known for name in names)

    @property
    def domain(self) -> str:
        """What tells units of one name apart: the data and the split."""
        return f"{self.results[-1].data_sha256}/{self.results[-1].split}" if self.results else ""

    @property
    def conditions(self) -> str:
        """What has to agree before two cells of a row may be compared, as one text."""
        jobs = [
            [r.data_sha256, r.split, r.observe_version, r.score_version, dict(r.parameters), r.provenance.seed]
            for r in self.results
        ]
        # several trainings of one recipe are asked the same
        texts = dict.fromkeys(json.dumps(job, sort_keys=True, default=str) for job in jobs)
        return f"[{', '.join(texts)}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Cells by model and row, before anything is ranked.

    Attributes:
        suite: the rows asked for.
        models: names, sorted.
        lines: one per row, in the suite's order.
        cells: by model and row name; complete.
        trainings: the training behind each model that was trained here.
        superseded: how many results were left out because a newer model of the same name or a newer job is there.
    """

    suite: Suite
    models: tuple[str, ...]
    lines: tuple[Line, ...]
    cells: Mapping[tuple[str, str], Cell]
    trainings: Mapping[str, Result] = field(default_factory=dict)
    superseded: int = 0

    def cell(self, model: str, row: str) -> Cell:
        """Return the cell of one model and row."""
        return self.cells[model, row]


def assemble(results: Sequence[Result], suite: Suite, *, tier: Tier | None = None) -> Board:
    """Sort results into cells.

    Of two models that share a name the one that ran last stays; of two jobs of one model, row and seed, too. Trainings
    of one recipe with several seeds are one model.

    Args:
        results: evaluations and trainings, in any order; rows that the suite does not have are left out.
        suite: whose rows to show.
        tier: rows that do not run in this tier are left out; None keeps all.
    """
    rows = [row for row in suite.rows if tier is None or tier in row.tiers]
    names = {row.name for row in rows}
    found = sorted(results, key=lambda result: (result.provenance.started, result.job_id))
    evaluations = [result for result in found if result.kind == "evaluate" and result.row in names]
    latest_form = {result.model: _form(result) for result in evaluations}
    latest_key = {result.model: result.model_key for result in evaluations}
    kept = {
        (result.model, result.row, result.provenance.seed, _training_seed(result)): result
        for result in evaluations
        if _form(result) == latest_form[result.model] or _is_older_record(result)
    }
    trainings = _trainings([result for result in found if result.kind == "train"], latest_key)
    models = tuple(sorted({*latest_key, *trainings}))
    cells = {}
    for model in models:
        for row in rows:
            jobs = [job for (m, r, *_), job in sorted(kept.items()) if m == model and r == row.name]
            cells[model, row.name] = _cell(model, row, jobs, trainings.get(model))
    return Board(
        suite=suite, models=models, lines=tuple(_line(row, list(kept.values())) for row in rows), cells=cells,
        trainings=trainings, superseded=len(evaluations) - len(kept),
    )  # fmt: skip


def _form(result: Result) -> str:
    """Return what trainings of one recipe share; the model's key where nothing was trained."""
    return result.training_form or result.model_key


def _is_older_record(result: Result) -> bool:
    """Does a record tell its training seed but not its recipe? Those that do not belong were left out before."""
    return result.training_seed is not None and not result.training_form


def _training_seed(result: Result) -> int:
    """Return the seed of the training that made the model; -1 for a model that was not trained here."""
    return -1 if result.training_seed is None else result.training_seed


def _trainings(found: Sequence[Result], latest_key: Mapping[str, str]) -> dict[str, Result]:
    """Return the training that made each model; the last one where evaluations do not tell."""
    out: dict[str, Result] = {}
    for result in found:
        key = latest_key.get(result.model)
        made_it = key in (result.job_id, result.model_key)
        if key is None or made_it or result.model not in out:
            out[result.model] = result
    return out


def _line(row: Row, results: Sequence[Result]) -> Line:
    """Describe a row by the last of its results."""
    known = [result for result in results if result.row == row.name]
    if not known:
        return Line(row=row, title=row.benchmark, dataset=row.data)
    last = max(known, key=lambda result: result.provenance.started)
    return Line(
        row=row, title=last.title or row.benchmark, question=last.question, grade=last.grade, source=last.source,
        dataset=last.dataset, level_of_theory=last.level_of_theory, metrics=last.metrics,
    )  # fmt: skip


def _cell(model: str, row: Row, jobs: Sequence[Result], training: Result | None) -> Cell:
    """Combine the seeds of one model and row: the worst ending rules."""
    outcomes = [(job, job.outcome) for job in jobs]
    for kind, state in ((Broken, "broken"), (Failed, "failed"), (Skipped, "skipped")):
        for job, outcome in outcomes:
            if isinstance(outcome, kind):
                several = len({_training_seed(one) for one in jobs}) > 1
                which = f"training seed {job.training_seed}" if several else f"seed {job.provenance.seed}"
                seed = f"{which}: " if len(jobs) > 1 else ""
                reason = seed + getattr(outcome, "reason", "")
                return Cell(model=model, row=row.name, state=state, reason=reason, results=tuple(jobs))  # type: ignore[arg-type]
    if not jobs:
        return Cell(model=model, row=row.name, state="absent", reason=_why_absent(training))
    by_training: dict[int, list[tuple[MetricValue, ...]]] = {}
    for job, outcome in outcomes:
        if isinstance(outcome, Measured):
            by_training.setdefault(_training_seed(job), []).append(outcome.values)
    values = _over_trainings([_over_seeds(own) for own in by_training.values()])
    return Cell(model=model, row=row.name, state="measured", values=values, results=tuple(jobs))


def _why_absent(training: Result | None) -> str:
    """Say why there is no result."""
    if training is not None and not isinstance(training.outcome, Measured):
        return f"the training ended as {training.outcome.outcome}: {training.outcome.reason}"
    return "there is no result in the store"


def _over_trainings(trainings: Sequence[tuple[MetricValue, ...]]) -> tuple[MetricValue, ...]:
    """Take the mean of each value over the trainings of one recipe; what one of them lacks is missing."""
    if len(trainings) == 1:
        return trainings[0]
    each = [{(value.metric, value.part): value for value in values} for values in trainings]
    return tuple(_mean_training([own[name] for own in each]) for name in each[0] if all(name in own for own in each))


def _mean_training(values: Sequence[MetricValue]) -> MetricValue:
    """Return the mean over trainings; their scatter is part of its error, and known apart for comparisons in pairs."""
    mean = _mean_value(values)
    training_stderr = float(np.std([value.value for value in values], ddof=1)) / math.sqrt(len(values))
    failed = tuple(sorted({unit for value in values for unit in value.failed}))
    return replace(
        mean, training_stderr=training_stderr, n_trainings=len(values), failed=failed,
        samples=_mean_samples(values, failed),
    )  # fmt: skip


def _mean_samples(values: Sequence[MetricValue], failed: Sequence[str]) -> Samples | None:
    """Return samples whose sums are the means over trainings; None where they are not made of the same sums."""
    found = [value.samples for value in values if value.samples is not None]
    alike = len(found) == len(values) and len({(one.units, one.reducer) for one in found}) == 1
    if failed or not alike or any(one.reducer not in SUMS or len(one.rows) != len(one.units) for one in found):
        return None
    return replace(found[0], rows=np.mean([one.rows for one in found], axis=0))


def _over_seeds(seeds: Sequence[tuple[MetricValue, ...]]) -> tuple[MetricValue, ...]:
    """Take the mean of each value over the seeds that gave it."""
    if len(seeds) == 1:
        return seeds[0]
    names = dict.fromkeys((value.metric, value.part) for values in seeds for value in values)
    return tuple(
        _mean_value([value for values in seeds for value in values if (value.metric, value.part) == name])
        for name in names
    )


def _mean_value(values: Sequence[MetricValue]) -> MetricValue:
    """Return the mean over seeds; its variance is that between seeds plus the mean one within them.

    The seeds share their data, so averaging does not make the part from the data smaller.
    """
    if len(values) == 1:
        return values[0]
    numbers = np.array([value.value for value in values])
    mean = float(numbers.mean())
    within = [value.stderr**2 for value in values if value.stderr is not None]
    between = float(numbers.var(ddof=1)) / len(values)
    stderr = math.sqrt(between + (sum(within) / len(within) if within else 0.0))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * math.sqrt(between)
    half = math.hypot(half, 1.96 * math.sqrt(sum(within) / len(within)) if within else 0.0)
    return replace(values[0], value=mean, stderr=stderr, low=mean - half, high=mean + half, n=values[0].n, samples=None)
