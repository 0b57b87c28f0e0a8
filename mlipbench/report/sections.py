"""What stands on the page?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mlipbench.core.metric import Metric, MetricValue, score
from mlipbench.core.model import ModelSpec
from mlipbench.core.result import Measured, Provenance, Result
from mlipbench.core.suite import Limit, ModelEntry, Tier
from mlipbench.core.view import View
from mlipbench.report import verdicts
from mlipbench.report.board import STATE_WORDS, Cell, Line, State
from mlipbench.report.figures import figures, history_figure
from mlipbench.report.panels import Figure, colour_of
from mlipbench.report.scores import METHOD, Composite, first_line, past_limit
from mlipbench.report.table import Leaderboard
from mlipbench.report.words import count, duration, listed, measured, number, spread

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
    colours = colour_of(board.models)
    cards = [_card(board, model, entries.get(model), colours[model]) for model in board.models]
    benchmarks = _benchmarks(board, views, colours)
    figures_there = any(row["figures"] for benchmark in benchmarks for row in benchmark["rows"])
    return {
        "suite": board.suite,
        "tier": tier,
        "summary": _summary(board),
        "verdicts": [_verdict(board, model, colours[model]) for model in board.models],
        "alerts": _alerts(board, {card["model"]: card["level_of_theory"] for card in cards}),
        "headline": _headline(board, cards),
        "benchmarks": benchmarks,
        "cards": cards,
        "reasons": [
            {"model": model, "row": row, "state": state, "word": STATE_WORDS[state], "reason": first, "rest": rest}
            for model, row, state, first, rest in verdicts.reasons(board)
        ],
        "provenance": _provenance(board, tier),
        "method": METHOD,
        "has_figures": figures_there or any(card["history"].panels for card in cards),
    }


def _summary(board: Leaderboard) -> str:
    """Count what there is."""
    states: list[State] = [cell.state for cell in board.board.cells.values()]
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
        for check in board.checks[model]:
            if not check.passed:
                out.append({"kind": "bad", "head": "Check failed", "text": f"{model}, {check.row}: {check.says}."})
    out += [{"kind": "warn", "head": "Not comparable", "text": text} for text in verdicts.incomparable(board)]
    theory = verdicts.other_theory(board, levels).values()
    return out + [{"kind": "warn", "head": "Other level of theory", "text": text} for text in theory]


# --- tables -----------------------------------------------------------------------------------------------------------


def _headline(board: Leaderboard, cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
    by_model = {card["model"]: card for card in cards}
    rows = []
    for model in board.models:
        cells: list[dict[str, Any]] = []
        for group in groups:
            cells += _cells(board, group["line"], model, group["columns"])
        rows.append({
            "model": model, "card": by_model[model], "score": _score(board.scores[model]),
            "checks": _checks(board, model), "cells": cells,
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
        shown = _shown(line, column["metric"], cell.value(column["metric"].name), model)
        out.append({**shown, "mark": mark, "columns": str(column["number"]), "span": 1})
    return out


def _state(cell: Cell) -> dict[str, Any]:
    """Return a cell without numbers."""
    reason = first_line(cell.reason)
    short = reason if len(reason) <= 60 else reason[:59] + "…"
    return {"state": cell.state, "word": STATE_WORDS[cell.state], "reason": reason, "short": short}


def _shown(line: Line, metric: Metric, value: MetricValue | None, model: str, part: str = "") -> dict[str, Any]:
    """Return one number as it stands in a table; `key` tells its record in the JSON twin."""
    if value is None:
        return {"state": "none", "word": "–", "reason": "not measured: the model or the data have no such quantity"}
    limits = [limit for limit in line.row.limits if limit.metric == metric.name and limit.part == part]
    interval = "" if value.low is None or value.high is None else f"{number(value.low)} to {number(value.high)}"
    title = [
        f"95 % interval {interval} {metric.unit}".strip() if interval else "no interval: a single independent unit",
        f"n = {value.n}", f"score {score(metric, value.value):.2f}",
    ]  # fmt: skip
    return {
        "state": "measured", "text": measured(value), "spread": spread(value), "n": value.n, "value": f"{value.value:.6g}",
        "tint": "" if part else f"s{round(10 * score(metric, value.value))}", "title": "" if part else ", ".join(title),
        "limits": [{"text": _bounds(limit), "past": past_limit(limit, value.value)} for limit in limits],
        "key": (model, line.name, metric.name, part),
    }  # fmt: skip


def _bounds(limit: Limit) -> str:
    """Write a limit in the room of a cell."""
    ends = (("≥", limit.at_least), ("≤", limit.at_most))
    return ", ".join(f"{sign} {bound:g}" for sign, bound in ends if bound is not None)


def _checks(board: Leaderboard, model: str) -> dict[str, Any]:
    """Sum up what the model must do."""
    found = board.checks[model]
    failed = [check for check in found if not check.passed]
    lines = [line for line in board.rows if line.grade == "verification"]
    if not found:
        states = [STATE_WORDS[board.cell(model, line.name).state].lower() for line in lines]
        return {"state": "none", "text": states[0].capitalize() if states else "–", "detail": "", "value": -1}
    detail = "; ".join(check.says for check in failed or found)
    text = f"✗ {len(failed)} of {len(found)} failed" if failed else f"✓ {len(found)} passed"
    return {"state": "failed" if failed else "passed", "text": text, "detail": detail, "value": -len(failed)}


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
    there = [model for model in board.models if board.cell(model, line.name).values]
    shown: dict[str, Sequence[View]] = {model: views(board.cell(model, line.name).results[0].job_id) for model in there}
    metrics = [m for m in line.metrics if any(board.cell(model, line.name).value(m.name) for model in there)]
    columns = [{"number": i + 1, **_column(metric)} for i, metric in enumerate(metrics)]
    drawn = figures(shown, colours=colours, names={metric.name: metric.title for metric in line.metrics})
    return {
        "line": line, "about": _about_row(line), "columns": columns, "anchor": _anchor(board, line),
        "models": [
            {"model": model, "colour": colours[model], "cells": _cells(board, line, model, columns)}
            for model in board.models
        ],
        "parts": _parts(board, line, there), "split_by": _split_by(board, line, there), "figures": drawn,
        "parameters": _parameters(board, line),
    }  # fmt: skip


def _parameters(board: Leaderboard, line: Line) -> str:
    """Say how the row was set, as measured; what is None sets nothing."""
    known = [result for model in board.models for result in board.cell(model, line.name).results]
    given = sorted(known[-1].parameters.items()) if known else []
    return " · ".join(f"{key} {_plain(value)}" for key, value in given if value is not None)


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
                    _shown(line, metric, board.cell(model, line.name).value(metric.name, part), model, part)
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


# --- model cards and provenance ---------------------------------------------------------------------------------------


def _card(board: Leaderboard, model: str, entry: ModelEntry | None, colour: str) -> dict[str, Any]:
    """Return what is known of a model."""
    job = board.board.trainings.get(model)
    training = None if job is None else job.training
    spec = training.spec if training is not None else None if entry is None else entry.spec
    results = [result for line in board.rows for result in board.cell(model, line.name).results]
    facts = _identity(spec, results)
    if training is not None:
        facts += _trained_on(training.data)
    history = Figure(title="", caption="", panels=())
    if training is not None and training.history:
        history = history_figure("Training history", training.history)
    return {
        "model": model, "colour": colour, "about": "" if entry is None else entry.about,
        "level_of_theory": "" if spec is None else spec.level_of_theory,
        "facts": facts,
        "measured_facts": [] if training is None else [(key, _plain(value)) for key, value in training.facts.items()],
        "recipe": "" if training is None else json.dumps(training.recipe, indent=2, ensure_ascii=False, default=str),
        "options": json.dumps(dict(spec.options), indent=2, default=str) if spec is not None and spec.options else "",
        "notes": [] if training is None else list(training.notes),
        "cost": _training_cost(job),
        "history": history,
        "made": _made(job.provenance if job is not None else results[-1].provenance if results else None),
    }  # fmt: skip


def _identity(spec: ModelSpec | None, results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return what tells this model from others."""
    sha256 = next((result.checkpoint_sha256 for result in results if result.checkpoint_sha256), "")
    if spec is not None and spec.checkpoint_sha256:
        sha256 = sha256 or spec.checkpoint_sha256
    rows = [
        ("Kind", "" if spec is None else spec.kind),
        ("Level of theory", "" if spec is None else spec.level_of_theory),
        ("Elements", "" if spec is None or spec.elements is None else " ".join(spec.elements)),
        ("Checkpoint sha256", sha256),
        ("Identity", "" if spec is None else spec.identity),
        ("Key", results[-1].model_key if results else ""),
    ]
    return [(key, text) for key, text in rows if text]


def _trained_on(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the data of a training; name and version in one."""
    rest = {key: value for key, value in data.items() if key not in ("name", "version")}
    name = "@".join(str(data[key]) for key in ("name", "version") if key in data)
    rows = [("Trained on", name)] if name else []
    return rows + [(f"Data {key.replace('_', ' ')}", _plain(value)) for key, value in rest.items()]


def _plain(value: Any) -> str:
    """Write a fact: numbers short, lists and mappings on one line."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value)
    return str(value)


def _training_cost(job: Result | None) -> dict[str, Any]:
    """Return wall and processor time of a training; `value` sorts the column."""
    if job is None:
        return {"text": "–", "detail": "not trained here", "value": None}
    if not isinstance(job.outcome, Measured):
        return {"text": STATE_WORDS[job.outcome.outcome], "detail": first_line(job.outcome.reason), "value": None}
    made = job.provenance
    return {
        "text": duration(made.seconds), "detail": f"processor {duration(made.cpu_seconds)}, {made.hardware}",
        "value": made.seconds,
    }  # fmt: skip


def _made(provenance: Provenance | None) -> list[tuple[str, str]]:
    """Return when and where a job ran."""
    if provenance is None:
        return []
    return [
        ("Ran", f"{provenance.started}, {duration(provenance.seconds)} ({duration(provenance.cpu_seconds)} processor)"),
        ("Hardware", f"{provenance.hardware}, {provenance.device}"),
        ("Peak memory", f"{number(provenance.peak_memory_MB)} MB"),
        ("Seed", str(provenance.seed)),
        ("Versions", _versions(provenance.packages)),
    ]


def _versions(packages: Mapping[str, str]) -> str:
    """Write package versions on one line."""
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))


def _provenance(board: Leaderboard, tier: Tier | None) -> dict[str, Any]:
    """Return what made the whole page, and how to make it again."""
    jobs = [result for cell in board.board.cells.values() for result in cell.results]
    made = [result.provenance for result in [*jobs, *board.board.trainings.values()]]
    packages: dict[str, list[str]] = {}
    for provenance in made:
        for name, version in provenance.packages.items():
            packages.setdefault(name, []).append(version)
    models = [word for model in board.models for word in ("--model", model)]
    command = ["mlipbench", "run", board.suite.name, *models, *(["--tier", tier] if tier else [])]
    days = sorted(provenance.started[:10] for provenance in made)
    return {
        "rows": [
            ("mlipbench", ", ".join(sorted({p.mlipbench for p in made}))),
            ("Python", ", ".join(sorted({p.python for p in made}))),
            ("Packages", ", ".join(f"{k} {' / '.join(sorted(set(v)))}" for k, v in sorted(packages.items()))),
            ("Hardware", "; ".join(sorted({f"{p.hardware} ({p.device})" for p in made}))),
            ("Measured", f"{days[0]} to {days[-1]}" if days else ""),
            ("Data", "; ".join(sorted({f"{r.dataset} sha256 {r.data_sha256[:16]}…" for r in jobs if r.dataset}))),
            ("Superseded results left out", str(board.board.superseded) if board.board.superseded else ""),
        ],
        "commands": [shlex.join(command), shlex.join(["mlipbench", "report", board.suite.name])],
    }  # fmt: skip
