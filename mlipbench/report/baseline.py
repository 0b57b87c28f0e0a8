"""What did the last accepted model reach?"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlipbench.core.metric import MetricValue, Samples
from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.errors import BadInput
from mlipbench.physics.statistics import SUMS
from mlipbench.report.board import Board, Cell, Line, assemble
from mlipbench.report.page import replace_whole
from mlipbench.report.scores import Check, checks, role
from mlipbench.report.words import count

SCHEMA: Final = 2
UNPAIRED_SCHEMA: Final = 1  # written without units
RENEW: Final = (
    "measure the accepted model again and write the baseline anew "
    "(mlipbench gate SUITE --candidate MODEL --write-baseline)"
)
_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One accepted value, in the metric's unit; see `MetricValue`.

    Attributes:
        metric: name.
        value: of everything, or of the part.
        n: independent units.
        part: what it covers; empty for everything.
        stderr: standard error; None when there is none.
        training_stderr: from the trainings alone, where several were averaged.
        n_trainings: how many.
        failed: units that the model gave no answer for.
        unit_set: which of the row's unit sets `rows` belong to; None when nothing is kept to pair on.
        rows: sums of each unit, as the reducer wants them.
        reducer: turns the sum of rows into the value, a key of `physics.statistics.SUMS`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    metric: str
    value: float
    n: int
    part: str = ""
    stderr: float | None = None
    training_stderr: float | None = None
    n_trainings: int = 1
    failed: tuple[str, ...] = ()
    unit_set: int | None = None
    rows: tuple[tuple[float, ...], ...] = ()
    reducer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What one model did in one row, and under which conditions.

    Attributes:
        outcome: how it ended.
        reason: why there are no values.
        data_sha256: of the data.
        split: of the data.
        parameters: of the row, tier expanded.
        seeds: of the jobs.
        observe_version: of the benchmark.
        score_version: of the benchmark.
        hardware: of the machine; costs are compared only on the same.
        values: what was measured.
        unit_sets: names of units (trajectories, systems) that values were made of, once for all values that share them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    outcome: Literal["measured", "failed", "skipped"]
    reason: str = ""
    data_sha256: str
    split: str
    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]
    observe_version: int
    score_version: int
    hardware: str
    values: tuple[Number, ...] = ()
    unit_sets: tuple[tuple[str, ...], ...] = ()

    def value(self, number: Number) -> MetricValue:
        """Return one of the values with what it was made of, as far as it was kept."""
        samples = None
        if number.unit_set is not None:
            units = self.unit_sets[number.unit_set]
            rows = np.array(number.rows, dtype=np.float64)
            samples = Samples(units=units, unit_of_row=np.arange(len(units)), rows=rows, reducer=number.reducer)
        return MetricValue(
            metric=number.metric, part=number.part, value=number.value, stderr=number.stderr, n=number.n,
            training_stderr=number.training_stderr, n_trainings=number.n_trainings, samples=samples,
            failed=number.failed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Failed checks that somebody accepted, with the reason.

    Attributes:
        why: in the words of whoever accepted them.
        checks: what failed, each as "row: metric: what was found".
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    why: str
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A committed file: models, their rows, their values.

    Attributes:
        schema: of the file.
        suite: its name.
        suite_version: when it was written.
        models: rows by model and row name.
        accepted_failed: by model, failed checks that were accepted all the same.
        digest: sha256 of the rest, so that an edited number is seen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    schema: int = SCHEMA
    suite: str
    suite_version: str
    models: Mapping[str, Mapping[str, Accepted]] = field(default_factory=dict)
    accepted_failed: Mapping[str, Waiver] = field(default_factory=dict)
    digest: str = ""

    @property
    def can_pair(self) -> bool:
        """Does the file keep units at all?"""
        return self.schema > UNPAIRED_SCHEMA


def read_baseline(path: Path) -> Baseline:
    """Read a baseline and check that it is whole.

    Raises:
        BadInput: the file cannot be read, is cut short or edited, or was written by a later version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise BadInput(f"{path}: the baseline cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise BadInput(
            f"{path}: the baseline is not valid JSON ({error}): it was cut short or edited. "
            f"Restore the committed file, or {RENEW}."
        ) from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise BadInput(
            f"{path}: the baseline has schema {schema}, this version reads up to {SCHEMA}. "
            f"Update mlipbench, or {RENEW}."
        )
    if schema not in (UNPAIRED_SCHEMA, SCHEMA):
        raise BadInput(
            f'{path}: this is no baseline: "schema" must be {SCHEMA}, given {schema!r}. {RENEW.capitalize()}.'
        )
    if schema == SCHEMA and record.get("digest") != _digest(record):
        raise BadInput(
            f"{path}: the baseline is not as it was written: a number, a unit or a reason in it was edited. "
            f"Restore the committed file, or {RENEW}."
        )
    try:
        found = TypeAdapter(Baseline).validate_python(record)
        _check_units(found, path)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{path}: {place}: {first['msg']}. The baseline was edited; restore the committed file, or {RENEW}."
        ) from error


def _digest(record: Mapping[str, Any]) -> str:
    """Return the sha256 of everything but the digest itself."""
    rest = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_units(baseline: Baseline, path: Path) -> None:
    """Refuse values whose units are missing.

    Raises:
        BadInput: names and numbers of units do not fit together.
    """
    for model, rows in baseline.models.items():
        for name, row in rows.items():
            for one in row.values:
                if one.unit_set is None:
                    continue
                n_units = len(row.unit_sets[one.unit_set]) if 0 <= one.unit_set < len(row.unit_sets) else -1
                if len(one.rows) != n_units or one.reducer not in SUMS:
                    raise BadInput(
                        f"{path}: {model}, row '{name}', {one.metric}: units are missing ({len(one.rows)} rows, "
                        f"{max(0, n_units)} units). Restore the committed file, or {RENEW}."
                    )


def check_suite(baseline: Baseline, suite: Suite) -> None:
    """Refuse the baseline of another suite.

    Raises:
        BadInput: it is one.
    """
    if baseline.suite != suite.name:
        raise BadInput(f"the baseline is of suite '{baseline.suite}', not '{suite.name}': give the right file.")


def _refuse_constant(name: str) -> float:
    """Refuse NaN and infinities, which Python would read."""
    raise ValueError(f"{name} is not a JSON number")


def write_baseline(
    results: Sequence[Result],
    suite: Suite,
    path: Path,
    *,
    models: Sequence[str] | None = None,
    tier: Tier | None = None,
    accept_failed: str = "",
) -> Path:
    """Write what models reached as the bar for the next ones.

    Models that the file holds already and that are not measured anew stay in it.

    Args:
        results: evaluations, in any order.
        suite: whose rows to write.
        path: file; replaced whole.
        models: which to write; None for all.
        tier: rows that do not run in this tier are left out; None keeps all.
        accept_failed: why failed checks are accepted; it stands in the file and in every later verdict.

    Raises:
        BadInput: a model has nothing measured, a row that is broken or missing, or failed checks without a reason to
            accept them; or the file cannot be written.
    """
    board = assemble(results, suite, tier=tier)
    chosen = list(board.models if models is None else models)
    kept: dict[str, Mapping[str, Accepted]] = {}
    waivers: dict[str, Waiver] = {}
    if path.exists():
        old = read_baseline(path)
        check_suite(old, suite)
        kept.update(old.models)
        waivers.update(old.accepted_failed)
    for model in chosen:
        kept[model] = _accept(board, model)
        waivers.pop(model, None)
        failed = [check for check in checks(board, model) if check.decides and check.state == "failed"]
        if failed:
            waivers[model] = _waiver(model, failed, accept_failed)
    baseline = Baseline(suite=suite.name, suite_version=suite.version, models=kept, accepted_failed=waivers)
    record = json.loads(json.dumps(dataclasses.asdict(baseline), allow_nan=False))
    record["digest"] = _digest(record)
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, _compact_rows(text) + "\n")
    except OSError as error:
        raise BadInput(f"{path}: the baseline cannot be written ({error.strerror or error}).") from error
    return path


def _compact_rows(text: str) -> str:
    """Put innermost lists of numbers on one line each, as one line per number is ten times as long."""
    return re.sub(r"\[\s+(-?[\d.][^\[\]{}\"]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _waiver(model: str, failed: Sequence[Check], why: str) -> Waiver:
    """Return the reason for accepting failed checks.

    Raises:
        BadInput: there is none.
    """
    told = tuple(f"{check.row}: {check.says}" for check in failed)
    first = "; ".join([*told[:3], *(["…"] if len(told) > 3 else [])])
    if not why.strip():
        raise BadInput(
            f"model '{model}' fails {count(len(told), 'check')} ({first}): it is no baseline. "
            'Mend the model, or say why it is one with --accept-failed "why".'
        )
    return Waiver(why=why.strip(), checks=told)


def _accept(board: Board, model: str) -> dict[str, Accepted]:
    """Return the rows of one model."""
    cells = [board.cells[model, line.name] for line in board.lines] if model in board.models else []
    if not any(cell.state == "measured" for cell in cells):
        raise BadInput(
            f"model '{model}' has nothing measured in suite '{board.suite.name}': run it before accepting it."
        )
    missing = [cell.row for cell in cells if cell.state in ("broken", "absent")]
    if missing:
        raise BadInput(
            f"model '{model}' has no result for {', '.join(missing)} in suite '{board.suite.name}': "
            "run it again before accepting it."
        )
    return {cell.row: accepted(cell, line) for cell, line in zip(cells, board.lines, strict=True)}


def accepted(cell: Cell, line: Line) -> Accepted:
    """Return a cell as it stands in a baseline; the cell has a result and is not broken."""
    last = cell.results[-1]
    if cell.state not in ("measured", "failed", "skipped"):
        raise ValueError(f"a cell that is {cell.state} has no place in a baseline")
    unit_sets: dict[tuple[str, ...], int] = {}
    return Accepted(
        outcome=cell.state, reason=cell.reason, data_sha256=last.data_sha256, split=last.split,
        # through JSON, so that what is compared is what a file can hold
        parameters=json.loads(json.dumps(dict(last.parameters), default=list)),
        seeds=tuple(dict.fromkeys(result.provenance.seed for result in cell.results)),
        observe_version=last.observe_version, score_version=last.score_version, hardware=last.provenance.hardware,
        values=tuple(_number(value, line, unit_sets) for value in cell.values), unit_sets=tuple(unit_sets),
    )  # fmt: skip


def _number(value: MetricValue, line: Line, unit_sets: dict[tuple[str, ...], int]) -> Number:
    """Return a value with its units, when it is one that is compared; new unit sets are added."""
    bare = Number(
        metric=value.metric, part=value.part, value=value.value, stderr=value.stderr, n=value.n, failed=value.failed,
        training_stderr=value.training_stderr, n_trainings=value.n_trainings,
    )  # fmt: skip
    samples, metric = value.samples, line.metric(value.metric)
    is_kept = metric is not None and role(line, metric) == "merit" and not value.part
    if not is_kept or samples is None or samples.reducer not in SUMS or len(samples.rows) != len(samples.units):
        return bare
    number = unit_sets.setdefault(samples.units, len(unit_sets))
    rows = tuple(tuple(row) for row in samples.rows.tolist())
    return dataclasses.replace(bare, unit_set=number, rows=rows, reducer=samples.reducer)
