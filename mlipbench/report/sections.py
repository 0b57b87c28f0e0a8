"""What stands on the page?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.policy import metric_score
from mlipbench.core.suite import Limit, ModelEntry, Policy, Tier
from mlipbench.core.view import View
from mlipbench.data.units import is_guessed
from mlipbench.report import verdicts
from mlipbench.report.board import STATE_WORDS, Cell, Line, State
from mlipbench.report.cards import card, provenance
from mlipbench.report.figures import figures
from mlipbench.report.panels import colour_of
from mlipbench.report.scores import SEVERITY_WORDS, Check, Composite, first_line, method, past_limit, role
from mlipbench.report.table import Leaderboard
from mlipbench.report.words import count, listed, measured, n_of, number, plain, spread

Views = Callable[[str], tuple[View, ...]]
GRADE_WORDS: Final = {"verification": "check", "validation": "accuracy", "cost": "cost"}


def page(board: Leaderboard, views: Views, *, tier: Tier | None, entries: Mapping[str, ModelEntry]) -> dict[str, Any]:
    """Return everything the template shows.

    Args:
        board: the leaderboard.
        views: returns the views of a job, by its id.
        tier: that was asked for; for the command that makes the page again.
        entries: what is known of models besides their results.
    """
    colours = colour_of(board.everyone)
    known = [card(board, model, entries.get(model), colours[model]) for model in board.everyone]
    benchmarks = _benchmarks(board, views, colours)
    figures_there = any(row["figures"] for benchmark in benchmarks for row in benchmark["rows"])
    return {
        "suite": board.suite,
        "tier": tier,
        "summary": _summary(board),
        "verdicts": [_verdict(board, model, colours[model]) for model in board.models],
        "checks": _matrix(board, colours),
        "seeds_note": _seeds_note(board),
        "alerts": _alerts(board, {one["model"]: one["level_of_theory"] for one in known}),
        "headline": _headline(board, known),
        "benchmarks": benchmarks,
        "cards": known,
        "reasons": [
            {"model": model, "row": row, "state": state, "word": STATE_WORDS[state], "reason": first, "rest": rest}
            for model, row, state, first, rest in verdicts.reasons(board)
        ],
        "provenance": provenance(board, tier),
        "method": method(board.policy),
        "has_figures": figures_there or any(one["history"].panels for one in known),
    }


def _summary(board: Leaderboard) -> str:
    """Count what there is."""
    states: list[State] = [cell.state for (model, _), cell in board.board.cells.items() if model in board.models]
    shown: tuple[State, ...] = ("measured", "failed", "skipped")
    counted = [f"{states.count(state)} {STATE_WORDS[state].lower()}" for state in shown if state in states]
    absent = states.count("broken") + states.count("absent")
    parts = [count(len(board.models), "model"), count(len(board.rows), "row"), *counted]
    return " · ".join([*parts, *([f"{absent} not run"] if absent else [])])


def _verdict(board: Leaderboard, model: str, colour: str) -> dict[str, Any]:
    """Return one model's place, score and sentence."""
    return {
        "model": model,
        "colour": colour,
        "score": _score(board.scores[model]),
        "tone": verdicts.tone(board, model),
        "sentence": verdicts.sentence(board, model),
    }


def _score(overall: Composite) -> dict[str, Any]:
    """Return a composite as texts, and as ends of a bar."""
    if overall.value is None:
        return {"text": "–", "spread": "", "value": None, "coverage": f"0 of {overall.rows} rows", "bar": None}
    interval = "" if overall.low is None or overall.high is None else f"{overall.low:.2f} – {overall.high:.2f}"
    ends = [overall.value if end is None else end for end in (overall.low, overall.high)]
    return {
        "text": f"{overall.value:.2f}", "spread": interval, "value": overall.value,
        "coverage": f"{overall.scored} of {count(overall.rows, 'row')}",
        "bar": {
            "value": f"{100 * overall.value:.1f}", "low": f"{100 * ends[0]:.1f}",
            "width": f"{100 * (ends[1] - ends[0]):.1f}",
        },
    }  # fmt: skip


def _alerts(board: Leaderboard, levels: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a reader must know before any number."""
    out = []
    for model in board.models:
        failed = [check for check in board.checks[model] if check.state == "failed" and check.decides]
        if failed:
            head = f"{model}: {count(len(failed), 'deciding check')} failed"
            out.append({"kind": "bad", "head": head, "text": f"{listed([check.title for check in failed])}."})
    out += [{"kind": "warn", "head": "Not comparable", "text": text} for text in verdicts.incomparable(board)]
    theory = " ".join(verdicts.other_theory(board, levels).values())
    return out + ([{"kind": "warn", "head": "Other level of theory", "text": theory}] if theory else [])


def _seeds_note(board: Leaderboard) -> str:
    """Say whether intervals hold the scatter of trainings."""
    several = [model for model in board.models if _n_trainings(board, model) > 1]
    if not several:
        return "Intervals hold no training seeds: each model was trained once, and another seed may move it further."
    rest = "" if len(several) == len(board.models) else "; those of the others hold none"
    counts = ", ".join(f"{model} ({_n_trainings(board, model)})" for model in several)
    return f"Intervals of models trained several times hold the scatter of their training seeds: {counts}{rest}."


def _n_trainings(board: Leaderboard, model: str) -> int:
    """Count the trainings behind a model's numbers."""
    return max(
        (len({result.model_key for result in board.cell(model, line.name).results}) for line in board.rows), default=0
    )


def _matrix(board: Leaderboard, colours: Mapping[str, str]) -> dict[str, Any]:
    """Return which model keeps which check: one line per check, those that decide first, one column per model."""
    models = [model for model in board.everyone if board.checks[model]]
    found = {model: {(one.row, one.metric): one for one in board.checks[model]} for model in models}
    rows: dict[tuple[str, str], Check] = {}
    for model in models:
        for key, one in found[model].items():
            if one.metric:
                rows.setdefault(key, one)
    places = {line.name: place for place, line in enumerate(board.rows)}
    severities = list(SEVERITY_WORDS)
    ordered = sorted(rows, key=lambda key: (severities.index(rows[key].severity), places[key[0]]))
    return {
        "models": [{"model": model, "colour": colours[model]} for model in models],
        "rows": [
            {
                "row": key[0], "title": rows[key].title, "severity": rows[key].severity,
                "words": SEVERITY_WORDS[rows[key].severity],
                "cells": [_mark(found[model].get(key) or found[model].get((key[0], ""))) for model in models],
            }
            for key in ordered
        ],
    }  # fmt: skip


def _mark(check: Check | None) -> dict[str, str]:
    """Return one check of one model as a sign with the sentence behind it."""
    if check is None:
        return {"state": "none", "sign": "–", "says": "not made: the model or the data have no such quantity"}
    signs = {"passed": "✓", "failed": "✗", "not made": "–"}
    state = {"passed": "passed", "failed": "failed" if check.decides else "remark", "not made": "none"}[check.state]
    return {"state": state, "sign": signs[check.state], "says": check.says}


# --- tables -----------------------------------------------------------------------------------------------------------


def _headline(board: Leaderboard, known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first table: one line per model; checks are summed up in one column."""
    lines = [line for line in board.rows if line.grade != "verification" and line.metrics]
    groups: list[dict[str, Any]] = []
    start = 3
    for line in lines:
        columns = [{"number": start + i, **_column(metric)} for i, metric in enumerate(line.headline)]
        groups.append({
            "line": line, "span": len(columns), "columns": columns, "about": _about_row(line),
            "anchor": _anchor(board, line),
        })  # fmt: skip
        start += len(columns)
    by_model = {one["model"]: one for one in known}
    rows = []
    for model in board.everyone:
        cells: list[dict[str, Any]] = []
        for group in groups:
            cells += _cells(board, group["line"], model, group["columns"])
        place = board.standings.get(model)
        rows.append({
            "model": model, "card": by_model[model], "score": _score(board.scores[model]),
            "place": "mark" if model in board.marks else "" if place is None else place.words,
            "is_mark": model in board.marks, "checks": _checks(board, model), "cells": cells,
        })  # fmt: skip
    return {"groups": groups, "rows": rows, "n_columns": start}


def _column(metric: Metric) -> dict[str, Any]:
    """Return the head of a column."""
    arrow, word = ("↓", "lower is better") if metric.better == "lower" else ("↑", "higher is better")
    scale = f"score 1 at {metric.good:g}, 0 at {metric.bad:g}{' (in decades)' if metric.log_scale else ''}"
    return {"metric": metric, "arrow": arrow, "better": word, "scale": scale}


def _about_row(line: Line) -> str:
    """Say on what a row was measured."""
    parts = [line.dataset, line.row.split if line.row.split != "all" else "", line.level_of_theory]
    return " · ".join(part for part in parts if part)


def _anchor(board: Leaderboard, line: Line) -> str:
    """Return the name of a row's place on the page; row names may hold anything."""
    return f"row-{board.rows.index(line) + 1}"


def _cells(board: Leaderboard, line: Line, model: str, columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one cell per column, or one over all columns that says why there are no numbers."""
    cell = board.cell(model, line.name)
    if not cell.values:
        numbers = " ".join(str(column["number"]) for column in columns)
        return [{**_state(cell), "columns": numbers, "span": len(columns)}]
    out = []
    for column in columns:
        # that one check passes by more decades than another makes nobody better
        ranked = line.grade != "verification"
        best, tied = board.leaders(line, column["metric"].name) if ranked else (None, frozenset())
        mark = "best" if model == best else "tied" if model in tied else ""
        place = board.place(line.name, column["metric"].name, model) if ranked else None
        shown = _shown(line, column["metric"], cell.value(column["metric"].name), model, policy=board.policy)
        if place is not None and shown.get("title"):
            shown["title"] += f", place {place.words}"
        out.append({**shown, "mark": mark, "columns": str(column["number"]), "span": 1})
    return out


def _state(cell: Cell) -> dict[str, Any]:
    """Return a cell without numbers."""
    reason = first_line(cell.reason)
    short = reason if len(reason) <= 60 else reason[:59] + "…"
    return {"state": cell.state, "word": STATE_WORDS[cell.state], "reason": reason, "short": short}


def _shown(
    line: Line, metric: Metric, value: MetricValue | None, model: str, part: str = "", *, policy: Policy
) -> dict[str, Any]:
    """Return one number as it stands in a table; `key` tells its record in the JSON twin."""
    if value is None:
        return {"state": "none", "word": "–", "reason": "not measured: the model or the data have no such quantity"}
    judged = role(line, metric) in ("merit", "check")
    limits = [limit for limit in line.row.limits if limit.metric == metric.name and limit.part == part]
    ends = [number(end) if end is not None else "open" for end in (value.low, value.high)]
    has_interval = value.low is not None or value.high is not None
    rating = metric_score(metric, value, policy=policy)
    title = [
        f"95 % interval {ends[0]} to {ends[1]} {metric.unit}".strip() if has_interval else "no interval can be given",
        f"n = {value.n}", f"score {rating:.2f}" if judged else metric.role,
        "" if value.zero is None else f"a model that knows nothing: {number(value.zero)}",
        f"no answer for {', '.join(value.failed)}" if value.failed else "",
        "the data name no trajectories, so independent blocks of frames were guessed" if _is_guessed(value) else "",
    ]  # fmt: skip
    return {
        "state": "measured", "text": measured(value), "spread": spread(value), "n": value.n,
        "value": f"{value.value:.6g}",
        "tint": "" if part or not judged else f"s{round(10 * rating)}",
        "title": "" if part else ", ".join(text for text in title if text),
        "n_of": n_of(value) or (f"{value.n}, guessed" if _is_guessed(value) else ""),
        "limits": [{"text": _bounds(limit), "past": past_limit(limit, value.value)} for limit in limits],
        "key": (model, line.name, metric.name, part),
    }  # fmt: skip


def _is_guessed(value: MetricValue) -> bool:
    """Were the independent units guessed, as the data name no trajectories?"""
    return value.samples is not None and any(is_guessed(unit) for unit in value.samples.units)


def _bounds(limit: Limit) -> str:
    """Write a limit in the room of a cell."""
    ends = (("≥", limit.at_least), ("≤", limit.at_most))
    return ", ".join(f"{sign} {bound:g}" for sign, bound in ends if bound is not None)


def _checks(board: Leaderboard, model: str) -> dict[str, Any]:
    """Sum up what the model must do."""
    found = board.checks[model]
    failed = [check for check in found if check.state == "failed" and check.decides]
    made = [check for check in found if check.state != "not made"]
    lines = [line for line in board.rows if line.grade == "verification"]
    if not made:
        states = [STATE_WORDS[board.cell(model, line.name).state].lower() for line in lines]
        return {"state": "none", "text": states[0].capitalize() if states else "–", "detail": "", "value": -1}
    remarks = [check for check in found if check.state == "failed" and not check.decides]
    detail = "; ".join(check.says for check in failed or found)
    rest = "".join([
        f", {count(len(remarks), 'remark')}" if remarks else "",
        f", {len(found) - len(made)} not made" if len(found) > len(made) else "",
    ])
    text = f"✗ {len(failed)} of {len(made)} failed" if failed else f"✓ {len(made) - len(remarks)} passed"
    return {
        "state": "failed" if failed else "passed", "text": f"{text}{rest}", "detail": detail, "value": -len(failed)
    }  # fmt: skip


# --- one section per benchmark ----------------------------------------------------------------------------------------


def _benchmarks(board: Leaderboard, views: Views, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one section per benchmark, its rows inside."""
    out = []
    for name in dict.fromkeys(line.row.benchmark for line in board.rows):
        lines = [line for line in board.rows if line.row.benchmark == name]
        best = max(lines, key=lambda line: len(line.metrics))
        out.append({
            "name": name, "about": best, "grade": GRADE_WORDS.get(best.grade, "not run"),
            "columns": [_column(metric) for metric in best.metrics],
            "rows": [_row(board, line, views, colours) for line in lines],
        })  # fmt: skip
    return out


def _row(board: Leaderboard, line: Line, views: Views, colours: Mapping[str, str]) -> dict[str, Any]:
    """Return the tables and figures of one row."""
    there = [model for model in board.everyone if board.cell(model, line.name).values]
    shown: dict[str, Sequence[View]] = {model: views(board.cell(model, line.name).results[0].job_id) for model in there}
    metrics = [m for m in line.metrics if any(board.cell(model, line.name).value(m.name) for model in there)]
    columns = [{"number": i + 1, **_column(metric)} for i, metric in enumerate(metrics)]
    drawn = figures(shown, colours=colours, names={metric.name: metric.title for metric in line.metrics})
    return {
        "line": line, "about": _about_row(line), "columns": columns, "anchor": _anchor(board, line),
        "models": [
            {"model": model, "colour": colours[model], "cells": _cells(board, line, model, columns)}
            for model in board.everyone
        ],
        "parts": _parts(board, line, there), "split_by": _split_by(board, line, there), "figures": drawn,
        "parameters": _parameters(board, line),
    }  # fmt: skip


def _parameters(board: Leaderboard, line: Line) -> str:
    """Say how the row was set, as measured; what is None sets nothing."""
    known = [result for model in board.models for result in board.cell(model, line.name).results]
    given = sorted(known[-1].parameters.items()) if known else []
    return " · ".join(f"{key} {plain(value)}" for key, value in given if value is not None)


def _parts(board: Leaderboard, line: Line, models: Sequence[str]) -> list[dict[str, Any]]:
    """Return one table per metric that was split up: parts down, models across."""
    out = []
    for metric in line.metrics:
        parts = dict.fromkeys(
            value.part for model in models for value in board.cell(model, line.name).values
            if value.metric == metric.name and value.part
        )  # fmt: skip
        if parts:
            rows = [
                {"part": _part(part), "cells": [
                    _shown(
                        line, metric, board.cell(model, line.name).value(metric.name, part), model, part,
                        policy=board.policy,
                    )
                    for model in models
                ]}
                for part in parts
            ]  # fmt: skip
            out.append({"metric": metric, "models": list(models), "rows": rows})
    return out


def _part(part: str) -> str:
    """Write a part such as "config_type=liquid" in words."""
    kind, _, name = part.partition("=")
    return f"{kind.replace('_', ' ')} {name}".strip()


def _split_by(board: Leaderboard, line: Line, models: Sequence[str]) -> str:
    """Say by what the numbers of a row were split up."""
    parts = {value.part for model in models for value in board.cell(model, line.name).values if value.part}
    return listed(sorted({part.partition("=")[0].replace("_", " ") for part in parts}))
