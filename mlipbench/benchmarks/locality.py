"""How far away can an atom be and still be felt?

Molecules of the data are laid in a string, in contact with each other so that neighbours can pass on what they feel.
One atom is moved a little, and every other atom is asked for its force and, where the model tells, its energy. A model
that predicts no forces, such as a descriptor, is asked for features:

features      felt as site energies are
site energy   felt up to the cutoff r; with message passing, up to r for each layer
force         felt up to twice that, as the sites in between feel both; in a pair potential, up to r

The round-off of the same numbers is measured too, on the same string, moved as a whole and with its atoms in another
order. A change that does not stand out from it is none.

Electrostatics and dispersion are felt everywhere, and rightly so. How far a model feels is therefore a property. What
is judged is how much is felt far away: a step by s of one charge q changes the force on another by 2 k q q' s / r³ at
most, 0.06 meV/Å for two electrons at 36 Å and a step of 0.1 Å, and 0.6 meV/Å for two ions of charge three. What does
not come from the distance, such as a mean over all atoms, is felt as much at 60 Å as at 30 Å.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.asking import predict_pieces
from mlipbench.benchmarks.comparison import value_of
from mlipbench.benchmarks.frames import FRAMES_PER_CALL
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import random_rotation
from mlipbench.benchmarks.pieces import Piece, joined, pieces
from mlipbench.benchmarks.sites import names_sites, site_values, units_of
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model, SiteEnergies, SiteFeatures
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.scans import contact_shift_A
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

CONTACT_A: Final = 2.2  # between neighbouring molecules: not bonded, and within any cutoff
N_ROUND_OFF: Final = 3  # times a string is asked again for its round-off
MARGIN: Final = 5.0  # a change is felt when it is so many times larger than the largest round-off
BIN_A: Final = 1.0  # of the figures
SHOWN_FROM: Final = 1e-15  # figures of decades have no place for zero
TITLES: Final = {"energy": "site energy", "force": "force", "features": "features"}
UNITS: Final = {"energy": "meV", "force": "meV/Å", "features": ""}  # features: of the norm of an atom's


def _metrics(quantity: str, *, good: float, bad: float) -> tuple[Metric, Metric, Metric]:
    """Return the definitions of the field of a quantity, of its leak, and of how that decays."""
    title = TITLES[quantity]
    a_title, its = f"a {title}", "of a vector, its length"
    if quantity == "features":
        a_title, its = title, "each in units of its own size; the norm, relative to the root mean square norm"
    return (
        Metric(
            name=f"receptive_field_{quantity}", title=f"Receptive field: {title}", unit="Å", better="lower",
            good=24.0, bad=36.0, role="property", lowest=0.0,
            says=f"largest distance at which moving an atom changes {a_title}; a property, not a merit;"
            " mean over strings of molecules; interval over strings",
        ),
        Metric(
            name=f"leak_{quantity}", title=f"Leak: {title}", unit=UNITS[quantity], better="lower",
            good=good, bad=bad, log_scale=True, role="check",
            severity="must" if quantity == "force" else "good to know",
            says=f"root mean square change of {title} ({its}) over atoms farther than far_A (36 Å)"
            " from the moved one, where changes within round-off are none; interval over strings",
        ),
        Metric(
            name=f"decay_{quantity}", title=f"Decay: {title}", unit="", better="higher", good=2.0, bad=0.5,
            role="check", severity="good to know",
            says=f"power of the distance as which the change of {title} decays from between half of far_A and far_A to"
            " beyond it, by the root mean square changes there, for models that are felt in both; mean over strings;"
            " interval over strings",
        ),
    )  # fmt: skip


METRICS: Final = (
    *_metrics("energy", good=1e-6, bad=10.0),
    *_metrics("force", good=1e-6, bad=0.5),
    *_metrics("features", good=1e-9, bad=1e-3),
)
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Locality:
    """Move single atoms in strings of molecules, and see who feels it.

    Attributes:
        n_strings: each of other molecules.
        length_A: of a string.
        n_moved: atoms moved, one at a time, evenly spaced along each string.
        shift_A: how far each is moved, in a random direction.
        far_A: beyond this distance nothing should be felt.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="locality",
        title="Locality",
        question="How far away can an atom be and still be felt?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
        source="an energy of atoms that see each other up to a cutoff changes nowhere else, to the last digit; what"
        " charges may feel: A. J. Stone, The Theory of Intermolecular Forces (2013), chapter 3",
        grade="verification",
        seconds=5.0,
    )

    n_strings: int = 3
    length_A: float = 60.0
    n_moved: int = 24
    shift_A: float = 0.1
    far_A: float = 36.0
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for each string as it is, moved as a whole, and with single atoms moved.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model does not cover the molecules.
            ModelFailure: the model is at fault.
        """
        self._check()
        rng = context.rng()
        seen: dict[str, list[Float | Int]] = {}
        failures: list[tuple[int, ModelFailure]] = []
        for number in range(self.n_strings):
            alone = pieces(data, 8, rng, lone_elements=self.lone_elements)
            atoms = string(alone, rng, length_A=self.length_A)
            moved = _evenly(atoms, self.n_moved)
            try:
                felt = self._felt(model, atoms, moved, rng, context)
            except ModelFailure as failure:
                failures.append((number, failure))
                continue
            for name, array in felt.items():
                seen.setdefault(name, []).append(array)
            seen.setdefault("string", []).append(np.full(len(moved) * len(atoms), number))
        if not seen:
            raise failures[0][1]
        failed = np.array([number for number, _ in failures], dtype=np.int64)
        return {"failed_string": failed} | {name: np.concatenate(arrays) for name, arrays in seen.items()}

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return how far changes are felt, and what is felt too far away."""
        found = []
        names = np.array([f"string {number}" for number in seen["string"].tolist()])
        far = seen["distance"] > self.far_A
        for quantity in TITLES:
            if f"{quantity}_change" not in seen:
                continue
            field, leak = DEFINED[f"receptive_field_{quantity}"], DEFINED[f"leak_{quantity}"]
            change = _scale(quantity) * _felt_change(seen, quantity)
            reach = np.where(change > 0.0, seen["distance"], 0.0)
            strings = np.unique(seen["string"]).tolist()
            fields = np.array([[reach[seen["string"] == k].max(), 1.0] for k in strings])
            found.append(value_of(field, fields, np.array([f"string {k}" for k in strings]), "mean"))
            if far.any():
                found.append(value_of(leak, squares(change[far]), names[far], "root_mean"))
            powers = [(k, self._power(seen["distance"], change, seen["string"] == k)) for k in strings]
            rows = np.array([[power, 1.0] for _, power in powers if power is not None])
            if len(rows):
                units = np.array([f"string {k}" for k, power in powers if power is not None])
                found.append(value_of(DEFINED[f"decay_{quantity}"], rows, units, "mean"))
        failed = tuple(f"string {number}" for number in seen["failed_string"].tolist())
        return tuple(replace(one, failed=failed, n_all=one.n + len(failed)) for one in found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show the largest change at each distance, beside round-off."""
        edges = np.arange(0.0, float(seen["distance"].max()) + BIN_A, BIN_A)
        column = np.digitize(seen["distance"], edges) - 1
        filled = np.unique(column)
        shown = []
        for quantity, title in TITLES.items():
            if f"{quantity}_change" not in seen:
                continue
            largest = np.zeros((2, len(edges)))
            for row, name in enumerate(("change", "round_off")):
                np.maximum.at(largest[row], column, _scale(quantity) * seen[f"{quantity}_{name}"])
            shown.append(Lines(
                title=f"How far a moved atom is felt: {title}",
                x_axis=Axis(quantity="distance from the moved atom", unit="Å"),
                y_axis=Axis(quantity="largest change", unit=UNITS[quantity], log=True),
                names=("change", "round-off"), x=edges[filled] + BIN_A / 2,
                y=np.maximum(largest[:, filled], SHOWN_FROM),
            ))  # fmt: skip
        return tuple(shown)

    def _power(self, distance: Float, change: Float, own: Bool) -> float | None:
        """Return n of a change that decays as distance^-n; None where it is not felt near and far."""
        means = []
        for least, most in ((0.5, 1.0), (1.0, np.inf)):
            there = own & (distance >= least * self.far_A) & (distance < most * self.far_A)
            size = float(np.sqrt((change[there] ** 2).mean())) if there.any() else 0.0
            if size == 0.0:
                return None
            means.append((np.log(distance[there]).mean(), np.log(size)))
        (near, before), (far, after) = means
        return float((before - after) / (far - near))

    def _check(self) -> None:
        """Refuse parameters without meaning."""
        for name, least in (("n_strings", 1), ("n_moved", 1), ("shift_A", 1e-3), ("length_A", 5.0)):
            if not least <= getattr(self, name) < np.inf:
                raise BadInput(f"locality: {name} is {getattr(self, name):g}; it must be {least:g} or more")
        if not 0.0 < self.far_A < self.length_A:
            raise BadInput(
                f"locality: far_A is {self.far_A:g} Å; it must be less than length_A, {self.length_A:g} Å, so that"
                " some atoms are as far away"
            )

    def _felt(
        self, model: Model, atoms: Atoms, moved: Int, rng: np.random.Generator, context: Context
    ) -> dict[str, Float]:
        """Return what changes at every atom when each of some atoms is moved, flat over (moved atom, other atom)."""
        orders = [rng.permutation(len(atoms)) for _ in range(N_ROUND_OFF)]
        shifts_A = rng.uniform(-1.0, 1.0, size=(N_ROUND_OFF, 3))
        again = [_shifted(atoms[order], slice(None), by) for order, by in zip(orders, shifts_A, strict=True)]
        steps_A = rng.normal(size=(len(moved), 3))
        steps_A *= self.shift_A / np.linalg.norm(steps_A, axis=1)[:, None]
        changed = [_shifted(atoms, row, step) for row, step in zip(moved.tolist(), steps_A, strict=True)]
        out = {"distance": _distances(atoms, moved, steps_A).ravel()}
        for quantity, flat in _answers(model, [atoms, *again, *changed], context).items():
            told = flat.reshape(1 + N_ROUND_OFF + len(moved), len(atoms), -1)
            back = [told[1 + k][np.argsort(order)] for k, order in enumerate(orders)]
            round_off = np.linalg.norm(np.array(back) - told[0], axis=2).max()
            change = np.linalg.norm(told[1 + N_ROUND_OFF :] - told[0], axis=2)
            out |= {f"{quantity}_change": change.ravel(), f"{quantity}_round_off": np.full(change.size, round_off)}
        return out


def string(alone: Sequence[Piece], rng: np.random.Generator, *, length_A: float) -> Atoms:
    """Return molecules side by side along x, each turned at random and just in contact with those before it.

    Args:
        alone: to choose from, at random.
        rng: chooses and turns.
        length_A: the least length of the string.
    """
    x = np.array([1.0, 0.0, 0.0])
    whole = alone[int(rng.integers(len(alone)))].atoms.copy()
    while np.ptp(whole.positions[:, 0]) < length_A:
        new = alone[int(rng.integers(len(alone)))].atoms.copy()
        new.set_positions(new.positions @ random_rotation(rng).T)
        shift_A = contact_shift_A(whole.positions, new.positions, x, gap_A=CONTACT_A)
        whole = joined([whole, new], np.array([0.0 * x, shift_A * x]))
    return whole


def _evenly(atoms: Atoms, n: int) -> Int:
    """Return up to n atoms, evenly spaced in their order along x, both ends among them."""
    order = np.argsort(atoms.positions[:, 0], kind="stable")
    places = np.linspace(0, len(atoms) - 1, min(n, len(atoms))).round().astype(np.int64)
    return np.asarray(order[places], dtype=np.int64)


def _distances(atoms: Atoms, moved: Int, steps_A: Float) -> Float:
    """Return how near each moved atom comes to every other before or after its step, shape (n_moved, n_atoms), Å."""
    places = [atoms.positions[moved], atoms.positions[moved] + steps_A]
    distances = [np.linalg.norm(atoms.positions[None] - place[:, None], axis=2) for place in places]
    nearest = np.minimum(*distances)
    nearest[np.arange(len(moved)), moved] = 0.0
    return np.asarray(nearest)


def _shifted(atoms: Atoms, rows: int | slice, by_A: Float) -> Atoms:
    """Return a copy with some atoms moved."""
    moved = atoms.copy()
    moved.positions[rows] += by_A
    return moved


def _answers(model: Model, frames: Sequence[Atoms], context: Context) -> dict[str, Float]:
    """Return what the model tells of each atom, atom after atom: site energies in eV, and forces in eV/Å or features.

    Raises:
        NotApplicable: it tells nothing.
    """
    found: dict[str, Float] = {}
    try:
        found["force"] = predict_pieces(model, frames, context, remark="strings of molecules").forces
    except NotApplicable:
        if not names_sites(model):
            raise
    if "force" not in found and isinstance(model, SiteFeatures):
        said = site_values(model, frames, context, remark="strings of molecules")
        found["features"] = said.values * units_of(said)
    found |= _site_energies(model, frames, must=not found)
    return found


def _site_energies(model: Model, frames: Sequence[Atoms], *, must: bool) -> dict[str, Float]:
    """Return site energies in eV, where the model tells them, or where it must."""
    if not isinstance(model, SiteEnergies):
        return {}
    parts = []
    try:
        for start in range(0, len(frames), FRAMES_PER_CALL):
            parts.append(model.site_energies(frames[start : start + FRAMES_PER_CALL]))
    except NotApplicable:  # its energy is no sum over atoms
        if must:
            raise
        return {}
    sites = np.concatenate(parts)
    if sites.shape != (sum(len(atoms) for atoms in frames),) or not np.isfinite(sites).all():
        raise ModelFailure(f"the model returned site energies of shape {sites.shape}, or not all finite")
    return {"energy": sites}


def _scale(quantity: str) -> float:
    """Return how many of its units in `UNITS` one of those it is observed in is."""
    return 1.0 if quantity == "features" else MEV_PER_EV


def _felt_change(seen: Observation, quantity: str) -> Float:
    """Return the changes that stand out from round-off, and zero for the others."""
    change, round_off = seen[f"{quantity}_change"], seen[f"{quantity}_round_off"]
    return np.where(change > MARGIN * round_off, change, 0.0)
