"""Are several trainings of one recipe one model, each measured, and none of them twice?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import recipe

from mlipbench import training
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import ModelSpec, Trained
from mlipbench.core.result import Measured, Result
from mlipbench.core.suite import ModelEntry, Recipe, Suite
from mlipbench.data import manifest
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine import schedule
from mlipbench.engine.executors import executor
from mlipbench.engine.messages import Ended, Event
from mlipbench.engine.run import perform
from mlipbench.engine.select import belonging
from mlipbench.errors import ModelFailure
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.store import Store

SPEED = """
[[rows]]
name = "speed"
benchmark = "speed"
data = "{data}"
split = "test"
"""


def suite_of(path: Path, *, seeds: int) -> Suite:
    return replace(read_suite(str(path)), training_seeds=seeds)


def plan_of(suite: Suite, entry: ModelEntry) -> planning.Plan:
    return planning.make(suite, [entry], tier="quick", device="cpu")


def mace(data: Path, *, seed: int = 0) -> ModelEntry:
    made = Recipe(trainer="mace", data=str(data / "dataset.toml"), train="train", valid="test", seed=seed)
    return ModelEntry(spec=ModelSpec(name="m", kind="mace"), recipe=made)


def test_a_job_for_each_seed_and_the_first_is_what_it_was_alone(tiny: Path, tiny_suite: Path) -> None:
    with tiny_suite.open("a", encoding="utf-8") as file:
        file.write(SPEED.format(data=tiny / "dataset.toml"))
    one, three = (plan_of(suite_of(tiny_suite, seeds=n), mace(tiny)) for n in (1, 3))
    assert {job.id for job in one.jobs} <= {job.id for job in three.jobs}, "what is stored stays valid"
    trainings = [job for job in three.jobs if job.kind == "train"]
    assert [(job.seed, job.training_seed) for job in trainings] == [(0, 0), (1, 1), (2, 2)]
    assert three.model_keys == {"m": tuple(job.id for job in trainings)}
    assert one.model_keys == {"m": (trainings[0].id,)}
    assert len({job.id for job in three.jobs}) == len(three.jobs) == 3 + 3 * 2 + 1
    timed = [job for job in three.jobs if job.row == "speed"]
    assert [job.training_seed for job in timed] == [0], "trainings of one recipe take the same time"
    for job in three.jobs:
        if job.kind == "evaluate":
            assert job.after == job.model_key == three.model_keys["m"][job.training_seed or 0]
    assert len({job.training_form for job in three.jobs}) == 1
    assert len({job.label for job in three.jobs}) == len(three.jobs), "people can tell them apart"
    assert one.jobs[0].label == "m · train"


def test_seeds_are_counted_up_from_the_recipe_s_own(tiny: Path, tiny_suite: Path) -> None:
    plan = plan_of(suite_of(tiny_suite, seeds=2), mace(tiny, seed=7))
    assert [job.seed for job in plan.jobs if job.kind == "train"] == [7, 8]


def test_a_trainer_to_which_the_seed_means_nothing_trains_once(tiny: Path, tiny_suite: Path, tmp_path: Path) -> None:
    plan = plan_of(suite_of(tiny_suite, seeds=3), read_model(recipe(tiny, tmp_path)))
    assert [job.seed for job in plan.jobs if job.kind == "train"] == [0]
    assert set(training.SEEDLESS) <= set(training.TABLE)


def test_the_seed_of_a_linear_fit_changes_no_answer(tiny: Path, tmp_path: Path) -> None:
    data, options = manifest.load(manifest.source(str(tiny / "dataset.toml"))), {"cutoff_A": 3.0, "l_max": 1}
    said = []
    for seed in (0, 1):
        where: dict[str, Any] = {"device": "cpu", "out": tmp_path / str(seed), "progress": lambda *_: None}
        made = training.trainer("ace")(data.split("train"), data.split("test"), options=options, seed=seed, **where)
        spec = ModelSpec(name="a", kind="ace", checkpoint=str(tmp_path / str(seed) / made.checkpoint))
        said.append(load(spec, device="cpu").predict(data.frames))
    for name in ("energy", "forces", "stress"):
        np.testing.assert_array_equal(getattr(said[0], name), getattr(said[1], name))


def test_a_model_that_is_ready_has_no_seeds(tiny_suite: Path) -> None:
    plan = plan_of(suite_of(tiny_suite, seeds=3), read_model("mlipbench.models.toy:Springs"))
    assert len(plan.jobs) == 2
    assert {(job.training_seed, job.training_form) for job in plan.jobs} == {(None, "")}


def run(suite: Suite, entry: ModelEntry, store: Store) -> planning.Plan:
    plan = plan_of(suite, entry)
    with store.lock(), executor("serial", store, workers=1) as place:
        schedule.run(plan, store, place, lambda *_: None, fresh=False)
    return plan


def shown(store: Store, suite: Suite, keys: dict[str, tuple[str, ...]] | None = None) -> list[Result]:
    return [one.result for one in belonging(store, suite, "quick", keys or {})]


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small linear ACE train with every seed, as a network would."""
    monkeypatch.setattr(training, "SEEDLESS", {})


@pytest.mark.usefixtures("seeded")
def test_all_seeds_of_the_newest_recipe_belong_and_say_which_they_are(
    tiny: Path, tiny_suite: Path, tmp_path: Path
) -> None:
    store, model = Store(tmp_path / "store"), recipe(tiny, tmp_path)
    old = read_model(model)
    run(suite_of(tiny_suite, seeds=2), old, store)
    changed = replace(old, recipe=replace(old.recipe, options={**old.recipe.options, "l_max": 0}))  # type: ignore[union-attr,type-var]
    run(suite_of(tiny_suite, seeds=1), changed, store)
    suite = suite_of(tiny_suite, seeds=3)
    plan = run(suite, changed, store)
    for keys in ({}, dict(plan.model_keys)):
        found = shown(store, suite, keys)
        assert {result.model for result in found} == {"tiny-ace"}
        assert {result.model_key for result in found} == set(plan.model_keys["tiny-ace"])
        assert sorted((r.row, r.training_seed) for r in found) == [
            (row, seed) for row in ("errors", "rigid", "train") for seed in (0, 1, 2)
        ]
        assert all(isinstance(result.outcome, Measured) for result in found)
    assert {r.training_seed for r in shown(store, suite, {"tiny-ace": plan.model_keys["tiny-ace"][:1]})} == {0}


@pytest.mark.usefixtures("seeded")
def test_records_from_before_seeds_join_the_others(tiny: Path, tiny_suite: Path, tmp_path: Path) -> None:
    store, entry = Store(tmp_path / "store"), read_model(recipe(tiny, tmp_path))
    run(suite_of(tiny_suite, seeds=1), entry, store)
    for one in list(store.all()):
        path = one.folder / "result.json"
        text = path.read_text(encoding="utf-8").replace(f'"{one.result.training_form}"', '""')
        path.write_text(text.replace('"training_seed": 0', '"training_seed": null'), encoding="utf-8")
    assert {(one.result.training_seed, one.result.training_form) for one in store.all()} == {(None, "")}
    suite = suite_of(tiny_suite, seeds=2)
    run(suite, entry, store)
    assert sorted(r.training_seed for r in shown(store, suite) if r.row == "errors") == [0, 1]  # type: ignore[type-var]


class Here:
    """An executor in this very process, where a test can stand in for a trainer."""

    slots = 1

    def __init__(self, store: Store) -> None:
        self.store, self.events = store, list[Event]()

    def submit(self, job: planning.Job) -> None:
        perform(job, self.store, lambda *_: None)
        self.events.append(Ended(job_id=job.id))

    def next_event(self) -> Event:
        return self.events.pop()


@pytest.mark.usefixtures("seeded")
def test_a_seed_that_could_not_be_trained_is_not_forgotten(
    tiny: Path, tiny_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = training.trainer("ace")

    def train(*splits: Dataset, seed: int, **rest: Any) -> Trained:
        if seed == 0:
            raise ModelFailure("it diverged")
        return usual(*splits, seed=seed, **rest)

    monkeypatch.setattr(training, "trainer", lambda _: train)
    store, suite = Store(tmp_path / "store"), suite_of(tiny_suite, seeds=2)
    plan = plan_of(suite, read_model(recipe(tiny, tmp_path)))
    schedule.run(plan, store, Here(store), lambda *_: None, fresh=False)
    ends = {("errors", 0): "failed", ("errors", 1): "measured", ("train", 0): "failed", ("train", 1): "measured"}
    for keys in ({}, dict(plan.model_keys)):
        found = {(r.row, r.training_seed): r.outcome.outcome for r in shown(store, suite, keys)}
        assert {place: found.get(place) for place in ends} == ends
