"""Models that are alike: one recipe, trained on random subsets of its frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mlipbench import benchmarks
from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Model, ModelSpec
from mlipbench.core.result import Measured, Provenance, Result
from mlipbench.core.suite import Recipe, Row, Suite
from mlipbench.data import manifest
from mlipbench.engine.plan import instance
from mlipbench.errors import BadInput
from mlipbench.files.hashes import canonical_id, sha256_of
from mlipbench.models import load
from mlipbench.models.entries import read_model, recipe_for
from mlipbench.training import trainer

DONE = "done"
SPEC = "spec.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Which frames a model is trained on.

    Attributes:
        share: of the recipe's frames; 1 draws as many with replacement (a bootstrap: 63 % of them at least once).
    """

    share: float

    def draw(self, n: int, rng: np.random.Generator) -> list[int]:
        """Return frame numbers."""
        if self.share >= 1.0:
            return [int(k) for k in np.sort(rng.integers(0, n, n))]
        return [int(k) for k in np.sort(rng.permutation(n)[: round(self.share * n)])]


def rows_of(suite: Suite) -> list[Row]:
    """Return the accuracy rows that the gate compares."""
    return [row for row in suite.rows if benchmarks.about(row.benchmark).grade == "validation" and row.weight > 0.0]


def train(name: str, suite: Suite, folder: Path, *, n: int, kept: Kept, report: Callable[[str], None]) -> list[Path]:
    """Train a recipe n times and observe the suite's rows; what is finished is not done again.

    Args:
        name: of the model.
        suite: whose accuracy rows to observe, in tier "quick".
        folder: where each model gets one of its own.
        n: how many.
        kept: which frames.
        report: told after each model.

    Returns:
        The models' folders.
    """
    entry = read_model(name)
    if entry.recipe is None:
        raise BadInput(f"model {name} has no recipe: only what is trained here can be trained again.")
    recipe = recipe_for(entry.recipe, "quick", where=f"model {name}")
    data = manifest.load(manifest.source(recipe.data))
    frames, valid = data.split(recipe.train), data.split(recipe.valid)
    own_folder = folder / _key(name, recipe, suite, kept)
    folders = [own_folder / f"{k:03d}" for k in range(n)]
    for k, own in enumerate(folders):
        if (own / DONE).exists():
            continue
        own.mkdir(parents=True, exist_ok=True)
        chosen = frames.take(kept.draw(len(frames), np.random.default_rng(k)))
        made = trainer(recipe.trainer)(
            chosen, valid, options=recipe.options, seed=k, device="cpu", out=own, progress=no_progress
        )
        file = own / made.checkpoint
        spec = replace(
            entry.spec, kind=made.kind, elements=made.elements, checkpoint=str(file), checkpoint_sha256=sha256_of(file),
            options={**made.options, **entry.spec.options},
        )  # fmt: skip
        (own / SPEC).write_text(json.dumps(asdict(spec)) + "\n", encoding="utf-8")
        _observe(spec, suite, own)
        (own / DONE).touch()
        report(f"{name}, {k + 1} of {n} trained and observed")
    return folders


def _key(name: str, recipe: Recipe, suite: Suite, kept: Kept) -> str:
    """Return what tells these models and what was asked of them from others, so that nothing old is taken for new."""
    asked = [
        (row.name, row.benchmark, benchmarks.about(row.benchmark).observe_version, dict(row.parameters), row.split,
         manifest.source(row.data).sha256)
        for row in rows_of(suite)
    ]  # fmt: skip
    decides = {
        "recipe": asdict(recipe),
        "data": manifest.source(recipe.data).sha256,
        "share": kept.share,
        "rows": asked,
    }
    return f"{name}-{canonical_id(decides)[:12]}"


def trained(folder: Path) -> Model:
    """Return the model of a folder."""
    told = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    elements = None if told["elements"] is None else tuple(told["elements"])
    here = str(folder / Path(told["checkpoint"]).name)  # the folder may have been moved
    return load(ModelSpec(**{**told, "elements": elements, "checkpoint": here}), device="cpu")


def _observe(spec: ModelSpec, suite: Suite, folder: Path) -> None:
    """Ask a model for all rows."""
    model = load(spec, device="cpu")
    context = Context(seed=0, device="cpu", progress=no_progress)
    for row in rows_of(suite):
        data = manifest.load(manifest.source(row.data)).split(row.split)
        seen = instance(row, "quick", where=f"suite {suite.name}").observe(model, data, context)
        np.savez(folder / f"{row.name}.npz", allow_pickle=False, **dict(seen))


def scored(folders: Sequence[Path], suite: Suite) -> list[list[Result]]:
    """Turn what was observed into results, one list of rows for each model."""
    out: list[list[Result]] = [[] for _ in folders]
    for row in rows_of(suite):
        made = instance(row, "quick", where=f"suite {suite.name}")
        data = manifest.load(manifest.source(row.data)).split(row.split)
        for number, folder in enumerate(folders):
            with np.load(folder / f"{row.name}.npz", allow_pickle=False) as seen:
                values = made.score(dict(seen), data)
            whole = tuple(value for value in values if not value.part)
            out[number].append(as_result(row, whole, made.about.metrics, data_sha256=data.spec.sha256))
    return out


def as_result(row: Row, values: Sequence[MetricValue], metrics: tuple[Metric, ...], *, data_sha256: str) -> Result:
    """Return a record that the gate takes for a measured one."""
    about = benchmarks.about(row.benchmark)
    return Result(
        job_id=row.name, kind="evaluate", row=row.name, model="candidate", model_key="candidate",
        benchmark=row.benchmark, title=about.title, grade=about.grade, observe_version=about.observe_version,
        score_version=about.score_version, split=row.split, data_sha256=data_sha256, metrics=metrics,
        outcome=Measured(values=tuple(values)), provenance=NOWHERE,
    )  # fmt: skip


NOWHERE = Provenance(
    started="", seconds=0.0, cpu_seconds=0.0, peak_memory_MB=0.0, host="", hardware="", device="cpu", python="",
    packages={}, mlipbench="", seed=0,
)  # fmt: skip


def values_of(result: Result) -> Mapping[str, MetricValue]:
    """Return the values of a record by the names of their metrics."""
    outcome = result.outcome
    return {value.metric: value for value in outcome.values} if isinstance(outcome, Measured) else {}
