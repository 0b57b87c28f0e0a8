"""Ask a model once, and notice what it does wrong."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.core.model import Model, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

REMEMBERED_CALLS: Final = 16

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
        """Predict; what is not one of our errors is the model's failure."""
        answer = self._attempt(lambda: self.model.predict(frames))
        if isinstance(answer, Predictions):
            return answer
        if isinstance(answer, (ModelFailure, NotApplicable, BadInput)):
            raise answer
        if isinstance(answer, Exception):
            raise ModelFailure(f"the model raised {type(answer).__name__}: {answer}") from answer
        raise ModelFailure(f"the model returned {type(answer).__name__} instead of Predictions")


def fingerprint(frames: Sequence[Atoms]) -> bytes:
    """Return a hash of all that a model may look at, to the last bit."""
    digest = hashlib.sha256()
    for frame in frames:
        for part in (frame.numbers, frame.positions, np.asarray(frame.cell), frame.pbc):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr(sorted(frame.info.items(), key=lambda item: str(item[0]))).encode())
    return digest.digest()
