"""May this model replace the accepted one?"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from mlipbench.core.metric import MetricValue
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
from mlipbench.report.family import METHOD, Answer, Question, answers, has_shared_units, lost_units, question
from mlipbench.report.scores import Check, first_line, limit_words, past_limit, role, row_checks
from mlipbench.report.words import count, listed, number

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Verdict", "Verdicts", "as_json", "gate", "read_baseline", "shown", "text", "write_baseline"]  # fmt: skip

SCHEMA: Final = 2
Status: TypeAlias = Literal["pass", "note", "worse", "cannot tell"]
EXIT_CODES: Final[Mapping[Status, int]] = {"pass": 0, "note": 0, "worse": 1, "cannot tell": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one test found.

    Attributes:
        row: name; empty for the whole.
        metric: name; empty for the row as a whole.
        part: of the metric.
        test: "check", "limit", "baseline" or "outcome".
        status: "pass", "note" (said, but decides nothing), "worse" or "cannot tell".
        says: one sentence.
        value: of the candidate, in the metric's unit; None when there is none.
        stderr: of the candidate.
        against: what it was held against: the limit or the baseline's value.
        unit: of the metric.
        worse_by: share of the baseline's value by which it is worse; negative when better.
        adjusted_p: chance of so small a p-value anywhere in the suite between equally good models.
        detectable: smallest share that this comparison would have found with a power of 80 %.
        is_headline: does the metric stand in the first table?
    """

    row: str
    metric: str = ""
    part: str = ""
    test: Literal["check", "limit", "baseline", "outcome"]
    status: Status
    says: str
    value: float | None = None
    stderr: float | None = None
    against: float | None = None
    unit: str = ""
    worse_by: float | None = None
    adjusted_p: float | None = None
    detectable: float | None = None
    is_headline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Everything the gate found about a candidate.

    Attributes:
        suite: name.
        candidate: name of the model.
        against: name of the model in the baseline; empty when there is none.
        verdicts: in the suite's order.
        error_rate: share of suites in which an equally good model would be called worse than the baseline.
    """

    suite: str
    candidate: str
    against: str
    verdicts: tuple[Verdict, ...]
    error_rate: float

    @property
    def exit_code(self) -> int:
        """0 well, 1 worse or past a limit, 2 we cannot tell; the highest that applies."""
        return max((EXIT_CODES[verdict.status] for verdict in self.verdicts), default=2)

    @property
    def says(self) -> str:
        """The outcome in one sentence."""
        found = [verdict.status for verdict in self.verdicts]
        worse, unclear = found.count("worse"), found.count("cannot tell")
        failed = sum(verdict.test == "check" and verdict.status == "worse" for verdict in self.verdicts)
        if self.exit_code == 0:
            n_checks = sum(verdict.test == "check" and verdict.status == "pass" for verdict in self.verdicts)
            compared = sum(verdict.test == "baseline" and verdict.status == "pass" for verdict in self.verdicts)
            parts = [
                f"{count(n_checks, 'check')} passed" if n_checks else "",
                f"{count(compared, 'number')} compared with the baseline, none worse" if compared else "",
            ]
            told = ", ".join(part for part in parts if part) or "within the suite's limits"
            return f"{self.candidate} passes: {told}."
        parts = [
            f"{count(failed, 'failed check')}" if failed else "",
            f"{worse - failed} worse or past a limit" if worse > failed else "",
            f"{unclear} cannot be told" if unclear else "",
        ]
        return f"{self.candidate} does not pass: {', '.join(part for part in parts if part) or 'nothing was tested'}."

    @property
    def sensitivity(self) -> str:
        """Say what the smallest regressions are that the comparison would have found; empty without a baseline."""
        known = [
            one for one in self.verdicts
            if one.test == "baseline" and one.is_headline and one.value is not None and one.value != one.against
        ]  # fmt: skip
        told = [f"{one.row} {one.metric} {100 * one.detectable:.2g} %" for one in known if one.detectable is not None]
        blind = [f"{one.row} {one.metric}" for one in known if one.detectable is None]
        if not known:
            return ""
        parts = [f"Smallest regression found with 80 % power: {', '.join(told)}." if told else ""]
        parts.append(
            f"Not told in per cent (counts, no interval, or too few units): {', '.join(blind)}." if blind else ""
        )
        rate = f"At most {100 * self.error_rate:g} % of equally good models would be called worse."
        return " ".join([*(part for part in parts if part), rate])


def gate(
    results: Sequence[Result],
    suite: Suite,
    candidate: str,
    baseline: Baseline | None,
    *,
    against: str = "",
    tier: Tier | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> Verdicts:
    """Hold a candidate against what it must do, the suite's limits and the accepted model.

    A failed check that decides (`Metric.severity`) is worse by itself, with and without a baseline, whatever the mean
    over units. Merits are compared with the baseline all at once (`family.METHOD`); diagnostics, properties and checks
    never are. Costs are compared only on equal hardware.

    Args:
        results: evaluations, in any order; those of other models are left out.
        suite: whose rows and limits to hold it against.
        candidate: name of the model.
        baseline: None when there is none; then checks and limits alone decide.
        against: name of the accepted model in the baseline; empty for the candidate's own name.
        tier: rows that do not run in this tier are not asked for; None asks for all.
        tolerances: share by which a metric may be worse, by its name; others have their own.

    Raises:
        BadInput: a limit or a tolerance names a metric that its benchmark does not have, the baseline is of another
            suite, or it has no model of the name that was asked for.
    """
    board = assemble([result for result in results if result.model == candidate], suite, tier=tier)
    if baseline is not None:
        check_suite(baseline, suite)
    if against and (baseline is None or against not in baseline.models):
        raise unknown("model", against, [] if baseline is None else baseline.models, where="baseline")
    name = against or candidate
    accepted_rows: Mapping[str, Accepted] = {} if baseline is None else baseline.models.get(name, {})
    _check_names(board, tolerances or {})
    found = [] if baseline is None or not accepted_rows else list(_about_baseline(baseline, suite, name))
    cells = [_cell(board, candidate, line) for line in board.lines]
    questions: list[Question] = []
    for line, cell in zip(board.lines, cells, strict=True):
        found += _row(line, cell, accepted_rows.get(line.name))
        own, asked = _asked(line, cell, accepted_rows.get(line.name), tolerances or {})
        found += own
        questions += asked
    found += [_verdict(answer) for answer in answers(questions, error_rate=suite.error_rate)]
    order = {line.name: number for number, line in enumerate(board.lines)}
    found.sort(key=lambda verdict: order.get(verdict.row, -1))
    found += _on_the_whole(found, cells, suite, candidate, baseline, knows=bool(accepted_rows))
    return Verdicts(
        suite=suite.name, candidate=candidate, against=name if accepted_rows else "", verdicts=tuple(found),
        error_rate=suite.error_rate,
    )  # fmt: skip


def _on_the_whole(
    found: Sequence[Verdict],
    cells: Sequence[Cell],
    suite: Suite,
    candidate: str,
    baseline: Baseline | None,
    *,
    knows: bool,
) -> Iterator[Verdict]:
    """Say whether anything was tested at all, and against what."""
    decided = any(verdict.test != "outcome" and verdict.status != "note" for verdict in found)
    if not any(cell.state == "measured" for cell in cells):
        says = f"nothing was measured of '{candidate}' in suite '{suite.name}': run it first"
        yield Verdict(row="", test="outcome", status="cannot tell", says=says)
    elif not decided:
        rest = f"the suite has no checks or limits and {_known(baseline)}"
        says = f"there is nothing to hold '{candidate}' against: {rest}"
        yield Verdict(row="", test="outcome", status="cannot tell", says=says)
    elif not knows:
        says = f"only checks and limits were tested: {_known(baseline)}"
        yield Verdict(row="", test="outcome", status="note", says=says)


def _about_baseline(baseline: Baseline, suite: Suite, model: str) -> Iterator[Verdict]:
    """Say what has to be known of the accepted model."""
    if baseline.suite_version != suite.version:
        says = (
            f"the baseline is of version {baseline.suite_version} of suite '{suite.name}', this is version "
            f"{suite.version}: {RENEW}"
        )
        yield Verdict(row="", test="baseline", status="cannot tell", says=says)
    if not baseline.can_pair:
        says = f"the baseline keeps no units (schema {baseline.schema}), so nothing can be paired: {RENEW}"
        yield Verdict(row="", test="baseline", status="note", says=says)
    waiver = baseline.accepted_failed.get(model)
    if waiver is not None:
        failed = f"{count(len(waiver.checks), 'failed check')} ({'; '.join(waiver.checks)})"
        says = f"{model} was accepted with {failed}: {waiver.why}"
        yield Verdict(row="", test="check", status="note", says=says)


def _known(baseline: Baseline | None) -> str:
    """Say which models a baseline holds."""
    if baseline is None:
        return "there is no baseline"
    return f"the baseline holds no model of that name (it holds: {', '.join(sorted(baseline.models)) or 'none'})"


def _cell(board: Board, model: str, line: Line) -> Cell:
    """Return a cell also when the model has no result at all."""
    absent = Cell(model=model, row=line.name, state="absent", reason="there is no result in the store")
    return board.cells.get((model, line.name), absent)


def _check_names(board: Board, tolerances: Mapping[str, float]) -> None:
    """Refuse limits and tolerances on metrics that do not exist."""
    for line in board.lines:
        names = [metric.name for metric in line.metrics]
        for limit in line.row.limits if names else ():
            if limit.metric not in names:
                where = f"suite '{board.suite.name}', limits of row '{line.name}'"
                raise unknown("metric", limit.metric, names, where=where)
    known = {metric.name for line in board.lines for metric in line.metrics}
    for name, tolerance in tolerances.items():
        if known and name not in known:
            raise unknown("metric", name, known, where="tolerance")
        if not tolerance >= 0.0:
            raise BadInput(f"tolerance of '{name}': a share of at least 0 is needed, given {tolerance:g}.")


def _row(line: Line, cell: Cell, base: Accepted | None) -> Iterator[Verdict]:
    """Yield what became of one row, its checks and its limits."""
    reason = first_line(cell.reason)
    if cell.state in ("broken", "absent"):
        yield Verdict(row=line.name, test="outcome", status="cannot tell", says=f"not run: {reason}")
        return
    found = row_checks(line, cell)
    for check in found:
        yield _checked(check, base)
    if cell.state == "failed" and not found:
        yield Verdict(row=line.name, test="outcome", status="worse", says=f"failed: {reason}")
    elif cell.state == "skipped":
        once = base is not None and base.outcome == "measured"
        says = f"skipped{', but the baseline was measured' if once else ''}: {reason}"
        yield Verdict(row=line.name, test="outcome", status="worse" if once else "note", says=says)
    elif cell.state == "measured":
        yield from _limits(line, cell)


def _checked(check: Check, base: Accepted | None) -> Verdict:
    """Turn a check into a verdict."""
    was_made = base is not None and any(old.metric == check.metric and not old.part for old in base.values)
    status: Status = "pass"
    if check.state == "failed":
        status = "worse" if check.decides else "note"
    elif check.state == "not made":
        status = "worse" if was_made else "cannot tell" if check.is_demanded and check.decides else "note"
    return Verdict(
        row=check.row, metric=check.metric, test="check", status=status, value=check.value,
        says=f"{check.says}{'' if check.decides else ' (good to know)'}",
    )  # fmt: skip


def _limits(line: Line, cell: Cell) -> Iterator[Verdict]:
    """Hold a measured row against the suite's limits."""
    for limit in line.row.limits:
        value, metric = cell.value(limit.metric, limit.part), line.metric(limit.metric)
        if metric is not None and role(line, metric) == "check" and not limit.part:
            continue  # the check holds it already
        unit = "" if metric is None else metric.unit
        if value is None:
            yield Verdict(
                row=line.name, metric=limit.metric, part=limit.part, test="limit", status="cannot tell", unit=unit,
                says=f"the limit ({limit_words(limit)}) cannot be tested: the row gave no such value",
            )  # fmt: skip
            continue
        if value.failed:
            yield Verdict(
                row=line.name, metric=limit.metric, part=limit.part, test="limit", status="worse", unit=unit,
                says=f"{limit_words(limit)} must hold for all, and there is no answer for {_named(value.failed)}",
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


def _named(units: Sequence[str]) -> str:
    """Name a few units and count them all."""
    return f"{count(len(units), 'unit')} ({listed(list(units), at_most=3)})"


def _asked(
    line: Line, cell: Cell, base: Accepted | None, tolerances: Mapping[str, float]
) -> tuple[list[Verdict], list[Question]]:
    """Return what decides itself when a measured row is held against the accepted one, and what the family decides."""
    if base is None or base.outcome != "measured" or cell.state != "measured":
        return [], []
    if line.grade == "validation" and not line.row.weight:
        return [], []  # what counts for no score counts for no decision
    here = accepted(cell, line)
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
        return [Verdict(row=line.name, test="baseline", status="cannot tell", says=says)], []
    if line.grade == "cost" and here.hardware != base.hardware:
        says = f"not compared: the baseline was measured on other hardware ({base.hardware})"
        return [Verdict(row=line.name, test="baseline", status="note", says=says)], []
    found: list[Verdict] = []
    asked: list[Question] = []
    for old in base.values:
        metric = line.metric(old.metric)
        if old.part or metric is None or role(line, metric) != "merit":
            continue
        new = cell.value(old.metric)
        found += _lost(line, new, old, base)
        if new is not None and has_shared_units(new, base.value(old)):
            domain = f"{base.data_sha256}/{base.split}"
            asked.append(
                question(line.name, metric, new, base.value(old), domain=domain, tolerance=tolerances.get(old.metric))
            )
    return found, asked


def _lost(line: Line, new: MetricValue | None, old: Number, base: Accepted) -> Iterator[Verdict]:
    """Yield what the accepted model answered and the candidate does not."""
    if new is None:
        says = f"no longer measured; the baseline has {number(old.value)}"
        yield Verdict(row=line.name, metric=old.metric, test="baseline", status="worse", says=says, against=old.value)
        return
    before = base.value(old)
    failed, uncovered = lost_units(new, before)
    for units, words in ((failed, "no answer for"), (uncovered, "no longer covers")):
        if units:
            says = f"{words} {_named(units)} that the baseline answered"
            yield Verdict(row=line.name, metric=old.metric, test="baseline", status="worse", says=says)
    if not has_shared_units(new, before):
        says = f"the two models have no unit in common, so nothing can be compared: {RENEW}"
        yield Verdict(row=line.name, metric=old.metric, test="baseline", status="cannot tell", says=says)


def _verdict(answer: Answer) -> Verdict:
    """Say what the family found of one number."""
    asked = answer.question
    metric, worse_by = asked.metric, asked.worse_by
    if worse_by <= 0.0:
        why = "not worse" if worse_by == 0.0 else f"better by {100 * -worse_by:.2g} %"
    elif answer.adjusted_p is None:
        why = f"worse by {100 * worse_by:.2g} %; there is no interval to judge by"
    elif answer.worse:
        why = f"worse by {100 * worse_by:.2g} % (p = {number(answer.adjusted_p)} for the suite as a whole)"
    elif worse_by <= asked.tolerance:
        why = f"worse by {100 * worse_by:.2g} %, which is within the tolerance of {100 * asked.tolerance:.3g} %"
    else:
        why = f"worse by {100 * worse_by:.2g} %, within the noise (p = {number(answer.adjusted_p)} for the suite)"
    unclear = answer.adjusted_p is None and worse_by > asked.tolerance
    return Verdict(
        row=asked.row, metric=metric.name, test="baseline", unit=metric.unit, is_headline=metric.headline,
        status="worse" if answer.worse else "note" if unclear else "pass",
        says=f"{number(asked.new.value)} against {number(asked.old.value)} {metric.unit}".strip() + f": {why}",
        value=asked.new.value, stderr=asked.new.stderr, against=asked.old.value, worse_by=_finite(worse_by),
        adjusted_p=answer.adjusted_p, detectable=answer.detectable,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return value if math.isfinite(value) else None


def shown(found: Verdicts, *, every: bool = False) -> Table:
    """Return the verdicts for a terminal: what does not pass, or all of it."""
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "note": "dim", "worse": "bold red", "cannot tell": "yellow"}
    table = Table(
        title=Text(f"{found.suite}: {found.candidate}"),
        caption=Text(f"{found.says} {found.sensitivity}".strip()),
        caption_justify="left",
        title_justify="left",
    )
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
    return "\n".join([*lines, found.says, *([found.sensitivity] if found.sensitivity else [])])


def as_json(found: Verdicts) -> str:
    """Return the verdicts for programs, with the exit code; numbers that are not finite are refused."""
    document = {
        "schema": SCHEMA, "suite": found.suite, "candidate": found.candidate, "against": found.against,
        "exit_code": found.exit_code, "error_rate": found.error_rate, "method": METHOD,
        "verdicts": [dataclasses.asdict(verdict) for verdict in found.verdicts],
    }  # fmt: skip
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
