"""How many atoms of a liquid does each model do in a second of one processor?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.file import write
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.potential import LinearAce
from mlipbench.core.model import Model, ModelSpec
from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.models import load
from mlipbench.speed import ace_jax
from mlipbench.speed.comparison import Absent, Comparison, Found, in_turn
from mlipbench.speed.settings import OURS, Settings

if TYPE_CHECKING:
    from ase import Atoms

BARS: Final = {"mace-ci": ">= 10", "gap": ">= 100"}
ACE_JAX_BAR: Final = ">= 3"
UNIT: Final = "atoms per CPU-second"


def box(settings: Settings) -> Iterator[Found]:
    """Time the models on one box, atoms moved before each call; energy, forces and stress are wanted."""
    try:
        ours = load(settings.spec(OURS), device="cpu")
    except NotApplicable as error:
        yield Absent(name=f"box: {OURS}", reason=str(error))
        return
    for name, bar in BARS.items():
        try:
            peer = load(settings.spec(name), device="cpu")
        except NotApplicable as error:
            yield Absent(name=f"box: {OURS}, {name}", reason=str(error), bar=bar)
            continue
        yield from beside(settings, ours, peer, bar=bar)
    yield from beside_ace_jax(settings)


def beside(settings: Settings, ours: Model, peer: Model, *, bar: str) -> Iterator[Comparison]:
    """Compare two models by their ASE calculators in steps of dynamics, and with a fresh neighbour list each call.

    The peer is taken by the faster of its two ways both times: neither keeps a neighbour list.
    """
    n = len(settings.box)
    steps, fresh, peer_steps, peer_fresh = in_turn(
        by_calculator(settings, ours), by_prediction(settings, ours),
        by_calculator(settings, peer), by_prediction(settings, peer),
        repeats=settings.n_calls, clock=time.process_time,
    )  # fmt: skip
    best = min(peer_steps, peer_fresh)
    way = "its ASE calculator" if best == peer_steps else "prediction of one frame"
    for title, seconds in (("steps of dynamics", steps), ("fresh neighbour list", fresh)):
        yield Comparison(
            name=f"box of {n} atoms, {title}: {ours.spec.name}, {peer.spec.name}",
            ours=n / seconds, peer=n / best, ratio=best / seconds, bar=bar, unit=UNIT,
            note=f"{peer.spec.name} by {way}",
        )  # fmt: skip


def by_calculator(settings: Settings, model: Model) -> Callable[[], None]:
    """Return a call that moves the atoms a little and asks the model's ASE calculator."""
    atoms = settings.box.copy()
    atoms.calc = model.calculator()
    move = mover(settings)

    def call() -> None:
        move(atoms)
        atoms.get_potential_energy()
        atoms.get_forces()
        atoms.get_stress()

    return call


def by_prediction(settings: Settings, model: Model) -> Callable[[], None]:
    """Return a call that moves the atoms a little and predicts the frame."""
    atoms = settings.box.copy()
    move = mover(settings)

    def call() -> None:
        move(atoms)
        model.predict([atoms])

    return call


def mover(settings: Settings) -> Callable[[Atoms], None]:
    """Return what moves all atoms by a random step; the same steps for everybody."""
    rng = np.random.default_rng(0)

    def move(atoms: Atoms) -> None:
        atoms.positions += settings.step_A * rng.standard_normal((len(atoms), 3))

    return move


def beside_ace_jax(settings: Settings) -> Iterator[Found]:
    """Compare with ace-jax at equal order, total degree and cutoff, by like ways in."""
    degree = max(settings.degrees)
    try:
        answer = ace_jax.ask(settings, degree, is_fitted=False, is_timed=True)
    except (NotApplicable, ModelFailure) as error:
        yield Absent(name="box: our ACE, ace-jax", reason=str(error), bar=ACE_JAX_BAR)
        return
    basis = ace_jax.equal_basis(settings, degree, offset=ace_jax.mean_offset(settings))
    n, n_ours = len(settings.box), functions(basis).n_functions
    own = dict(zip(("steps", "fresh", "kernel"), our_ways(settings, basis), strict=True))
    titles = {"steps": "steps of dynamics", "fresh": "fresh neighbour list", "kernel": "neighbours given"}
    for way, seconds in own.items():
        name = f"box of {n} atoms, order 3, total degree {degree}, {titles[way]}: our ACE, ace-jax {answer.version}"
        try:
            path, theirs = answer.fastest(way=way)
        except NotApplicable as error:
            yield Absent(name=name, reason=str(error), bar=ACE_JAX_BAR)
            continue
        yield Comparison(
            name=name, ours=n / seconds, peer=n / theirs, ratio=theirs / seconds, bar=ACE_JAX_BAR, unit=UNIT,
            note=f"ace-jax by its {path}; {n_ours} functions of ours, {answer.n_functions} of theirs for each element",
        )  # fmt: skip


def our_ways(settings: Settings, basis: Basis) -> tuple[float, ...]:
    """Return processor seconds of a call of the ASE calculator, of a prediction, and with the neighbours given."""
    potential = random_potential(basis)
    given = neighbours(settings.box, basis.cutoff_A)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ace.npz"
        write(path, potential)
        model = load(ModelSpec(name="our ACE", kind="ace", checkpoint=str(path)), device="cpu")
    return in_turn(
        by_calculator(settings, model), by_prediction(settings, model),
        lambda: potential.evaluate(settings.box, given),
        repeats=settings.n_calls, clock=time.process_time,
    )  # fmt: skip


def random_potential(basis: Basis) -> LinearAce:
    """Return a linear ACE with random coefficients: its cost does not depend on them."""
    n = len(basis.numbers)
    weights = 1e-3 * np.random.default_rng(0).standard_normal((n, functions(basis).n_functions))
    return LinearAce(basis=basis, e0_eV=np.zeros(n), weights=weights, wall_reach_A=np.zeros((n, n)))
