"""Who is where on the leaderboard?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlipbench.core.metric import Metric
from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.report.board import STATE_WORDS, Board, Cell, Line, assemble
from mlipbench.report.compare import leaders
from mlipbench.report.scores import Check, Composite, checks, composite
from mlipbench.report.words import measured, widest

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SCHEMA: Final = 1
MIN_WIDTH: Final = 100  # of a line where nobody says how wide it is, as in a log
TERMINAL_METRICS: Final = 2  # per row
TERMINAL_NAME: Final = 20  # letters of a model
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


def head(board: Leaderboard, *, width: int = MIN_WIDTH) -> Table:
    """Return the leaderboard's head for a terminal: a few headline numbers of each row, one column per model.

    As many models are shown as fit, the best first, and one at least; nothing is wrapped. Print it with `crop=False`,
    so that what stands in a file is whole.

    Args:
        board: the leaderboard.
        width: characters in a line.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Column, Table
    from rich.text import Text

    left = [("score", ""), ("rows scored", ""), ("checks", "")]
    lines = [line for line in board.rows if line.grade != "verification"]  # the checks are summed up in one line
    for line in lines:
        left += [(line.name, "bold"), *((f"  {_short_title(metric)}", "") for metric in _first(line))]
    columns = {model: _column(board, lines, model) for model in board.models}
    taken = max(cell_len(text) for text, _ in left)
    shown: list[str] = []
    for model in board.models:
        wider = taken + 2 + max(cell_len(text.plain) for text in columns[model])
        if shown and wider > width:
            break
        shown.append(model)
        taken = wider
    more = len(board.models) - len(shown)
    table = Table(
        Column(no_wrap=True), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, width=taken,
        title=Text(f"{board.suite.name} {board.suite.version}"), title_justify="left", title_style="bold",
        caption=f"± the wider side of the 95 % interval{f'; {more} more on the page' if more else ''}",
        caption_justify="left",
    )  # fmt: skip
    for model in shown:
        table.add_column(columns[model][0], justify="right", no_wrap=True)
    for place, (text, style) in enumerate(left, start=1):
        table.add_row(Text(text, style=style), *(columns[model][place] for model in shown))
    return table


def _first(line: Line) -> tuple[Metric, ...]:
    """Return the headline metrics that have room on a terminal."""
    return line.headline[:TERMINAL_METRICS]


def _short_title(metric: Metric) -> str:
    """Write a metric and its unit in the room of a terminal's line."""
    title = metric.title.replace("relative", "rel.")
    return f"{title} [{metric.unit}]" if metric.unit else title


def _column(board: Leaderboard, lines: Sequence[Line], model: str) -> list[Text]:
    """Return what a terminal shows of one model: its name, the summary, then row by row."""
    from rich.text import Text

    name = model if len(model) <= TERMINAL_NAME else f"{model[: TERMINAL_NAME - 1]}…"
    overall = board.scores[model]
    score = "–" if overall.value is None else f"{overall.value:.2f}"
    out = [Text(name), Text(score), Text(f"{overall.scored} of {overall.rows}"), _checks_text(board.checks[model])]
    for line in lines:
        cell = board.cell(model, line.name)
        out.append(Text("") if cell.values else _state_text(cell))
        out += [_value_text(board, line, metric, cell) for metric in _first(line)]
    return out


def _value_text(board: Leaderboard, line: Line, metric: Metric, cell: Cell) -> Text:
    """Write one number for a terminal."""
    from rich.text import Text

    value = cell.value(metric.name)
    if value is None:
        return Text("–" if cell.values else "", style="dim")
    best, tied = board.leaders(line, metric.name)
    style = "bold green" if cell.model == best else "green" if cell.model in tied else ""
    return Text(f"{measured(value)} {widest(value)}".strip(), style=style)


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
