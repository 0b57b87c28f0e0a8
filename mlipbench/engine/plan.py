"""Which jobs make this suite for these models, and which of them are done already?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mlipbench.core.benchmark import Benchmark
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import REFERENCE, ModelSpec
from mlipbench.core.result import Broken, Result, Skipped
from mlipbench.core.suite import ModelEntry, Recipe, Row, Suite, Tier
from mlipbench.data import manifest
from mlipbench.data.suites import parameters
from mlipbench.engine.provenance import hardware, is_installed
from mlipbench.errors import BadInput, unknown
from mlipbench.files.hashes import canonical_id
from mlipbench.files.toml import build
from mlipbench.models.entries import recipe_for
from mlipbench.store import Store, Stored

TRAIN_ROW = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One unit of work; plain values only, so that it travels as JSON.

    Attributes:
        id: hash of what decides the outcome.
        kind: "train" or "evaluate".
        row: name of the suite row, or "train".
        model: how to load the model; for a recipe the checkpoint comes from the training job.
        model_key: what tells two models of one name apart.
        data: name or path of the data set.
        data_sha256: of the data set; the worker refuses another one.
        split: of the data set.
        seed: handed to the benchmark or the trainer.
        device: "cpu" or "cuda".
        time_limit_s: killed after that.
        expected_s: rough cost, for the time that is left.
        benchmark: name; empty for a training.
        parameters: of the benchmark.
        alone: does it want an idle machine?
        remember: may the model's answers be taken from an earlier job of the same process?
        after: id of the training job it waits for; empty for none.
        recipe: of a training.
        training_seed: of the training that makes the model; None for a model that is ready.
        training_form: what the trainings of its recipe share; empty for a model that is ready.
        one_of: how many trainings of this recipe there are.
    """

    id: str
    kind: Literal["train", "evaluate"]
    row: str
    model: ModelSpec
    model_key: str
    data: str
    data_sha256: str
    split: str
    seed: int
    device: str
    time_limit_s: float
    expected_s: float
    benchmark: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    remember: bool = True
    after: str = ""
    recipe: Recipe | None = None
    training_seed: int | None = None
    training_form: str = ""
    one_of: int = 1

    @property
    def label(self) -> str:
        """What people call it."""
        which = f", training seed {self.training_seed}" if self.one_of > 1 else ""
        return f"{self.model.name} · {self.row}{which}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All jobs of a run, trainings first.

    Attributes:
        suite: what was asked.
        tier: of the suite.
        jobs: all of them.
        data: the data sets, read and checked once.
        model_keys: the keys of each model by name; several where a recipe is trained with several seeds.
    """

    suite: Suite
    tier: Tier
    jobs: tuple[Job, ...]
    data: Mapping[str, Dataset]
    model_keys: Mapping[str, tuple[str, ...]]


def make(suite: Suite, models: Sequence[ModelEntry], *, tier: Tier, device: str) -> Plan:
    """Expand a suite for some models.

    Raises:
        BadInput: a benchmark, data set, split, metric or parameter does not exist, two models share a name, or a data
            set cannot be used.
    """
    _no_twins(models)
    rows = [(row, instance(row, tier, where=f"suite {suite.name}")) for row in suite.rows if tier in row.tiers]
    needed = {row.data for row, _ in rows} | {m.recipe.data for m in models if m.recipe is not None}
    data = {name: manifest.load(manifest.source(name)) for name in sorted(needed)}
    jobs: list[Job] = []
    keys: dict[str, tuple[str, ...]] = {}
    for entry in models:
        trainings = _trainings(entry, suite.training_seeds, tier, data, device)
        made_by: Sequence[Job | None] = trainings or [None]
        keys[entry.spec.name] = tuple(job.id if job else _identity(entry.spec) for job in made_by)
        jobs += trainings
        jobs += [
            _evaluation(row, made, seed, entry.spec, training, data[row.data], key, device)
            for number, (training, key) in enumerate(zip(made_by, keys[entry.spec.name], strict=True))
            for row, made in rows
            for seed in row.seeds
            if not (_wants_idle_machine(made) and (number or entry.spec.kind == REFERENCE))
        ]
    return Plan(suite=suite, tier=tier, jobs=tuple(jobs), data=data, model_keys=keys)


def _wants_idle_machine(made: Benchmark) -> bool:
    """Is time measured? Trainings of one recipe take the same, and what computes nothing has no speed."""
    return "idle_machine" in made.about.needs


def _trainings(
    entry: ModelEntry, training_seeds: int, tier: Tier, data: Mapping[str, Dataset], device: str
) -> list[Job]:
    """Return a job for each seed that a recipe is trained with, its own first; none for a model that is ready."""
    from mlipbench.training import SEEDLESS

    if entry.recipe is None:
        return []
    recipe = entry.recipe
    count = 1 if recipe.trainer in SEEDLESS else training_seeds
    seeds = range(recipe.seed, recipe.seed + count)
    made = [_training(replace(entry, recipe=replace(recipe, seed=seed)), tier, data, device) for seed in seeds]
    return [replace(job, one_of=count) for job in made]


def instance(row: Row, tier: Tier, *, where: str) -> Benchmark:
    """Make the benchmark a row speaks of.

    Raises:
        BadInput: it does not exist, or has no such parameter or metric.
    """
    from mlipbench.benchmarks import TABLE, benchmark

    place = f"{where}, row '{row.name}'"
    if row.benchmark not in TABLE:
        raise unknown("benchmark", row.benchmark, TABLE, where=place)
    made = benchmark(row.benchmark)
    known = [metric.name for metric in made.about.metrics]
    named = [("limits", limit.metric) for limit in row.limits] + [("demands", name) for name in row.demands]
    for key, name in named:
        if name not in known:
            raise unknown("metric", name, known, where=f"{place}, {key}")
    return build(made, parameters(row, tier), where=f"{place}, parameters")


def _no_twins(models: Sequence[ModelEntry]) -> None:
    names = [entry.spec.name for entry in models]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two models are called '{name}'; give one another name in its TOML file or leave one out.")


def _identity(spec: ModelSpec) -> str:
    """Return the key of a model that is ready."""
    decides = {
        "kind": spec.kind,
        "elements": spec.elements,
        "weights": spec.checkpoint_sha256,
        "identity": spec.identity,
        "options": dict(spec.options),
    }
    return canonical_id(decides)


def _training(entry: ModelEntry, tier: Tier, data: Mapping[str, Dataset], device: str) -> Job:
    """Return the job that trains a recipe."""
    from mlipbench.training import TABLE

    where = f"model {entry.spec.name}"
    if entry.recipe is None:
        raise BadInput(f"{where} has no recipe.")
    recipe = recipe_for(entry.recipe, tier, where=where)
    if recipe.trainer not in TABLE:
        raise unknown("trainer", recipe.trainer, TABLE, where=where)
    labelled = data[recipe.data]
    if not labelled.spec.labelled:
        raise BadInput(f"{where}: data set {labelled.spec.name} has no energies and forces to train on.")
    for split in (recipe.train, recipe.valid):
        labelled.split(split)
    decides = _decides_weights(entry.spec, recipe, labelled.spec.sha256)
    key = canonical_id(decides)
    return Job(
        id=key, kind="train", row=TRAIN_ROW, model=entry.spec, model_key=key, data=recipe.data,
        data_sha256=labelled.spec.sha256, split=recipe.train, seed=recipe.seed, device=device,
        time_limit_s=recipe.time_limit_s, expected_s=recipe.seconds, recipe=recipe, training_seed=recipe.seed,
        training_form=_of_any_seed(decides),
    )  # fmt: skip


def _decides_weights(spec: ModelSpec, recipe: Recipe, data_sha256: str) -> dict[str, Any]:
    """Return all that decides the weights a recipe gives."""
    from mlipbench.training import TABLE

    return {
        "kind": "train", "name": spec.name, "trainer": recipe.trainer,
        "version": TABLE[recipe.trainer][1], "options": dict(recipe.options), "loading": dict(spec.options),
        "data": data_sha256, "train": recipe.train, "valid": recipe.valid, "seed": recipe.seed,
    }  # fmt: skip


def _of_any_seed(decides: Mapping[str, Any]) -> str:
    """Return what the trainings of one recipe share, whatever their seed."""
    return canonical_id({**decides, "seed": "any"})


def form(training: Result) -> str:
    """Return what trainings of one recipe with several seeds share, and those of no other recipe.

    Of records that do not say so it is found from the recipe that they hold. One of an older trainer, or without a
    recipe, shares it with none: its own id.
    """
    from mlipbench.training import TABLE

    kept = training.training
    if training.training_form:
        return training.training_form
    if kept is None or training.spec is None or kept.recipe.get("trainer") not in TABLE:
        return training.job_id
    recipe = build(Recipe, kept.recipe, where=f"training {training.job_id} of {training.model}")
    decides = _decides_weights(training.spec, recipe, training.data_sha256)
    if canonical_id(decides) != training.job_id:
        return training.job_id
    return _of_any_seed(decides)


def _evaluation(
    row: Row, made: Benchmark, seed: int, spec: ModelSpec, training: Job | None, data: Dataset, key: str, device: str
) -> Job:
    """Return the job that measures one row on one model."""
    data.split(row.split)
    about = made.about
    alone = _wants_idle_machine(made)
    expanded = asdict(made)  # type: ignore[call-overload]
    decides = {
        "kind": "evaluate", "row": row.name, "name": spec.name, "benchmark": about.name,
        "parameters": expanded, "observe_version": about.observe_version,
        "data": data.spec.sha256, "split": row.split, "seed": seed, "model": key,
        "hardware": f"{hardware(device)}, {device}" if alone else "",
    }  # fmt: skip
    return Job(
        id=canonical_id(decides), kind="evaluate", row=row.name, model=spec, model_key=key, data=row.data,
        data_sha256=data.spec.sha256, split=row.split, seed=seed, device=device, time_limit_s=row.time_limit_s,
        expected_s=about.seconds, benchmark=about.name, parameters=expanded, alone=alone,
        after=training.id if training else "", training_seed=training.training_seed if training else None,
        training_form=training.training_form if training else "", one_of=training.one_of if training else 1,
    )  # fmt: skip


def finished(job: Job, store: Store) -> Stored | None:
    """Return what is left of a job that need not run again.

    A Broken job runs again, and so does one that was skipped when a package was missing that is there now.
    """
    found = store.find(job.model.name, job.row, job.id)
    if found is None or isinstance(found.result.outcome, Broken):
        return None
    if isinstance(found.result.outcome, Skipped) and is_installed(found.result.outcome.missing_package):
        return None
    return found


def trained_spec(job: Job, training: Stored) -> ModelSpec:
    """Return the spec of a trained model, its checkpoint in the training job's folder."""
    result: Result = training.result
    if result.training is None or result.training.spec.checkpoint is None:
        raise BadInput(f"{training.folder} holds no trained model; remove that folder and run again.")
    spec = result.training.spec
    return replace(spec, name=job.model.name, checkpoint=str(training.folder / str(spec.checkpoint)))
