"""Which finished jobs does a suite's leaderboard show?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TypeAlias

from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.data import manifest
from mlipbench.engine import plan as planning
from mlipbench.store import Store, Stored, consistent

Trained: TypeAlias = Mapping[tuple[str, str], Stored]  # trainings by model and job id


def belonging(store: Store, suite: Suite, tier: Tier, keys: Mapping[str, tuple[str, ...]]) -> list[Stored]:
    """Return the results that answer this suite's rows today, and the trainings of their models.

    A result belongs when its row, benchmark, parameters, data and split are the suite's. Where one model was measured
    in several forms (another recipe, other weights), the form in `keys` counts, else the one measured last; never a
    mixture. Trainings of one recipe with several seeds are one form, and each result says which seed made its model.

    Args:
        store: of finished jobs, perhaps merged from several.
        suite: whose rows are asked for.
        tier: that sets their parameters.
        keys: every `model_key` of a form by model name, as a plan gives them; may be empty.

    Raises:
        BadInput: results of one model and id were answered by different weights.
    """
    wanted, seeds = _wanted(suite, tier), {row.name: row.seeds for row in suite.rows}
    everything = list(store.all())
    rows = [
        one
        for one in everything
        if one.result.kind == "evaluate"
        and _content(one.result) == wanted.get(one.result.row)
        and one.result.provenance.seed in seeds[one.result.row]
    ]
    trained = {(one.result.model, one.result.job_id): one for one in everything if one.result.kind == "train"}
    newest: dict[str, str] = {}
    for one in sorted(rows, key=lambda stored: stored.result.provenance.started):
        newest[one.result.model] = _form(one.result, trained)

    def counts(result: Result) -> bool:
        if result.model in keys:
            return result.model_key in keys[result.model]
        return _form(result, trained) == newest[result.model]

    found = [_with_seed(one, trained) for one in rows if counts(one.result)]
    models = {one.result.model for one in found}
    trainings = [
        _with_seed(one, trained) for one in trained.values() if one.result.model in models and counts(one.result)
    ]
    consistent([one.result for one in (*found, *trainings)])
    return [*trainings, *found]


def _wanted(suite: Suite, tier: Tier) -> dict[str, tuple[str, int, object, str, str]]:
    """Return what a result of each row must have been made of."""
    wanted = {}
    for row in suite.rows:
        if tier in row.tiers:
            made = planning.instance(row, tier, where=f"suite {suite.name}")
            content = asdict(made)  # type: ignore[call-overload]
            wanted[row.name] = (
                made.about.name,
                made.about.observe_version,
                _plain(content),
                manifest.source(row.data).sha256,
                row.split,
            )
    return wanted


def _form(result: Result, trained: Trained) -> str:
    """Return what the trainings of one recipe share; of a model that was not trained here, its key."""
    training = trained.get((result.model, result.model_key))
    return result.training_form or (planning.form(training.result) if training else result.model_key)


def _with_seed(stored: Stored, trained: Trained) -> Stored:
    """Return a result that says which training seed made its model, also where it was stored without."""
    training = trained.get((stored.result.model, stored.result.model_key))
    if training is None or stored.result.training_seed is not None:
        return stored
    return replace(stored, result=replace(stored.result, training_seed=training.result.provenance.seed))


def _content(result: Result) -> tuple[str, int, object, str, str]:
    """Return what must agree with the suite."""
    return result.benchmark, result.observe_version, _plain(result.parameters), result.data_sha256, result.split


def _plain(content: object) -> object:
    """Return values as JSON would give them back, so that tuples equal lists."""
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return content
