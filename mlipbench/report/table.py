"""Who is where on the leaderboard?"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import REFERENCE
from mlipbench.core.policy import counted
from mlipbench.core.result import Result
from mlipbench.core.suite import Policy, Suite, Tier
from mlipbench.report.board import STATE_WORDS, Board, Cell, Line, assemble
from mlipbench.report.compare import Ranking, Standing, ranking, standings
from mlipbench.report.scores import Check, Composite, checks, composite, composite_difference, role
from mlipbench.report.words import measured, n_of, widest

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SCHEMA: Final = 2
MIN_WIDTH: Final = 100  # of a line where nobody says how wide it is, as in a log
TERMINAL_METRICS: Final = 2  # per row
TERMINAL_NAME: Final = 20  # letters of a model
COLUMNS: Final = (
    "model", "row", "metric", "part", "unit", "value", "low", "high", "stderr", "n", "n_all", "n_failed", "role",
    "rank_first", "rank_last", "outcome", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Models in order: those that answered most rows first, as none may gain by what it leaves out.

    Attributes:
        board: cells and lines.
        models: names, by coverage, then first place, then composite; those without a score come last.
        marks: names of reference models, which are shown and not ranked.
        scores: by model.
        checks: what each model must do, and whether it did.
        policy: what a system costs that a model gives no answer for.
        standings: where each model with a score may stand, from the pairwise differences of composites.
        rankings: how models stand at one merit, by row and metric.
    """

    board: Board
    models: tuple[str, ...]
    marks: tuple[str, ...]
    scores: Mapping[str, Composite]
    checks: Mapping[str, tuple[Check, ...]]
    policy: Policy = "worst"
    standings: Mapping[str, Standing]
    rankings: Mapping[tuple[str, str], Ranking]

    @property
    def everyone(self) -> tuple[str, ...]:
        """Models, then marks."""
        return (*self.models, *self.marks)

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
        found = self.rankings.get((row.name, metric))
        return (None, frozenset()) if found is None else (found.best, found.level)

    def place(self, row: str, metric: str, model: str) -> Standing | None:
        """Return where a model may stand at one metric of a row; None where it is not ranked."""
        found = self.rankings.get((row, metric))
        return None if found is None else found.places.get(model)


def leaderboard(
    results: Sequence[Result], suite: Suite, *, tier: Tier | None = None, policy: Policy | None = None
) -> Leaderboard:
    """Put results in order.

    Args:
        results: evaluations and trainings, in any order.
        suite: whose rows to show.
        tier: rows that do not run in this tier are left out; None keeps all.
        policy: what a system costs that a model gives no answer for; None takes the suite's.
    """
    policy = suite.failures if policy is None else policy
    board = assemble(results, suite, tier=tier)
    kinds = {result.model: result.spec.kind for result in results if result.spec is not None}
    marks = tuple(model for model in board.models if kinds.get(model) == REFERENCE)
    scores = {model: composite(board, model, policy=policy) for model in board.models}

    there = [model for model in board.models if model not in marks]
    places = _standings(scores, there)

    def order(model: str) -> tuple[float, float, float, str]:
        overall, place = scores[model], places.get(model)
        first = math.inf if place is None else place.first
        return -overall.coverage, first, -(overall.value or 0.0), model

    models = tuple(sorted(there, key=order))
    return Leaderboard(
        board=board, models=models, marks=marks, scores=scores, policy=policy,
        checks={model: checks(board, model) for model in board.models},
        standings=places,
        rankings={
            (line.name, metric.name): ranking(metric, _counted(board, models, line, metric, policy))
            for line in board.lines for metric in line.metrics if role(line, metric) == "merit"
        },
    )  # fmt: skip


def _counted(board: Board, models: Sequence[str], line: Line, metric: Metric, policy: Policy) -> dict[str, MetricValue]:
    """Return the values that are ranked, systems without an answer counted as the policy says."""
    found = {model: board.cell(model, line.name).value(metric.name) for model in models}
    return {model: counted(metric, value, policy=policy) for model, value in found.items() if value is not None}


def _standings(scores: Mapping[str, Composite], models: Sequence[str]) -> dict[str, Standing]:
    """Return where each model may stand by its composite, each pair of models compared on the units they share."""
    there = [model for model in models if scores[model].value is not None]
    pairs = [(a, b) for k, a in enumerate(there) for b in there[k + 1 :]]
    # turned round, as a high score is good
    return standings({(a, b): composite_difference(scores[b], scores[a]) for a, b in pairs}, there)


def records(board: Leaderboard) -> list[dict[str, Any]]:
    """Return one flat record per value, with the keys of `COLUMNS`.

    A cell without values gives one record with an empty metric and the reason; the composite score of a model has an
    empty row, the metric "score", and the number of rows it rests on as n.
    """
    out = []
    for model in board.everyone:
        overall = board.scores[model]
        if overall.value is not None:
            out.append(_record(
                model=model, metric="score", value=overall.value, low=overall.low, high=overall.high, n=overall.scored,
                **_places(board.standings.get(model)),
            ))  # fmt: skip
        for line in board.rows:
            cell = board.cell(model, line.name)
            if not cell.values:
                out.append(_record(model=model, row=line.name, outcome=cell.state, reason=cell.reason))
            for value in cell.values:
                metric = line.metric(value.metric)
                place = None if value.part else board.place(line.name, value.metric, model)
                out.append(_record(
                    model=model, row=line.name, metric=value.metric, part=value.part,
                    unit="" if metric is None else metric.unit, value=value.value, low=value.low, high=value.high,
                    stderr=value.stderr, n=value.n, n_all=value.n_all, n_failed=len(value.failed),
                    role="" if metric is None else role(line, metric), **_places(place),
                ))  # fmt: skip
    return out


def _places(standing: Standing | None) -> dict[str, int]:
    """Return a range of places as columns."""
    return {} if standing is None else {"rank_first": standing.first, "rank_last": standing.last}


def _record(**given: Any) -> dict[str, Any]:
    """Fill in the keys that were not given."""
    empty: dict[str, Any] = dict.fromkeys(COLUMNS)
    texts = {"row": "", "metric": "", "part": "", "unit": "", "role": "", "outcome": "measured", "reason": ""}
    return {**empty, **texts, **given}


def as_json(board: Leaderboard) -> str:
    """Return the machine-readable twin of the page; numbers that are not finite are refused."""
    suite = board.suite
    document = {
        "schema": SCHEMA,
        "suite": suite.name,
        "suite_version": suite.version,
        "policy": board.policy,
        "models": [
            {
                "model": model,
                "is_mark": model in board.marks,
                "score": board.scores[model].value,
                "low": board.scores[model].low,
                "high": board.scores[model].high,
                "coverage": board.scores[model].coverage,
                **{"rank_first": None, "rank_last": None, **_places(board.standings.get(model))},
                "checks": [
                    {
                        "row": check.row,
                        "metric": check.metric,
                        "severity": check.severity,
                        "state": check.state,
                        "says": check.says,
                    }
                    for check in board.checks[model]
                ],
            }
            for model in board.everyone
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

    left = [("place", ""), ("score", ""), ("rows scored", ""), ("checks", "")]
    lines = [line for line in board.rows if line.grade != "verification"]  # the checks are summed up in one line
    for line in lines:
        left += [(line.name, "bold"), *((f"  {_short_title(metric)}", "") for metric in _first(line))]
    columns = {model: _column(board, lines, model) for model in board.everyone}
    taken = max(cell_len(text) for text, _ in left)
    shown: list[str] = []
    for model in board.everyone:
        wider = taken + 2 + max(cell_len(text.plain) for text in columns[model])
        if shown and wider > width:
            break
        shown.append(model)
        taken = wider
    more = len(board.everyone) - len(shown)
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
    place = "mark" if model in board.marks else board.standings[model].words if model in board.standings else "–"
    out = [Text(name), Text(place), Text(score), Text(f"{overall.scored} of {overall.rows}")]
    out.append(_checks_text(board.checks[model]))
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
    return Text(" ".join(x for x in (measured(value), widest(value), n_of(value)) if x), style=style)


def _checks_text(found: tuple[Check, ...]) -> Text:
    """Say for a terminal how many checks passed."""
    from rich.text import Text

    failed = sum(check.state == "failed" and check.decides for check in found)
    passed = sum(check.passed for check in found)
    if not found:
        return Text("–", style="dim")
    return Text(f"{failed} failed", style="bold red") if failed else Text(f"{passed} passed", style="green")


def _state_text(cell: Cell) -> Text:
    """Say for a terminal how a cell without a value ended."""
    from rich.text import Text

    if cell.state == "measured":
        return Text("–", style="dim")
    style = {"failed": "bold red", "skipped": "dim"}.get(cell.state, "yellow")
    return Text(STATE_WORDS[cell.state], style=style)
