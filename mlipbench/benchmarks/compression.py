"""Does the energy only rise when matter is squeezed?

frame   frames of the data, all atoms scaled: one well, and a wall without holes
random  a few atoms of the data's elements thrown together: a wall without holes, once they touch
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.comparison import Names, bars, share_of, value_of
from mlipbench.benchmarks.frames import predict
from mlipbench.benchmarks.operations import covered_by, covered_frames
from mlipbench.benchmarks.systems import as_numbers, as_texts, left_out_view
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Float, Int, Model, Predictions
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.cells import complete_cell, minimum_image, reduced_cell, shifts_within
from mlipbench.physics.curves import fall_inward, largest_fall, minima
from mlipbench.units import MEV_PER_EV

if TYPE_CHECKING:
    from ase import Atoms

KINDS: Final = ("frame", "random")
PROMINENCE_EV: Final = 0.05  # per atom
# Nearest contact in sums of covalent radii, below which random atoms can only repel: Cr2, the shortest bond, has 0.60.
TOUCHING: Final = 0.6
DEEP_EV: Final = 0.5  # in total, as a single pair falls into a hole and not a whole frame
APART_A: Final = 1e-3
SHOWN_TO_EV: Final = 5.0
OVER: Final = "interval over trajectories and packings"

METRICS: Final = (
    Metric(
        name="holes", title="Holes in the wall", unit="meV/atom", better="lower", good=0.0, bad=50.0, headline=True,
        says="how far the energy falls again while matter is squeezed beyond its well, or random atoms beyond touching;"
        f" mean over frames and packings; {OVER}",
    ),
    Metric(
        name="with_holes", title="With holes", unit="", better="lower", good=0.0, bad=1e-3, headline=True,
        says=f"share of frames and packings whose energy falls by more than 0.5 eV in total on that way; {OVER}",
    ),
    Metric(
        name="collapsed", title="Collapsed", unit="", better="lower", good=0.0, bad=1e-3, headline=True,
        says=f"share of frames and packings whose lowest energy is where they are squeezed most; {OVER}",
    ),
    Metric(
        name="extra_minima", title="Extra minima", unit="", better="lower", good=0.0, bad=1e-3,
        says=f"share of frames with more than one minimum of a prominence of 50 meV/atom; {OVER}",
    ),
    Metric(
        name="not_computed", title="Not computed", unit="", better="lower", good=0.0, bad=1e-3,
        says=f"share of frames and packings that the model failed on, of those it covers; {OVER}",
    ),
)  # fmt: skip
SHARES: Final = ("with_holes", "collapsed", "extra_minima")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Squeeze frames of the data, and random heaps of its atoms.

    Attributes:
        n_frames: of the data, half of them periodic where there are such frames.
        max_atoms: larger frames are not used; squeezed matter has very many neighbours.
        n_random: heaps of random atoms.
        n_atoms: of a heap.
        nearest: shortest contact, in sums of covalent radii.
        widest: largest scale of a frame; heaps start where their nearest contact is 1.5 sums of covalent radii.
        n_points: of a curve.
    """

    about: ClassVar[About] = About(
        name="compression",
        title="Compression",
        question="Does the energy only rise when matter is squeezed?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="a random structure search drops into holes: C. J. Pickard & R. J. Needs, J. Phys.: Condens. Matter 23,"
        " 053201 (2011)",
        grade="verification",
        seconds=3.0,
    )

    n_frames: int = 4
    max_atoms: int = 50
    n_random: int = 6
    n_atoms: int = 6
    nearest: float = 0.5
    widest: float = 1.15
    n_points: int = 31

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for all scaled frames and heaps; a curve that the model fails on is left out.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model covers neither frames nor heaps.
            ModelFailure: the model fails on all it covers.
        """
        self._check()
        chosen = covered_frames(model, data, n_frames=self.n_frames, max_atoms=self.max_atoms)
        rng = context.rng()
        numbers = np.unique(covered_by(model, data)[1].numbers)
        starts = [(0, int(k), data.frames[k]) for k in chosen]
        starts += [(1, n, heap(numbers, self.n_atoms, rng)) for n in range(self.n_random)]
        kept, scales, energies, contacts, sizes = [], [], [], [], []
        refusals: list[NotApplicable] = []
        failures: list[tuple[int, int, ModelFailure]] = []
        for kind, origin, atoms in starts:
            contact = nearest_contact(atoms)
            try:
                scale, said = self._told(model, atoms, contact, kind, context)
            except NotApplicable as refusal:
                refusals.append(refusal)
                continue
            except ModelFailure as failure:
                failures.append((kind, origin, failure))
                continue
            kept.append((kind, origin))
            sizes.append(len(atoms))
            scales.append(scale)
            contacts.append(contact * scale)
            energies.append(said.energy / len(atoms))
        if not kept:
            raise failures[0][2] if failures else refusals[0]
        return {
            "kind": np.array([kind for kind, _ in kept]), "origin": np.array([origin for _, origin in kept]),
            "n_atoms": np.array(sizes), "scale": np.array(scales), "contact": np.array(contacts),
            "energy": np.array(energies),
            "failed_kind": np.array([kind for kind, _, _ in failures], dtype=np.int64),
            "failed_origin": np.array([origin for _, origin, _ in failures], dtype=np.int64),
            "failed_reason": as_numbers([str(failure) for _, _, failure in failures]),
        }  # fmt: skip

    def _told(
        self, model: Model, atoms: Atoms, contact: float, kind: int, context: Context
    ) -> tuple[Float, Predictions]:
        """Return the scales of a curve, and what the model says; where it fails, once more and less squeezed."""
        widest = self.widest if kind == 0 else 1.5 / contact
        for nearest in (self.nearest, 0.9 * TOUCHING):
            scale = np.geomspace(min(nearest / contact, 0.9 * widest), widest, self.n_points)
            try:
                frames = [scaled(atoms, s) for s in scale.tolist()]
                return scale, predict(model, frames, context, remark="squeezing")
            except ModelFailure as failure:
                last = failure
        raise last

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is unsound, in all and for each kind."""
        found = []
        columns = (seen["kind"], seen["contact"], seen["energy"], seen["n_atoms"])
        judged = [_judged(*one) for one in zip(*columns, strict=True)]
        units = _units(seen["kind"], seen["origin"], data)
        parts = [("", np.ones(len(units), dtype=bool))]
        parts += [(f"kind={name}", seen["kind"] == k) for k, name in enumerate(KINDS)]
        for metric in METRICS[:-1]:
            there = np.array([metric.name in one for one in judged])
            for part, own in parts:
                chosen = there & own
                values = np.array([one[metric.name] for one, use in zip(judged, chosen, strict=True) if use])
                if not len(values):
                    continue
                if metric.name in SHARES:
                    found.append(share_of(metric, values > 0.0, units[chosen], part=part))
                else:
                    rows = np.column_stack([values, np.ones(len(values))])
                    found.append(value_of(metric, rows, units[chosen], "mean", part=part))
        failed = _units(seen["failed_kind"], seen["failed_origin"], data)
        hit = np.repeat([False, True], [len(units), len(failed)])
        return (*found, share_of(METRICS[-1], hit, np.concatenate([units, failed])))

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all curves, cut off above, and the holes."""
        shown: list[View] = []
        for kind, name in enumerate(KINDS):
            own = np.flatnonzero(seen["kind"] == kind)
            if not len(own):
                continue
            x = np.linspace(float(seen["contact"][own].min()), float(seen["contact"][own].max()), self.n_points)
            y = [np.interp(x, seen["contact"][k], seen["energy"][k] - seen["energy"][k].min()) for k in own]
            origin = seen["origin"].tolist()
            shown.append(Lines(
                title=f"Squeezing: {name}, energy above the lowest up to {SHOWN_TO_EV:g} eV/atom",
                x_axis=Axis(quantity="nearest contact", unit="sum of covalent radii"),
                y_axis=Axis(quantity="energy", unit="eV/atom"),
                names=tuple(f"heap {origin[k]}" if kind else data.uid[origin[k]] for k in own),
                x=x, y=np.minimum(np.array(y), SHOWN_TO_EV),
            ))  # fmt: skip
        holes = [value for value in self.score(seen, data) if value.metric == "holes" and value.part]
        shown.append(bars("Holes in the wall", Axis(quantity="fall of the energy", unit="meV/atom"), holes))
        failed = _units(seen["failed_kind"], seen["failed_origin"], data).tolist()
        return (*shown, *left_out_view("Curves", failed, as_texts(seen["failed_reason"]), n_used=len(seen["kind"])))

    def _check(self) -> None:
        """Refuse parameters without meaning."""
        for name, least in (("n_random", 0), ("n_atoms", 2), ("n_points", 11)):
            if getattr(self, name) < least:
                raise BadInput(f"compression: {name} is {getattr(self, name)}; it must be {least} or more")
        if not 0.2 <= self.nearest <= 0.9 * TOUCHING or not 1.0 < self.widest <= 2.0:
            raise BadInput(
                f"compression: nearest is {self.nearest:g} and widest {self.widest:g}; 0.2 to {0.9 * TOUCHING:g} and 1"
                " to 2 are needed"
            )


def scaled(atoms: Atoms, scale: float) -> Atoms:
    """Return a copy with cell and positions scaled about the origin."""
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array * scale, scale_atoms=False)
    moved.positions = atoms.positions * scale
    return moved


def nearest_contact(atoms: Atoms) -> float:
    """Return the shortest distance of two atoms, images among them, in sums of their covalent radii."""
    from ase.data import covalent_radii

    radii = covalent_radii[atoms.numbers]
    first, second = np.triu_indices(len(atoms), 1)
    apart = minimum_image(atoms.positions[second] - atoms.positions[first], atoms.cell.array, atoms.pbc)
    contacts = np.linalg.norm(apart, axis=1) / (radii[first] + radii[second])
    if not atoms.pbc.any():
        return float(max(contacts.min(), APART_A))
    lattice, _ = reduced_cell(complete_cell(atoms.cell.array, atoms.pbc), atoms.pbc)
    shifts = shifts_within(atoms.pbc.astype(np.int64))
    images = np.linalg.norm(shifts[(shifts != 0).any(axis=1)] @ lattice, axis=1) / (2.0 * radii.max())
    return float(max(min(contacts.min(initial=np.inf), images.min()), APART_A))


def heap(numbers: Int, n_atoms: int, rng: np.random.Generator) -> Atoms:
    """Return random atoms thrown together without a cell, no two of them much nearer than the others."""
    from ase import Atoms
    from ase.data import covalent_radii

    chosen = rng.choice(numbers, size=n_atoms)
    radii = covalent_radii[chosen]
    size = float(2.0 * radii.mean() * n_atoms ** (1 / 3))
    positions: list[Float] = []
    while len(positions) < n_atoms:
        place = rng.uniform(-size, size, size=3)
        reach = radii[: len(positions)] + radii[len(positions)]
        if all(np.linalg.norm(place - other) > r for other, r in zip(positions, reach, strict=True)):
            positions.append(place)
    return Atoms(numbers=chosen, positions=np.array(positions))


def _units(kinds: Int, origins: Int, data: Dataset) -> Names:
    """Return the independent unit of each curve: its trajectory, or the heap itself."""
    pairs = zip(kinds.tolist(), origins.tolist(), strict=True)
    return np.array([f"heap {origin}" if kind else data.trajectory[origin] for kind, origin in pairs], dtype=np.str_)


def _judged(kind: int, contact: Float, energy: Float, n_atoms: int) -> dict[str, float]:
    """Return the numbers of one curve by metric; holes in meV per atom."""
    found = {"collapsed": float(np.argmin(energy) == 0)}
    if kind == 0:
        found["holes"] = MEV_PER_EV * largest_fall(energy, prominence=0.1 * PROMINENCE_EV)
        found["extra_minima"] = float(len(minima(energy, prominence=PROMINENCE_EV)) > 1)
    else:
        found["holes"] = MEV_PER_EV * fall_inward(energy, int(np.flatnonzero(contact <= TOUCHING)[-1]))
    found["with_holes"] = float(n_atoms * found["holes"] > MEV_PER_EV * DEEP_EV)
    return found
