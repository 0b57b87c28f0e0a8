"""Faults that are no matter of chance: a stress that is a little wrong, and molecules that nothing holds together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench import benchmarks
from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.model import Float, Model, ModelSpec, Predictions
from mlipbench.core.suite import Suite
from mlipbench.data import manifest
from mlipbench.data.suites import read_suite
from mlipbench.engine.plan import instance
from mlipbench.power.alike import as_result
from mlipbench.report.gate import gate

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

STRESS_FACTOR: Final = 1.02
REACH_A: Final = 6.0
PUSH_EV: Final = 0.5  # at no distance; 10 to 40 meV between atoms of neighbouring molecules
SUITE: Final = "verification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A model whose answers are changed.

    Attributes:
        spec: of the model as it is now.
        model: as it was.
        change: from frames and its answers to other answers.
    """

    spec: ModelSpec
    model: Model
    change: Callable[[Sequence[Atoms], Predictions], Predictions]

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        """Ask, and change the answers."""
        return self.change(frames, self.model.predict(frames))

    def calculator(self) -> Calculator:
        """Refuse: these checks ask for predictions only."""
        raise NotImplementedError("a changed model has no calculator")


def wrong_stress(frames: Sequence[Atoms], said: Predictions) -> Predictions:
    """Scale the stress."""
    return replace(said, stress=STRESS_FACTOR * said.stress)


def no_attraction(frames: Sequence[Atoms], said: Predictions) -> Predictions:
    """Add a push between all pairs of atoms, more than what holds molecules together.

    Within molecules that move as rigid bodies it changes nothing. Energy, forces and stress stay those of one function:
    u(r) = `PUSH_EV` (1 - r / `REACH_A`)³, whose first two derivatives vanish at its end.
    """
    pushed = [_push(frame) for frame in frames]
    none = np.zeros((0, 3))
    return replace(
        said,
        energy=said.energy + np.array([energy for energy, _, _ in pushed]),
        forces=said.forces + np.concatenate([none, *(forces for _, forces, _ in pushed)]),
        stress=said.stress + said.has_stress[:, None, None] * np.array([stress for _, _, stress in pushed]),
    )


def _push(frame: Atoms) -> tuple[float, Float, Float]:
    """Return energy in eV, forces in eV/Å and stress in eV/Å^3 of the push; each pair is found twice."""
    from ase.neighborlist import neighbor_list

    first, distance, vector = neighbor_list("idD", frame, REACH_A)
    inside = 1.0 - distance / REACH_A
    slope = -3.0 * PUSH_EV / REACH_A * inside**2
    along = slope[:, None] * vector / distance[:, None]
    forces = np.zeros((len(frame), 3))
    np.add.at(forces, first, along)
    virial = 0.5 * np.einsum("pa,pb->ab", along, vector)
    volume = frame.get_volume() if frame.pbc.all() else np.inf
    return 0.5 * PUSH_EV * float((inside**3).sum()), forces, virial / volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, and the check that must find it.

    Attributes:
        words: what it is.
        row: of suite `verification`.
        check: its name.
        change: that makes it; None leaves the model as it is.
    """

    words: str
    row: str
    check: str
    change: Callable[[Sequence[Atoms], Predictions], Predictions]


FAULTS: Final = (
    Fault(words="stress × 1.02", row="consistency", check="stress_strain", change=wrong_stress),
    Fault(words="no attraction", row="cohesion", check="unbound", change=no_attraction),
)


def found(models: Mapping[str, Model], faults: Sequence[Fault] = FAULTS) -> dict[str, dict[str, tuple[bool, bool]]]:
    """Ask models with each fault and without it, and hold both against the checks of suite `verification`.

    Args:
        models: right ones, by name.
        faults: to be found.

    Returns:
        By fault and model: is the check failed with the fault, and is it failed without?
    """
    suite = read_suite(SUITE)
    return {
        fault.words: {
            name: (_fails(_with(model, fault), suite, fault), _fails(model, suite, fault))
            for name, model in models.items()
        }
        for fault in faults
    }


def _with(model: Model, fault: Fault) -> Model:
    """Return a model with a fault."""
    name, identity = (f"{told}, {fault.words}" for told in (model.spec.name, model.spec.identity))
    spec = replace(model.spec, name=name, identity=identity)
    return Changed(spec=spec, model=model, change=fault.change)


def _fails(model: Model, suite: Suite, fault: Fault) -> bool:
    """Does the gate, without a baseline, call this check failed?"""
    row = next(row for row in suite.rows if row.name == fault.row)
    data = manifest.load(manifest.source(row.data)).split(row.split)
    made = instance(row, "quick", where=f"suite {suite.name}")
    values = made.score(made.observe(model, data, Context(seed=0, device="cpu", progress=no_progress)), data)
    whole = [value for value in values if not value.part]
    result = as_result(row, whole, benchmarks.about(row.benchmark).metrics, data_sha256=data.spec.sha256)
    verdicts = gate([result], replace(suite, rows=(row,)), "candidate", None).verdicts
    return any(one.metric == fault.check and one.test == "check" and one.status == "worse" for one in verdicts)
