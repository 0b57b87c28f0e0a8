"""Who is next: no worker waits for what another one is making."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mlipbench.engine.schedule import Standing, _by_model


def job(model: str, row: str, *, kind: str = "evaluate", alone: bool = False) -> Any:
    return SimpleNamespace(model=SimpleNamespace(name=model), row=row, kind=kind, alone=alone)


def test_rows_of_a_model_that_is_not_running_come_first() -> None:
    jobs = [job("a", "density"), job("a", "rdf"), job("b", "density"), job("c", "train", kind="train")]
    busy = job("a", "stability")
    standing = Standing(jobs=(*jobs, busy), waiting=list(jobs), running={"x": (busy, None)})
    assert [(one.model.name, one.row) for one in _by_model(standing)] == [
        ("c", "train"), ("b", "density"), ("a", "density"), ("a", "rdf"),
    ]  # fmt: skip
    standing.running = {}
    assert [one.row for one in _by_model(standing)] == ["train", "density", "rdf", "density"]


def test_what_wants_an_idle_machine_stays_last() -> None:
    jobs = [job("b", "speed", alone=True), job("a", "density")]
    busy = job("a", "stability")
    standing = Standing(jobs=tuple(jobs), waiting=list(jobs), running={"x": (busy, None)})
    assert [one.row for one in _by_model(standing)] == ["density", "speed"]
