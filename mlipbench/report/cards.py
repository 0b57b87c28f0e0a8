"""What is known of each model, and of what made the page?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mlipbench.core.model import ModelSpec
from mlipbench.core.result import Measured, Provenance, Result
from mlipbench.core.suite import ModelEntry, Tier
from mlipbench.report.board import STATE_WORDS
from mlipbench.report.figures import history_figure
from mlipbench.report.panels import Figure
from mlipbench.report.scores import first_line
from mlipbench.report.table import Leaderboard
from mlipbench.report.words import duration, number, plain


def card(board: Leaderboard, model: str, entry: ModelEntry | None, colour: str) -> dict[str, Any]:
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
        "measured_facts": [] if training is None else [(key, plain(value)) for key, value in training.facts.items()],
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
    return rows + [(f"Data {key.replace('_', ' ')}", plain(value)) for key, value in rest.items()]


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


def provenance(board: Leaderboard, tier: Tier | None) -> dict[str, Any]:
    """Return what made the whole page, and how to make it again."""
    jobs = [result for cell in board.board.cells.values() for result in cell.results]
    made = [result.provenance for result in [*jobs, *board.board.trainings.values()]]
    packages: dict[str, list[str]] = {}
    for one in made:
        for name, version in one.packages.items():
            packages.setdefault(name, []).append(version)
    models = [word for model in board.models for word in ("--model", model)]
    command = ["mlipbench", "run", board.suite.name, *models, *(["--tier", tier] if tier else [])]
    days = sorted(one.started[:10] for one in made)
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
