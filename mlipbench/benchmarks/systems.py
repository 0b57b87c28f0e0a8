"""Of which systems does a model give an answer, and why not of the others?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.benchmarks.comparison import Errors, Names, value_of
from mlipbench.benchmarks.frames import FRAMES_PER_CALL, predict, together
from mlipbench.benchmarks.motion import distance
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model, Predictions
from mlipbench.core.view import Axis, Bars
from mlipbench.errors import MissingPackage, MlipbenchError, ModelFailure, NotApplicable
from mlipbench.physics.survival import clopper_pearson

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
    model: Model, groups: Sequence[Sequence[Atoms]], context: Context, *, remark: str
) -> list[Float | MlipbenchError]:
    """Ask for all groups of frames at once and, if that is refused, for each group alone.

    Args:
        model: to ask.
        groups: frames that are of use together only.
        context: to report to.
        remark: likewise.

    Returns:
        For each group its energies in eV, shape (n_frames,), or why there are none: `NotApplicable` where the model
        does not cover an element, and `ModelFailure` where it does and has no answer all the same.
    """
    found: list[Float | MlipbenchError] = [_uncovered(model, group) or np.zeros(0) for group in groups]
    todo = [k for k, one in enumerate(found) if not isinstance(one, MlipbenchError)]
    for asked in (todo, *([k] for k in todo)):
        if not asked:
            continue
        try:
            energy = predict(model, [atoms for k in asked for atoms in groups[k]], context, remark=remark).energy
        except MissingPackage:
            raise
        except (NotApplicable, ModelFailure) as error:
            if len(asked) == 1:
                found[asked[0]] = error
            continue
        sizes = [len(groups[k]) for k in asked]
        for k, part in zip(asked, np.split(energy, np.cumsum(sizes)[:-1]), strict=True):
            found[k] = part
        if asked is todo:
            break
    answered = [atoms for group, one in zip(groups, found, strict=True) if _is_answer(one) for atoms in group]
    if not answered and not any(isinstance(one, ModelFailure) for one in found):
        answered = any_answer(model, [atoms for k in todo for atoms in groups[k]], context)
    return [
        blamed(model, group, one, answered=answered) if isinstance(one, MlipbenchError) else one
        for group, one in zip(groups, found, strict=True)
    ]


def _is_answer(found: Float | MlipbenchError) -> bool:
    return not isinstance(found, MlipbenchError)


def _uncovered(model: Model, frames: Sequence[Atoms]) -> NotApplicable | None:
    """Return the refusal of frames with an element that the model says it does not cover."""
    if model.spec.elements is None:
        return None
    missing = symbols_of(frames) - set(model.spec.elements)
    return NotApplicable(f"the model does not cover {', '.join(sorted(missing))}") if missing else None


def symbols_of(frames: Sequence[Atoms]) -> set[str]:
    """Return the chemical symbols that occur in some frames."""
    return {symbol for atoms in frames for symbol in atoms.symbols}


def blamed(
    model: Model, frames: Sequence[Atoms], error: MlipbenchError, *, answered: Sequence[Atoms]
) -> MlipbenchError:
    """Return why there is no answer; a refusal of elements that the model covers is its failure.

    What a model does not cover is left out, so it must not choose. It covers the elements that it names and those of
    frames that it has answered for. One that has answered for nothing here, such as a force field of other molecules,
    covers nothing here.

    Args:
        model: that had no answer.
        frames: for these.
        error: what came instead.
        answered: frames of the row that it has answered for.
    """
    if not answered or not isinstance(error, NotApplicable) or isinstance(error, MissingPackage):
        return error
    covered = symbols_of(answered) | set(model.spec.elements or ())
    if symbols_of(frames) <= covered:
        return ModelFailure(f"the model covers these elements and refuses: {error}")
    return error


def any_answer(model: Model, frames: Sequence[Atoms], context: Context) -> list[Atoms]:
    """Return the first frame that the model answers for, asked one by one; nothing where there is none."""
    for atoms in frames:
        try:
            predict(model, [atoms], context, remark="one by one")
        except (NotApplicable, ModelFailure):
            continue
        return [atoms]
    return []


def first_blame(errors: Iterable[MlipbenchError]) -> MlipbenchError:
    """Return the error to raise where there is no answer at all: a failure if there is one, else the first refusal."""
    every = list(errors)
    return next((error for error in every if isinstance(error, ModelFailure)), every[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Systems:
    """Which systems was a model asked about, and which of them has it no answer for?

    Attributes:
        names: of all systems in the data, as the units of values are named.
        kinds: configuration type of each.
        covered: names of those with no element that the model lacks.
        failed: names of those that it covers and has no answer for.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    covered: frozenset[str]
    failed: frozenset[str]

    def told(
        self,
        values: Iterable[MetricValue],
        *,
        zero: Mapping[str, float] = MappingProxyType({}),
        only: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> Iterator[MetricValue]:
        """Give values that say which systems are missing in them, and how many there are.

        Args:
            values: of everything, or of parts; a part such as "config_type=water" has the systems of this kind.
            zero: by the name of a metric, what a model that knows nothing gets on all systems that this one covers.
            only: by the name of a metric, the systems that it can be had of; all where it is not named.
        """
        for value in values:
            label, _, kind = value.part.partition("=")
            own = {
                name for name, its in zip(self.names, self.kinds, strict=True)
                if label != "config_type" or its == kind
            }  # fmt: skip
            if value.metric in only:
                own &= set(only[value.metric])
            ignorance = None if value.part else zero.get(value.metric)
            yield replace(value, failed=tuple(sorted(own & self.failed)), n_all=len(own), zero=ignorance)


def share_failed(metric: Metric, asked: Systems) -> MetricValue:
    """Return the share of systems, of those that the model covers, that it has no answer for, in the metric's unit.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26, 404 (1934), for the interval.
    """
    n, n_failed = len(asked.covered), len(asked.failed)
    whole = 100.0 if metric.unit == "%" else 1.0
    low, high = clopper_pearson(n_failed, n)
    return MetricValue(
        metric=metric.name, value=whole * n_failed / n, low=whole * low, high=whole * high, n=n,
        n_all=len(set(asked.names)),
    )  # fmt: skip


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
        is_covered: shape (n_refused,), has it only elements that the model covers?
    """

    kept: Int
    said: Predictions
    refused: Int
    reasons: tuple[str, ...]
    is_covered: Bool


def predict_each(model: Model, frames: Sequence[Atoms], context: Context, *, remark: str) -> Answered:
    """Predict all frames; where the model has no answer, frame by frame, so that one does not lose the others.

    Raises:
        ModelFailure: the model covers a frame, and has no answer for any.
        NotApplicable: it covers none.
    """
    parts: dict[int, Predictions] = {}
    errors: dict[int, MlipbenchError] = {}
    for k, atoms in enumerate(frames):
        error = _uncovered(model, [atoms])
        if error:
            errors[k] = error
    covered = [k for k in range(len(frames)) if k not in errors]
    for start in range(0, len(covered), FRAMES_PER_CALL):
        own = covered[start : start + FRAMES_PER_CALL]
        for asked in (own, *([k] for k in own)):
            try:
                parts[asked[0]] = predict(model, [frames[k] for k in asked], context, remark=remark)
            except MissingPackage:
                raise
            except (ModelFailure, NotApplicable) as error:  # of one of them: asked one by one, the others answer
                if len(asked) == 1:
                    errors[asked[0]] = error
                continue
            if asked is own:
                break
    if not parts:
        raise first_blame(errors.values())
    kept = [k for k in range(len(frames)) if k not in errors]
    answered = [frames[k] for k in kept]
    refused = {k: blamed(model, [frames[k]], errors[k], answered=answered) for k in sorted(errors)}
    return Answered(
        kept=np.array(kept), said=together([parts[k] for k in sorted(parts)]),
        refused=np.array(list(refused), dtype=np.int64),
        reasons=tuple(str(error).splitlines()[0] for error in refused.values()),
        is_covered=np.array([isinstance(error, ModelFailure) for error in refused.values()], dtype=bool),
    )  # fmt: skip
