"""Which finished jobs does a suite's leaderboard show?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from mlipbench.core.result import Result
from mlipbench.core.suite import Suite, Tier
from mlipbench.data import manifest
from mlipbench.engine import plan as planning
from mlipbench.store import Store, Stored, consistent


def belonging(store: Store, suite: Suite, tier: Tier, keys: Mapping[str, str]) -> list[Stored]:
    """Return the results that answer this suite's rows today, and the trainings of their models.

    A result belongs when its row, benchmark, parameters, data and split are the suite's. Where one model was measured
    in several forms (another recipe, other weights), the form in `keys` counts, else the one measured last; never a
    mixture.

    Args:
        store: of finished jobs, perhaps merged from several.
        suite: whose rows are asked for.
        tier: that sets their parameters.
        keys: `model_key` by model name, as a plan gives them; may be empty.

    Raises:
        BadInput: results of one model and id were answered by different weights.
    """
    wanted, seeds = {}, {}
    for row in suite.rows:
        if tier in row.tiers:
            seeds[row.name] = row.seeds
            made = planning.instance(row, tier, where=f"suite {suite.name}")
            content = asdict(made)  # type: ignore[call-overload]
            wanted[row.name] = (
                made.about.name,
                made.about.observe_version,
                _plain(content),
                manifest.source(row.data).sha256,
                row.split,
            )
    everything = list(store.all())
    rows = [
        one
        for one in everything
        if one.result.kind == "evaluate"
        and _content(one.result) == wanted.get(one.result.row)
        and one.result.provenance.seed in seeds[one.result.row]
    ]
    newest: dict[str, str] = {}
    for one in sorted(rows, key=lambda stored: stored.result.provenance.started):
        newest[one.result.model] = one.result.model_key
    chosen = {**newest, **keys}
    found = [one for one in rows if one.result.model_key == chosen[one.result.model]]
    models = {one.result.model for one in found}
    trainings = [
        one
        for one in everything
        if one.result.kind == "train" and one.result.model in models and one.result.job_id == chosen[one.result.model]
    ]
    consistent([one.result for one in (*found, *trainings)])
    return [*trainings, *found]


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
