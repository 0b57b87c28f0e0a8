"""Who is where on the leaderboard?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.report.board import STATE_WORDS, Board, Cell, Line, assemble
from mlipbench.report.compare import leaders
from mlipbench.report.scores import Check, Composite, checks, composite
from mlipbench.report.words import measured, spread

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SCHEMA: Final = 1
COLUMNS: Final = (
    "model", "row", "metric", "part", "unit", "value", "low", "high", "stderr", "n", "outcome", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Models in the order of their composite scores.

    Attributes:
        board: cells and lines.
        models: names, the best composite first; those without a score come last.
        scores: by model.
        checks: what each model must do, and whether it did.
    """

    board: Board
    models: tuple[str, ...]
    scores: Mapping[str, Composite]
    checks: Mapping[str, tuple[Check, ...]]

    @property
    def suite(self) -> Suite:
        """The suite."""
        return self.board.suite

    @property
    def rows(self) -> tuple[Line, ...]:
        """The suite's rows, in its order."""
        return self.board.lines

    def cell(self, model: str, row: str) -> Cell:
        """Return what became of one model in one row."""
        return self.board.cell(model, row)

    def leaders(self, row: Line, metric: str) -> tuple[str | None, frozenset[str]]:
        """Return the best model at one metric of a row, and those the data cannot tell from it."""
        definition = row.metric(metric)
        found = {model: self.cell(model, row.name).value(metric) for model in self.models}
        values = {model: value for model, value in found.items() if value is not None}
        return leaders(definition, values) if definition is not None else (None, frozenset())


def leaderboard(results: Sequence[Result], suite: Suite, *, tier: Tier | None = None) -> Leaderboard:
    """Put results in order.

    Args:
        results: evaluations and trainings, in any order.
        suite: whose rows to show.
        tier: rows that do not run in this tier are left out; None keeps all.
    """
    board = assemble(results, suite, tier=tier)
    scores = {model: composite(board, model) for model in board.models}

    def place(model: str) -> tuple[float, str]:
        value = scores[model].value
        return (1.0 if value is None else -value, model)

    return Leaderboard(
        board=board, models=tuple(sorted(board.models, key=place)), scores=scores,
        checks={model: checks(board, model) for model in board.models},
    )  # fmt: skip


def records(board: Leaderboard) -> list[dict[str, Any]]:
    """Return one flat record per value, with the keys of `COLUMNS`.

    A cell without values gives one record with an empty metric and the reason; the composite score of a model has an
    empty row, the metric "score", and the number of rows it rests on as n.
    """
    out = []
    for model in board.models:
        overall = board.scores[model]
        if overall.value is not None:
            out.append(_record(
                model=model, metric="score", value=overall.value, low=overall.low, high=overall.high, n=overall.scored,
            ))  # fmt: skip
        for line in board.rows:
            cell = board.cell(model, line.name)
            if not cell.values:
                out.append(_record(model=model, row=line.name, outcome=cell.state, reason=cell.reason))
            for value in cell.values:
                metric = line.metric(value.metric)
                out.append(_record(
                    model=model, row=line.name, metric=value.metric, part=value.part,
                    unit="" if metric is None else metric.unit, value=value.value, low=value.low, high=value.high,
                    stderr=value.stderr, n=value.n,
                ))  # fmt: skip
    return out


def _record(**given: Any) -> dict[str, Any]:
    """Fill in the keys that were not given."""
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    texts = {"row": "", "metric": "", "part": "", "unit": "", "outcome": "measured", "reason": ""}
    return {**empty, **texts, **given}


def as_json(board: Leaderboard) -> str:
    """Return the machine-readable twin of the page; numbers that are not finite are refused."""
    suite = board.suite
    document = {
        "schema": SCHEMA,
        "suite": suite.name,
        "suite_version": suite.version,
        "models": [
            {
                "model": model,
                "score": board.scores[model].value,
                "low": board.scores[model].low,
                "high": board.scores[model].high,
                "coverage": board.scores[model].coverage,
                "checks_passed": sum(check.passed for check in board.checks[model]),
                "checks": len(board.checks[model]),
            }
            for model in board.models
        ],
        "records": records(board),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(board: Leaderboard) -> str:
    """Return `records` as comma-separated values with a head line; absent numbers are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(board))
    return text.getvalue()


def head(board: Leaderboard, *, max_models: int = 4) -> Table:
    """Return the leaderboard's head for a terminal: one line per headline number, one column per model."""
    from rich.table import Table
    from rich.text import Text

    shown = board.models[:max_models]
    more = len(board.models) - len(shown)
    caption = f"{more} more on the page" if more > 0 else None
    table = Table(title=Text(f"{board.suite.name} {board.suite.version}"), caption=caption)
    table.add_column("row")
    table.add_column("metric")
    for model in shown:
        table.add_column(Text(model), justify="right")
    overall = [board.scores[model] for model in shown]
    table.add_row("", "score", *("–" if score.value is None else f"{score.value:.2f}" for score in overall))
    table.add_row("", "rows scored", *(f"{score.scored} of {score.rows}" for score in overall))
    table.add_row("", "checks", *(_checks_text(board.checks[model]) for model in shown), end_section=True)
    for line in board.rows:
        if line.grade != "verification":  # the checks are summed up above
            _add_line(table, board, line, shown)
    return table


def _add_line(table: Table, board: Leaderboard, line: Line, shown: Sequence[str]) -> None:
    """Add the headline numbers of one row, or how it ended."""
    from rich.text import Text

    cells = [board.cell(model, line.name) for model in shown]
    if not any(cell.values for cell in cells):
        table.add_row(Text(line.name), "", *(_state_text(cell) for cell in cells), end_section=True)
        return
    for number, metric in enumerate(line.headline):
        best, tied = board.leaders(line, metric.name)
        texts = []
        for cell in cells:
            value = cell.value(metric.name)
            if value is None:
                texts.append(_state_text(cell))
                continue
            style = "bold green" if cell.model == best else "green" if cell.model in tied else ""
            texts.append(Text(f"{measured(value)} {spread(value)}".strip(), style=style))
        unit = f" [{metric.unit}]" if metric.unit else ""
        row = Text(line.name if number == 0 else "", no_wrap=True)
        table.add_row(row, Text(metric.title + unit), *texts, end_section=metric is line.headline[-1])


def _checks_text(found: tuple[Check, ...]) -> Text:
    """Say for a terminal how many checks passed."""
    from rich.text import Text

    failed = sum(not check.passed for check in found)
    if not found:
        return Text("–", style="dim")
    return Text(f"{failed} failed", style="bold red") if failed else Text(f"{len(found)} passed", style="green")


def _state_text(cell: Cell) -> Text:
    """Say for a terminal how a cell without a value ended."""
    from rich.text import Text

    if cell.state == "measured":
        return Text("–", style="dim")
    style = {"failed": "bold red", "skipped": "dim"}.get(cell.state, "yellow")
    return Text(STATE_WORDS[cell.state], style=style)
