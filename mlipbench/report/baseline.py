"""What did the last accepted model reach?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.errors import BadInput
from mlipbench.report.board import Board, Cell, assemble
from mlipbench.report.page import replace_whole

SCHEMA: Final = 1
RENEW: Final = (
    "measure the accepted model again and write the baseline anew "
    "(mlipbench gate SUITE --candidate MODEL --write-baseline)"
)
_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One accepted value, in the metric's unit; see `MetricValue`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    metric: str
    value: float
    n: int
    part: str = ""
    stderr: float | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A committed file: models, their rows, their values.

    Attributes:
        schema: of the file.
        suite: its name.
        suite_version: when it was written.
        models: rows by model and row name.
        path: where it was read; not in the file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    schema: int = SCHEMA
    suite: str
    suite_version: str
    models: Mapping[str, Mapping[str, Accepted]] = field(default_factory=dict)


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
    if schema != SCHEMA:
        raise BadInput(
            f'{path}: this is no baseline: "schema" must be {SCHEMA}, given {schema!r}. {RENEW.capitalize()}.'
        )
    try:
        return TypeAdapter(Baseline).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{path}: {place}: {first['msg']}. The baseline was edited; restore the committed file, or {RENEW}."
        ) from error


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
) -> Path:
    """Write what models reached as the bar for the next ones.

    Models that the file holds already and that are not measured anew stay in it.

    Args:
        results: evaluations, in any order.
        suite: whose rows to write.
        path: file; replaced whole.
        models: which to write; None for all.
        tier: rows that do not run in this tier are left out; None keeps all.

    Raises:
        BadInput: a model has nothing measured, or a row that is broken or missing; or the file cannot be written.
    """
    board = assemble(results, suite, tier=tier)
    chosen = list(board.models if models is None else models)
    kept: dict[str, Mapping[str, Accepted]] = {}
    if path.exists():
        old = read_baseline(path)
        check_suite(old, suite)
        kept.update(old.models)
    for model in chosen:
        kept[model] = _accept(board, model)
    baseline = Baseline(suite=suite.name, suite_version=suite.version, models=kept)
    text = json.dumps(dataclasses.asdict(baseline), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(path, text + "\n")
    except OSError as error:
        raise BadInput(f"{path}: the baseline cannot be written ({error.strerror or error}).") from error
    return path


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
    return {cell.row: accepted(cell) for cell in cells}


def accepted(cell: Cell) -> Accepted:
    """Return a cell as it stands in a baseline; the cell has a result and is not broken."""
    last = cell.results[-1]
    if cell.state not in ("measured", "failed", "skipped"):
        raise ValueError(f"a cell that is {cell.state} has no place in a baseline")
    return Accepted(
        outcome=cell.state, reason=cell.reason, data_sha256=last.data_sha256, split=last.split,
        # through JSON, so that what is compared is what a file can hold
        parameters=json.loads(json.dumps(dict(last.parameters), default=list)),
        seeds=tuple(result.provenance.seed for result in cell.results),
        observe_version=last.observe_version, score_version=last.score_version, hardware=last.provenance.hardware,
        values=tuple(
            Number(metric=x.metric, part=x.part, value=x.value, stderr=x.stderr, n=x.n) for x in cell.values
        ),
    )  # fmt: skip
