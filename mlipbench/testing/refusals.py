"""Is it never better for a model to refuse than to be wrong?

A model that answers is asked again with some of its answers taken away: by the question, by the frame of the data, or
by the composition. Each is refused in one of the ways there are: the model fails, gives a number that is not finite, or
says that it does not cover elements which it named before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from mlipbench.core.benchmark import Benchmark, Context, expected, no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import AtomEnergies, Float, Model, ModelSpec, Predictions, SiteEnergies, SiteFeatures
from mlipbench.core.policy import metric_score, row_score
from mlipbench.errors import ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

Way: TypeAlias = Literal["failure", "not finite", "refusal"]
WAYS: Final[tuple[Way, ...]] = ("failure", "not finite", "refusal")
ROUND_OFF: Final = 1e-6  # of a score: other batches give other last digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Without:
    """Which answers are taken away, and how.

    Attributes:
        by: "question", every one for itself; "frame", of the data as they stand; or "composition".
        share: of them.
        way: how the model refuses.
        seed: which ones.
    """

    by: Literal["question", "frame", "composition"]
    share: float
    way: Way
    seed: int

    def __str__(self) -> str:
        """Say so."""
        return f"{self.share:.0%} by {self.by}, {self.way} (seed {self.seed})"

    def chosen(self, data: Dataset) -> Callable[[Atoms], bool]:
        """Return what tells whether a frame is refused."""
        frames = {_digest(atoms, "frame") for atoms in data.frames}

        def is_refused(atoms: Atoms) -> bool:
            if self.by == "frame" and _digest(atoms, "frame") not in frames:
                return False
            drawn = hashlib.sha256(_digest(atoms, self.by) + str(self.seed).encode()).digest()
            return int.from_bytes(drawn[:4], "big") < self.share * 2**32

        return is_refused


def _digest(atoms: Atoms, by: str) -> bytes:
    """Return what a frame is known by, the same for the same structure in another batch."""
    if by == "composition":
        return str(atoms.get_chemical_formula()).encode()
    parts = (atoms.numbers, atoms.positions.round(6) + 0.0, atoms.cell.array.round(6) + 0.0)
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


class Refusing:
    """A model that names the elements of some data as its own, and refuses some questions all the same."""

    def __init__(self, model: Model, data: Dataset, without: Without) -> None:
        """Wrap a model that answers everything."""
        self.model, self.without = model, without
        self._is_refused = without.chosen(data)
        symbols = sorted({symbol for atoms in data.frames for symbol in atoms.symbols})
        self._elements = model.spec.elements or tuple(symbols)

    @property
    def spec(self) -> ModelSpec:
        """That of the model, with elements."""
        return replace(self.model.spec, elements=self._elements, name=f"{self.model.spec.name} without {self.without}")

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict, or refuse.

        Raises:
            ModelFailure: a frame is among those that it fails on.
            NotApplicable: it is among those that it refuses.
        """
        refused = self._checked(frames)
        said = self.model.predict(frames)
        return replace(said, energy=np.where(refused, np.nan, said.energy)) if refused.any() else said

    def _checked(self, frames: Sequence[Atoms]) -> Float:
        """Return which frames are refused, shape (n_frames,), unless that is said by an exception."""
        refused = np.array([self._is_refused(atoms) for atoms in frames], dtype=bool)
        if refused.any() and self.without.way == "failure":
            raise ModelFailure("a calculation did not converge")
        if refused.any() and self.without.way == "refusal":
            raise NotApplicable("the model would rather not")
        return refused

    def calculator(self) -> Calculator:
        """Return a calculator that refuses the same."""
        from ase.calculators.calculator import Calculator, all_changes

        asked = self.predict

        class Asking(Calculator):  # type: ignore[misc]  # ASE is not typed
            implemented_properties = ("energy", "forces", "stress")

            def calculate(self, atoms: Any = None, properties: Any = None, changes: Any = all_changes) -> None:
                Calculator.calculate(self, atoms, properties, changes)
                said = asked([self.atoms])
                self.results = {"energy": float(said.energy[0]), "forces": said.forces}
                if said.has_stress[0]:
                    self.results["stress"] = said.stress[0][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]

        return Asking()


class _OfSites:
    """The other things that a model may answer."""

    model: Any
    _checked: Callable[[Sequence[Atoms]], Float]

    def _ask(self, call: Callable[[Sequence[Atoms]], Float], frames: Sequence[Atoms]) -> Float:
        if self._checked(frames).any():
            raise ModelFailure("a number is not finite")
        return call(frames)


class _SiteEnergies(_OfSites):
    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        return self._ask(self.model.site_energies, frames)


class _SiteFeatures(_OfSites):
    def site_features(self, frames: Sequence[Atoms]) -> Float:
        return self._ask(self.model.site_features, frames)


class _AtomEnergies(_OfSites):
    def atom_energies(self) -> Any:
        return self.model.atom_energies()


def refusing(model: Model, data: Dataset, without: Without) -> Refusing:
    """Return a model that answers what the model does, without some of it."""
    kinds: tuple[tuple[type, type], ...] = (
        (SiteEnergies, _SiteEnergies), (SiteFeatures, _SiteFeatures), (AtomEnergies, _AtomEnergies),
    )  # fmt: skip
    able = tuple(wrapper for protocol, wrapper in kinds if isinstance(model, protocol))
    made: Refusing = type("Refusing", (*able, Refusing), {})(model, data, without)
    return made


def refusals(n: int, *, seed: int = 0) -> Iterator[Without]:
    """Give ways of taking answers away, from few to many, and in all the ways there are."""
    kinds: tuple[tuple[Literal["question", "frame", "composition"], float], ...] = (
        ("frame", 0.1), ("question", 0.02), ("composition", 0.3),
        ("frame", 0.5), ("question", 0.2), ("composition", 0.6),
    )  # fmt: skip
    for k in range(n):
        by, share = kinds[k % len(kinds)]
        yield Without(by=by, share=share, way=WAYS[(k + k // len(WAYS)) % len(WAYS)], seed=seed + k)


def check_refusals(
    benchmark: Benchmark, model: Model, data: Dataset, context: Context | None = None, *, tries: Iterable[Without] = ()
) -> tuple[float | None, list[float]]:
    """Check that taking answers away never raises a row's score, never passes a check and never skips the row.

    A model that refuses all frames of the data may be skipped: it covers something else.

    Args:
        benchmark: with small parameters.
        model: that answers everything, and is better wrong.
        data: that the benchmark applies to.
        context: seed and device; None for seed 0 on the CPU.
        tries: what to take away, one after the other; empty for six ways.

    Returns:
        The score of the row with all answers, None where it has none; and that with some taken away, each time.

    Raises:
        AssertionError: refusing pays.
        MlipbenchError: what the benchmark itself raises for the model that answers.
    """
    context = Context(seed=0, device="cpu", progress=no_progress) if context is None else context
    metrics, names = benchmark.about.metrics, expected(benchmark, data)
    whole = benchmark.score(benchmark.observe(model, data, context), data)
    before, reached, broken = row_score(metrics, whole, names), [], []
    for without in tuple(tries) or refusals(6):
        found = _found(benchmark, model, data, context, without)
        if isinstance(found, str):
            broken.append(f"{without}: {found}")
            continue
        reached.append(row_score(metrics, found, names) or 0.0 if found else 0.0)
        pays = benchmark.about.grade == "validation" and before is not None and reached[-1] > before + ROUND_OFF
        if pays:
            broken.append(f"{without}: the score of the row rises from {before:.4f} to {reached[-1]:.4f}")
        if benchmark.about.grade == "verification" and found:
            broken += [
                f"{without}: check {metric.name} passes, which fails with all answers" for metric in metrics
                if passes(metric, whole) is False and passes(metric, found)
            ]  # fmt: skip
    if broken:
        raise AssertionError("; ".join(broken))
    return before, reached


def _found(
    benchmark: Benchmark, model: Model, data: Dataset, context: Context, without: Without
) -> tuple[MetricValue, ...] | str:
    """Return what is measured without some answers, nothing for a failed row; a text says what must not be."""
    try:
        seen = benchmark.observe(refusing(model, data, without), data, context)
    except ModelFailure:
        return ()
    except NotApplicable as error:
        # one that refuses all there is may be a model of something else
        is_all = all(map(without.chosen(data), data.frames))
        return () if is_all else f"the row is skipped, though the model covers it ({error})"
    return benchmark.score(seen, data)


def passes(metric: Metric, values: Sequence[MetricValue]) -> bool | None:
    """Tell whether a check of everything passes, failed units counted; None where it was not made or is no check."""
    if metric.role not in ("merit", "check"):
        return None
    own = [value for value in values if value.metric == metric.name and not value.part]
    if not own:
        return None
    return metric_score(metric, own[0]) > 0.0 and not own[0].failed
