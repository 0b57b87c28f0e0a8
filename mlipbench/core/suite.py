"""What is a suite, and what is a recipe?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mlipbench.core.model import ModelSpec

Tier: TypeAlias = Literal["quick", "standard", "full"]
TIERS: tuple[Tier, ...] = ("quick", "standard", "full")
Policy: TypeAlias = Literal["worst", "exclude", "penalty"]  # of failures; `core.policy` says what each means
POLICIES: tuple[Policy, ...] = ("worst", "exclude", "penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """An absolute bound on a metric that a candidate must keep; the gate reads it.

    Attributes:
        metric: name of the metric.
        part: which part of it; empty for the whole.
        at_most: largest value allowed; None for no upper bound.
        at_least: smallest value allowed; None for no lower bound.
    """

    metric: str
    part: str = ""
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a suite: a benchmark, its data and parameters.

    Attributes:
        name: unique in the suite.
        benchmark: a key of `mlipbench.benchmarks.TABLE`.
        data: name of a data set, or path of a manifest or structure file.
        split: of the data.
        tiers: in which it runs.
        parameters: fields of the benchmark.
        tier_parameters: fields that a tier sets otherwise.
        seeds: one job per seed.
        time_limit_s: the job is killed after that, and the model has failed.
        limits: what the gate demands.
        weight: in the composite score.
        demands: names of checks that must have been made; the gate cannot tell without them.
    """

    name: str
    benchmark: str
    data: str
    split: str = "all"
    tiers: tuple[Tier, ...] = TIERS
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tier_parameters: Mapping[Tier, Mapping[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    time_limit_s: float = 600.0
    limits: tuple[Limit, ...] = ()
    weight: float = 1.0
    demands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Rows that belong together.

    Attributes:
        name: file name without its ending.
        version: moves whenever a row moves.
        about: one paragraph.
        models: what runs when no `--model` is given.
        rows: see `Row`.
        training_seeds: every recipe is trained with so many seeds, counted up from its own, and shown as one model.
        failures: what a system counts that a model covers and gives no answer for: the metric's `bad` value ("worst"),
            nothing ("exclude"), or as the report says ("penalty").
        error_rate: chance that the gate finds an equal model worse in any of the suite's merits.
    """

    name: str
    version: str
    about: str
    rows: tuple[Row, ...]
    models: tuple[str, ...] = ()
    training_seeds: int = 1
    failures: Policy = "worst"
    error_rate: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train a model in the benchmark itself.

    Attributes:
        trainer: a key of `mlipbench.training.TABLE`.
        data: name of a data set, or path.
        train: split to train on.
        valid: split for early stopping and choices, never for scores.
        options: of the trainer.
        tiers: what a tier sets otherwise: "train", "valid" or "options".
        seed: of the training.
        time_limit_s: the training is killed after that.
        seconds: rough cost, for the time that is left.
    """

    trainer: str
    data: str
    train: str
    valid: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tiers: Mapping[Tier, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0
    time_limit_s: float = 7200.0
    seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model one can ask for: ready, or with the recipe that makes it.

    Attributes:
        spec: how to load it; for a recipe the checkpoint is filled in after training.
        recipe: how to train it; None when it is ready.
        about: one sentence for `mlipbench list` and the model card.
    """

    spec: ModelSpec
    recipe: Recipe | None = None
    about: str = ""
