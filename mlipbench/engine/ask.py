"""Ask a model once, and notice what it does wrong."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from mlipbench.core.dynamics import Batched, Forces, OwnDynamics, Replica, Schedule, Track
from mlipbench.core.model import (
    AtomEnergies,
    Committee,
    Float,
    Model,
    ModelSpec,
    OtherPrecision,
    Predictions,
    Progress,
    SiteEnergies,
    SiteFeatures,
    Spread,
)
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

REMEMBERED_CALLS: Final = 16
_Answer = TypeVar("_Answer")

# Answers by model and structures, for the whole process: rows that ask the same question share them.
# Whole calls, not frames: a model in single precision may answer a frame otherwise in another batch.
_answers: OrderedDict[tuple[str, bytes], Predictions] = OrderedDict()


class Asked:
    """A model whose every exception is its own fault, and whose answers are remembered."""

    def __init__(self, model: Model, attempt: Callable[[Callable[[], Any]], Any], *, remember: bool) -> None:
        """Wrap a model; `attempt` returns what a call returns or the exception it raised."""
        self.model = model
        self._attempt = attempt
        self._remember = remember

    @property
    def spec(self) -> ModelSpec:
        """What it takes to make the model again."""
        return self.model.spec

    def calculator(self) -> Calculator:
        """Return the model's own ASE calculator."""
        return self.model.calculator()

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Predict, or recall what was predicted for the same frames.

        Raises:
            ModelFailure: the model raised anything, or changed the frames.
            NotApplicable: the model does not cover a frame.
        """
        if not self._remember:
            return self._ask(frames)
        key = (repr(self.spec), fingerprint(frames))
        if key not in _answers:
            _answers[key] = self._ask(frames)
            if fingerprint(frames) != key[1]:
                del _answers[key]
                raise ModelFailure("the model changed the structures it was given; it must leave them as they are")
        _answers.move_to_end(key)
        while len(_answers) > REMEMBERED_CALLS:
            _answers.popitem(last=False)
        return _answers[key]

    def _ask(self, frames: Sequence[Atoms]) -> Predictions:
        return self._checked(lambda: self.model.predict(frames), Predictions)

    def _checked(self, call: Callable[[], Any], wanted: type[_Answer]) -> _Answer:
        """Return what a call answers; what is not one of our errors is the model's failure."""
        return _checked(self._attempt(call), wanted)

    def _per_atom(self, call: Callable[[], Any], frames: Sequence[Atoms], *, n_axes: int) -> Float:
        """Return an array with a row per atom; a number that is not finite is the model's failure."""
        answer = self._checked(call, np.ndarray)
        n_atoms = sum(len(frame) for frame in frames)
        if answer.ndim != n_axes or len(answer) != n_atoms:
            raise ModelFailure(f"the model returned an array of shape {answer.shape} for {n_atoms} atoms")
        if not np.isfinite(answer).all():
            raise ModelFailure("the model's answer for single atoms holds a number that is not finite")
        return answer.astype(np.float64)


class _NamesSiteEnergies(Asked):
    """Of a model with site energies."""

    def site_energies(self, frames: Sequence[Atoms]) -> Float:
        """Return the energy of each atom in eV, shape (n_atoms_total,), frame after frame."""
        return self._per_atom(lambda: self.model.site_energies(frames), frames, n_axes=1)  # type: ignore[attr-defined]


class _NamesSiteFeatures(Asked):
    """Of a model with features."""

    def site_features(self, frames: Sequence[Atoms]) -> Float:
        """Return the features of each atom, shape (n_atoms_total, n_features), frame after frame."""
        return self._per_atom(lambda: self.model.site_features(frames), frames, n_axes=2)  # type: ignore[attr-defined]


class _HasMembers(Asked):
    """Of a committee."""

    def predict_members(self, frames: Sequence[Atoms]) -> tuple[Predictions, ...]:
        """Predict all frames by each member."""
        return self._checked(lambda: self.model.predict_members(frames), tuple)  # type: ignore[attr-defined]

    def predict_std(self, frames: Sequence[Atoms]) -> Spread:
        """Return how far the members spread."""
        return self._checked(lambda: self.model.predict_std(frames), Spread)  # type: ignore[attr-defined]


class _KnowsAtoms(Asked):
    """Of a model that says what lone atoms have for their energies."""

    def atom_energies(self) -> Mapping[str, float]:
        """Return eV by chemical symbol."""
        return self._checked(lambda: dict(self.model.atom_energies()), dict)  # type: ignore[attr-defined]


class _HasPrecisions(Asked):
    """Of a model that can be had in single and in double precision."""

    def in_precision(self, dtype: str) -> Asked:
        """Return the same model in another precision; its answers are not remembered."""
        made = self._checked(lambda: self.model.in_precision(dtype), object)  # type: ignore[attr-defined]
        return asked(made, self._attempt, remember=False)  # type: ignore[arg-type]


class _MovesMany(Asked):
    """Of a model that evaluates many systems as they move."""

    def batch(self, frames: Sequence[Atoms]) -> _AskedBatch:
        """Return what evaluates these systems."""
        return _AskedBatch(self._checked(lambda: self.model.batch(frames), object), self._attempt)  # type: ignore[attr-defined]


class _AskedBatch:
    """A batch whose every exception is the model's own fault."""

    def __init__(self, batch: Any, attempt: Callable[[Callable[[], Any]], Any]) -> None:
        self._batch, self._attempt = batch, attempt
        self.keep, self.memory, self.recall = batch.keep, batch.memory, batch.recall

    def evaluate(self, positions: Float, cells: Float, *, with_virial: bool) -> Forces:
        """Return energies and forces."""
        return _checked(self._attempt(lambda: self._batch.evaluate(positions, cells, with_virial=with_virial)), Forces)


class _MovesItself(Asked):
    """Of a model with a simulation engine."""

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return str(self.model.engine)  # type: ignore[attr-defined]

    def simulate(self, replicas: Sequence[Replica], schedule: Schedule, progress: Progress) -> tuple[Track, ...]:
        """Run the replicas."""
        return self._checked(lambda: self.model.simulate(replicas, schedule, progress), tuple)  # type: ignore[attr-defined]


def _checked(answer: Any, wanted: type[_Answer]) -> _Answer:
    """Return an answer of the right kind, and raise what came instead."""
    if isinstance(answer, (ModelFailure, NotApplicable, BadInput)):
        raise answer
    if isinstance(answer, Exception):
        raise ModelFailure(f"the model raised {type(answer).__name__}: {answer}") from answer
    if isinstance(answer, wanted):
        return answer
    raise ModelFailure(f"the model returned {type(answer).__name__} instead of {wanted.__name__}")


_CAPABILITIES: Final = (
    (SiteEnergies, _NamesSiteEnergies),
    (SiteFeatures, _NamesSiteFeatures),
    (Committee, _HasMembers),
    (AtomEnergies, _KnowsAtoms),
    (OtherPrecision, _HasPrecisions),
    (Batched, _MovesMany),
    (OwnDynamics, _MovesItself),
)


def asked(model: Model, attempt: Callable[[Callable[[], Any]], Any], *, remember: bool) -> Asked:
    """Wrap a model; the wrapper can what the model can, so that `isinstance` with a Protocol tells."""
    able = tuple(wrapper for protocol, wrapper in _CAPABILITIES if isinstance(model, protocol))
    made: Asked = type("Asked", (*able, Asked), {})(model, attempt, remember=remember)
    return made


def fingerprint(frames: Sequence[Atoms]) -> bytes:
    """Return a hash of the arrays, cells, periodicity and info of frames, to the last bit."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(b"frame")
        _add(digest, "cell", frame.cell.array)
        _add(digest, "pbc", frame.pbc)
        _add(digest, "arrays", frame.arrays)
        _add(digest, "info", frame.info)
    return digest.digest()


def _add(digest: hashlib._Hash, name: str, value: Any) -> None:
    """Add a name and a value; names, kinds and lengths come first, so that parts cannot run into each other."""
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        value = value.tolist()  # its bytes are addresses
    if isinstance(value, np.ndarray):
        digest.update(f"{name!r} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    elif isinstance(value, dict):
        digest.update(f"{name!r} dict {len(value)}\n".encode())
        for key in sorted(value, key=repr):
            _add(digest, repr(key), value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"{name!r} {type(value).__name__} {len(value)}\n".encode())
        for part in value:
            _add(digest, "", part)
    else:
        content = repr(value).encode()
        digest.update(f"{name!r} {type(value).__name__} {len(content)}\n".encode())
        digest.update(content)
