"""May this model replace the accepted one?"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from mlipbench.core.metric import Metric, MetricValue, score
from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.errors import BadInput, unknown
from mlipbench.report.baseline import (
    RENEW,
    Accepted,
    Baseline,
    Number,
    accepted,
    check_suite,
    read_baseline,
    write_baseline,
)
from mlipbench.report.board import Board, Cell, Line, assemble
from mlipbench.report.compare import difference
from mlipbench.report.scores import first_line, limit_words, past_limit
from mlipbench.report.words import number

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Verdict", "Verdicts", "as_json", "gate", "read_baseline", "shown", "text", "write_baseline"]  # fmt: skip

SCHEMA: Final = 1
Status: TypeAlias = Literal["pass", "note", "worse", "cannot tell"]
EXIT_CODES: Final[Mapping[Status, int]] = {"pass": 0, "note": 0, "worse": 1, "cannot tell": 2}
# How many times larger an error may be before a significant difference counts.
FACTORS: Final[Mapping[str, float]] = {"validation": 1.05, "verification": 1.05, "cost": 1.45}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one test found.

    Attributes:
        row: name; empty for the whole.
        metric: name; empty for the row as a whole.
        part: of the metric.
        test: "limit", "baseline" or "outcome".
        status: "pass", "note" (said, but decides nothing), "worse" or "cannot tell".
        says: one sentence.
        value: of the candidate, in the metric's unit; None when there is none.
        stderr: of the candidate.
        against: what it was held against: the limit or the baseline's value.
        unit: of the metric.
    """

    row: str
    metric: str = ""
    part: str = ""
    test: Literal["limit", "baseline", "outcome"]
    status: Status
    says: str
    value: float | None = None
    stderr: float | None = None
    against: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Everything the gate found about a candidate.

    Attributes:
        suite: name.
        candidate: name of the model.
        against: name of the model in the baseline; empty when there is none.
        verdicts: in the suite's order.
    """

    suite: str
    candidate: str
    against: str
    verdicts: tuple[Verdict, ...]

    @property
    def exit_code(self) -> int:
        """0 well, 1 worse or past a limit, 2 we cannot tell; the highest that applies."""
        return max((EXIT_CODES[verdict.status] for verdict in self.verdicts), default=2)

    @property
    def says(self) -> str:
        """The outcome in one sentence."""
        found = [verdict.status for verdict in self.verdicts]
        worse, unclear = found.count("worse"), found.count("cannot tell")
        if self.exit_code == 0:
            return f"{self.candidate} passes: {found.count('pass')} tests, none worse."
        parts = [f"{worse} worse or past a limit" if worse else "", f"{unclear} cannot be told" if unclear else ""]
        return f"{self.candidate} does not pass: {', '.join(part for part in parts if part) or 'nothing was tested'}."


def gate(
    results: Sequence[Result],
    suite: Suite,
    candidate: str,
    baseline: Baseline | None,
    *,
    against: str = "",
    tier: Tier | None = None,
    factors: Mapping[str, float] | None = None,
) -> Verdicts:
    """Hold a candidate against the suite's limits and the accepted model.

    A value is worse than the baseline when it lies on the bad side of it by more than 1.96 standard errors of the
    difference *and* by more than a factor; without standard errors the factor alone decides. Costs are compared only
    on equal hardware. A check that both pass in full (score 1 on its scale) is not compared further.

    Args:
        results: evaluations, in any order; those of other models are left out.
        suite: whose rows and limits to hold it against.
        candidate: name of the model.
        baseline: None when there is none; then the limits alone decide.
        against: name of the accepted model in the baseline; empty for the candidate's own name.
        tier: rows that do not run in this tier are not asked for; None asks for all.
        factors: by metric name; others have those of `FACTORS`, by grade.

    Raises:
        BadInput: a limit or a factor names a metric that its benchmark does not have, the baseline is of another
            suite, or it has no model of the name that was asked for.
    """
    board = assemble([result for result in results if result.model == candidate], suite, tier=tier)
    if baseline is not None:
        check_suite(baseline, suite)
    if against and (baseline is None or against not in baseline.models):
        raise unknown("model", against, [] if baseline is None else baseline.models, where="baseline")
    accepted_rows: Mapping[str, Accepted] = {} if baseline is None else baseline.models.get(against or candidate, {})
    _check_names(board, factors or {})
    found: list[Verdict] = []
    cells = [_cell(board, candidate, line) for line in board.lines]
    for line, cell in zip(board.lines, cells, strict=True):
        found += _row(line, cell, accepted_rows.get(line.name), factors or {})
    if not any(cell.state == "measured" for cell in cells):
        says = f"nothing was measured of '{candidate}' in suite '{suite.name}': run it first"
        found.append(Verdict(row="", test="outcome", status="cannot tell", says=says))
    elif not any(verdict.test in ("limit", "baseline") and verdict.status != "note" for verdict in found):
        says = f"there is nothing to hold '{candidate}' against: the suite sets no limits and {_known(baseline)}"
        found.append(Verdict(row="", test="outcome", status="cannot tell", says=says))
    elif not accepted_rows:
        says = f"only limits were tested: {_known(baseline)}"
        found.append(Verdict(row="", test="outcome", status="note", says=says))
    return Verdicts(
        suite=suite.name, candidate=candidate, against=(against or candidate) if accepted_rows else "",
        verdicts=tuple(found),
    )  # fmt: skip


def _known(baseline: Baseline | None) -> str:
    """Say which models a baseline holds."""
    if baseline is None:
        return "there is no baseline"
    return f"the baseline holds no model of that name (it holds: {', '.join(sorted(baseline.models)) or 'none'})"


def _cell(board: Board, model: str, line: Line) -> Cell:
    """Return a cell also when the model has no result at all."""
    absent = Cell(model=model, row=line.name, state="absent", reason="there is no result in the store")
    return board.cells.get((model, line.name), absent)


def _check_names(board: Board, factors: Mapping[str, float]) -> None:
    """Refuse limits and factors on metrics that do not exist."""
    for line in board.lines:
        names = [metric.name for metric in line.metrics]
        for limit in line.row.limits if names else ():
            if limit.metric not in names:
                where = f"suite '{board.suite.name}', limits of row '{line.name}'"
                raise unknown("metric", limit.metric, names, where=where)
    known = {metric.name for line in board.lines for metric in line.metrics}
    for name, factor in factors.items():
        if known and name not in known:
            raise unknown("metric", name, known, where="tolerance")
        if not factor >= 1.0:
            raise BadInput(f"tolerance of '{name}': a factor of at least 1 is needed, given {factor:g}.")


def _row(line: Line, cell: Cell, base: Accepted | None, factors: Mapping[str, float]) -> Iterator[Verdict]:
    """Yield all verdicts on one row."""
    reason = first_line(cell.reason)
    if cell.state in ("broken", "absent"):
        yield Verdict(row=line.name, test="outcome", status="cannot tell", says=f"not run: {reason}")
    elif cell.state == "failed":
        yield Verdict(row=line.name, test="outcome", status="worse", says=f"failed: {reason}")
    elif cell.state == "skipped":
        once = base is not None and base.outcome == "measured"
        says = f"skipped{', but the baseline was measured' if once else ''}: {reason}"
        yield Verdict(row=line.name, test="outcome", status="worse" if once else "pass", says=says)
    else:
        yield from _limits(line, cell)
        yield from _against_baseline(line, cell, base, factors)


def _limits(line: Line, cell: Cell) -> Iterator[Verdict]:
    """Hold a measured row against the suite's limits."""
    for limit in line.row.limits:
        value, metric = cell.value(limit.metric, limit.part), line.metric(limit.metric)
        unit = "" if metric is None else metric.unit
        if value is None:
            yield Verdict(
                row=line.name, metric=limit.metric, part=limit.part, test="limit", status="cannot tell", unit=unit,
                says=f"the limit ({limit_words(limit)}) cannot be tested: the row gave no such value",
            )  # fmt: skip
            continue
        past = past_limit(limit, value.value)
        broken_above = limit.at_most is not None and (limit.at_least is None or value.value > limit.at_most)
        yield Verdict(
            row=line.name, metric=limit.metric, part=limit.part, test="limit", status="worse" if past else "pass",
            says=f"{number(value.value)} {unit}".strip() + f", {'must be' if past else 'within'} {limit_words(limit)}",
            value=value.value, stderr=value.stderr, unit=unit,
            against=limit.at_most if broken_above else limit.at_least,
        )  # fmt: skip


def _against_baseline(line: Line, cell: Cell, base: Accepted | None, factors: Mapping[str, float]) -> Iterator[Verdict]:
    """Hold a measured row against the accepted one."""
    if base is None or base.outcome != "measured":
        return
    here = accepted(cell)
    differs = [
        words for words, mine, theirs in (
            ("data", here.data_sha256, base.data_sha256), ("split", here.split, base.split),
            ("parameters", here.parameters, base.parameters), ("seeds", here.seeds, base.seeds),
            ("observe_version", here.observe_version, base.observe_version),
            ("score_version", here.score_version, base.score_version),
        ) if mine != theirs
    ]  # fmt: skip
    if differs:
        says = f"the baseline was measured under other conditions ({', '.join(differs)}): {RENEW}"
        yield Verdict(row=line.name, test="baseline", status="cannot tell", says=says)
        return
    if line.grade == "cost" and here.hardware != base.hardware:
        says = f"not compared: the baseline was measured on other hardware ({base.hardware})"
        yield Verdict(row=line.name, test="baseline", status="note", says=says)
        return
    for old in base.values:
        if not old.part:
            factor = factors.get(old.metric, FACTORS.get(line.grade, 1.05))
            yield _compared(line, cell.value(old.metric), old, factor)


def _compared(line: Line, new: MetricValue | None, old: Number, factor: float) -> Verdict:
    """Compare one value with the accepted one."""
    metric = line.metric(old.metric)
    if new is None or metric is None:
        says = f"no longer measured; the baseline has {number(old.value)}"
        return Verdict(
            row=line.name, metric=old.metric, test="baseline", status="worse", says=says, against=old.value,
            unit="" if metric is None else metric.unit,
        )  # fmt: skip
    worse, why = is_worse(metric, new, old, factor=factor)
    if line.grade == "cost" and (new.stderr is None or old.stderr is None):
        worse, why = False, "a cost without a spread is not judged"
    if worse and line.grade == "verification" and score(metric, new.value) == score(metric, old.value) == 1.0:
        worse, why = False, "both pass in full"
    return Verdict(
        row=line.name, metric=old.metric, test="baseline", status="worse" if worse else "pass",
        says=f"{number(new.value)} against {number(old.value)} {metric.unit}".strip() + f": {why}",
        value=new.value, stderr=new.stderr, against=old.value, unit=metric.unit,
    )  # fmt: skip


def is_worse(metric: Metric, new: MetricValue, old: Number, *, factor: float) -> tuple[bool, str]:
    """Is a value significantly and noticeably worse than the accepted one, and why (not)?"""
    before = MetricValue(metric=old.metric, value=old.value, stderr=old.stderr, n=old.n)
    found = difference(new, before)
    worse_by = found.value if metric.better == "lower" else -found.value
    if worse_by <= 0.0:
        return False, "not worse" if worse_by == 0.0 else "better"
    if worse_by <= (factor - 1.0) * abs(old.value):
        return False, f"worse, but by less than {100 * (factor - 1):.3g} %"
    if found.stderr is None:
        return True, f"worse by more than {100 * (factor - 1):.3g} %; there are no standard errors to judge by"
    errors = worse_by / found.stderr if found.stderr > 0.0 else float("inf")
    if not found.significant:
        return False, f"worse, but within the noise ({errors:.1f} standard errors)"
    return True, f"worse by {errors:.1f} standard errors"


def shown(found: Verdicts, *, every: bool = False) -> Table:
    """Return the verdicts for a terminal: what does not pass, or all of it."""
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "note": "dim", "worse": "bold red", "cannot tell": "yellow"}
    table = Table(title=Text(f"{found.suite}: {found.candidate}"), caption=Text(found.says), title_justify="left")
    for head in ("", "row", "metric", "test", "finding"):
        table.add_column(head)
    for verdict in found.verdicts:
        if every or verdict.status != "pass":
            metric = " ".join(word for word in (verdict.metric, verdict.part) if word)
            words = (verdict.row, metric, verdict.test, verdict.says)
            table.add_row(Text(verdict.status, style=styles[verdict.status]), *(Text(word) for word in words))
    return table


def text(found: Verdicts) -> str:
    """Return the verdicts as plain lines, for logs: those that do not pass, then the outcome."""
    lines = [
        f"{verdict.status}: " + " ".join(x for x in (verdict.row, verdict.metric, verdict.part) if x)
        + f" ({verdict.test}): {verdict.says}"
        for verdict in found.verdicts if verdict.status != "pass"
    ]  # fmt: skip
    return "\n".join([*lines, found.says])


def as_json(found: Verdicts) -> str:
    """Return the verdicts for programs, with the exit code; numbers that are not finite are refused."""
    document = {
        "schema": SCHEMA, "suite": found.suite, "candidate": found.candidate, "against": found.against,
        "exit_code": found.exit_code, "verdicts": [dataclasses.asdict(verdict) for verdict in found.verdicts],
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
