"""Of which systems does a model give an answer, and why not of the others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.benchmarks.comparison import Errors, Names, value_of
from mlipbench.benchmarks.frames import FRAMES_PER_CALL, predict, together
from mlipbench.benchmarks.motion import distance
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, Bars
from mlipbench.errors import MissingPackage, MlipbenchError, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

TEXT_BYTES: Final = 200
N_NAMED: Final = 3
SHOWN_LETTERS: Final = 90

Texts = NDArray[np.uint8]


def reference_of(data: Dataset, name: str) -> Float:
    """Return reference values, one for each frame.

    Raises:
        NotApplicable: the data hold none.
    """
    if name not in data.observables or len(data.observables[name]) != len(data):
        raise NotApplicable(f"data set {data.spec.name} has no '{name}', one value for each of {len(data)} frames")
    return data.observables[name]


def ask_each(
    model: Model,
    groups: Sequence[Sequence[Atoms]],
    context: Context,
    *,
    remark: str,
    forgive_failures: bool = False,
) -> list[Float | MlipbenchError]:
    """Ask for all groups of frames at once and, if that is refused, for each group alone.

    Args:
        model: to ask.
        groups: frames that are of use together only.
        context: to report to.
        remark: likewise.
        forgive_failures: is a group that the model fails on left out too?

    Returns:
        For each group its energies in eV, shape (n_frames,), or why there are none.

    Raises:
        ModelFailure: the model is at fault, and that is not forgiven.
    """
    found: list[Float | MlipbenchError] = [_uncovered(model, group) or np.zeros(0) for group in groups]
    todo = [k for k, one in enumerate(found) if not isinstance(one, MlipbenchError)]
    forgiven = (NotApplicable, ModelFailure) if forgive_failures else (NotApplicable,)
    for asked in (todo, *([k] for k in todo)):
        if not asked:
            continue
        try:
            energy = predict(model, [atoms for k in asked for atoms in groups[k]], context, remark=remark).energy
        except MissingPackage:
            raise
        except forgiven as error:
            if len(asked) == 1:
                found[asked[0]] = error
            continue
        sizes = [len(groups[k]) for k in asked]
        for k, part in zip(asked, np.split(energy, np.cumsum(sizes)[:-1]), strict=True):
            found[k] = part
        if asked is todo:
            break
    return found


def _uncovered(model: Model, frames: Sequence[Atoms]) -> NotApplicable | None:
    """Return the refusal of frames with an element that the model says it does not cover."""
    if model.spec.elements is None:
        return None
    missing = {symbol for atoms in frames for symbol in atoms.symbols} - set(model.spec.elements)
    return NotApplicable(f"the model does not cover {', '.join(sorted(missing))}") if missing else None


def as_numbers(texts: Sequence[str]) -> Texts:
    """Return texts as bytes, shape (n, 200), since an observation holds numbers only; long ones are cut.

    >>> as_texts(as_numbers(["no Fe", ""]))
    ['no Fe', '']
    """
    rows = np.zeros((len(texts), TEXT_BYTES), dtype=np.uint8)
    for row, text in zip(rows, texts, strict=True):
        content = text.encode()[:TEXT_BYTES]
        row[: len(content)] = np.frombuffer(content, dtype=np.uint8)
    return rows


def as_texts(numbers: Texts) -> list[str]:
    """Return the texts that `as_numbers` kept."""
    return [bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in numbers]


def left_out_view(title: str, names: Sequence[str], reasons: Sequence[str], *, n_used: int) -> tuple[Bars, ...]:
    """Return a figure of what was left out and why; nothing when all was used."""
    if not names:
        return ()
    by_reason: dict[str, list[str]] = {}
    for name, reason in zip(names, reasons, strict=True):
        by_reason.setdefault(reason, []).append(name)
    labels, counts = ["used"], [n_used]
    for reason, own in by_reason.items():
        more = ", …" if len(own) > N_NAMED else ""
        shown = reason if len(reason) <= SHOWN_LETTERS else f"{reason[:SHOWN_LETTERS]}…"
        labels.append(f"left out ({', '.join(own[:N_NAMED])}{more}): {shown}")
        counts.append(len(own))
    values = np.array(counts, dtype=np.float64)
    axis = Axis(quantity=title.lower())
    return (Bars(title=title, axis=axis, labels=tuple(labels), values=values, low=values, high=values),)


def signed_mean(metric: Metric, errors: Errors, *, part: str = "") -> MetricValue:
    """Return the mean error with its sign; the value may be negative, so it is for figures only."""
    wrong = errors.predicted - errors.reference
    return value_of(metric, np.column_stack([wrong, np.ones(len(wrong))]), errors.units, "mean", part=part)


def signed_means(metric: Metric, errors: Errors, *, names: Names) -> list[MetricValue]:
    """Return the signed mean of each group of items, by their names."""
    return [signed_mean(metric, errors.only(names == name), part=f"group={name}") for name in np.unique(names).tolist()]


def size_of_mean(metric: Metric, errors: Errors, *, part: str = "") -> MetricValue:
    """Return the size of the mean error, with an interval that may reach zero."""
    signed = signed_mean(metric, errors, part=part)
    if signed.stderr is None:
        return MetricValue(metric=metric.name, part=part, value=abs(signed.value), n=signed.n)
    return replace(distance(metric, signed.value, signed.stderr, n=signed.n), part=part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a model said of the frames that it could answer for.

    Attributes:
        kept: shape (n_kept,), numbers of these frames, ascending.
        said: of these frames.
        refused: shape (n_refused,), numbers of the others.
        reasons: one for each of them.
    """

    kept: Int
    said: Predictions
    refused: Int
    reasons: tuple[str, ...]


def predict_each(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Answered:
    """Predict all frames; where the model fails, frame by frame, so that one failure does not lose the others.

    Raises:
        ModelFailure: the model fails for every frame.
        NotApplicable: a frame holds what the model does not cover.
    """
    kept: list[int] = []
    parts, refused, reasons = [], [], []
    failures: list[ModelFailure] = []
    for start in range(0, len(frames), FRAMES_PER_CALL):
        own = range(start, min(start + FRAMES_PER_CALL, len(frames)))
        try:
            parts.append(predict(model, [frames[k] for k in own], context, remark=remark))
            kept += own
            continue
        except ModelFailure:  # of one of them: asked one by one, the others answer
            pass
        for number in own:
            try:
                parts.append(predict(model, [frames[number]], context, remark=remark))
                kept.append(number)
            except ModelFailure as failure:
                failures.append(failure)
                refused.append(number)
                reasons.append(str(failure).splitlines()[0])
    if not kept:
        raise failures[0]
    return Answered(
        kept=np.array(kept), said=together(parts), refused=np.array(refused, dtype=np.int64), reasons=tuple(reasons)
    )
