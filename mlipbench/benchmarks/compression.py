"""Does the energy only rise when matter is squeezed?

frame   frames of the data, all atoms scaled: one well, and a wall without holes
piece   a molecule, or a few neighbours, cut out of frames that are too large to be squeezed far
random  a few atoms of the data's elements thrown together: a wall without holes, once they touch

Frames are judged twice. Up to 1.3 times their density is where a potential will be used: bonds are 8 % shorter there,
at a cost of about 0.25 eV per atom in molecules (C-H: 30 eV/Å²), silicon (B = 98 GPa) and copper, which is 3/2 kT at
2000 K. Farther in is good to know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from mlipbench.benchmarks.asking import predict_inward, smallest_frames
from mlipbench.benchmarks.comparison import Names, bars, share_of, value_of
from mlipbench.benchmarks.frames import spread_out
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import covered_by
from mlipbench.benchmarks.pieces import pieces
from mlipbench.benchmarks.squeezing import DENSER, TOUCHING, Curve, heap, nearest_contact, scaled
from mlipbench.benchmarks.squeezing import judged as judged_of
from mlipbench.benchmarks.systems import as_numbers, as_texts, left_out_view
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import Metric, MetricValue, Severity
from mlipbench.core.model import Float, Int, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

if TYPE_CHECKING:
    from ase import Atoms

KINDS: Final = ("frame", "random", "piece")
N_REACH: Final = 9  # points from the density of a frame to that
SHOWN_TO_EV: Final = 5.0
OVER: Final = "interval over trajectories and packings"


def _metric(
    name: str, title: str, severity: Severity, says: str, *, unit: str = "", bad: float = 1e-3, headline: bool = False
) -> Metric:
    """Return the definition of a check that must find nothing."""
    return Metric(
        name=name, title=title, unit=unit, better="lower", good=0.0, bad=bad, headline=headline, role="check",
        severity=severity, lowest=0.0, highest=None if unit else 1.0, says=f"{says}; {OVER}",
    )  # fmt: skip


METRICS: Final = (
    _metric(
        "holes_in_reach", "Holes in reach", "fatal",
        "how far the energy of frames falls again beyond their well, up to 1.3 times their density; mean over frames",
        unit="meV/atom", bad=50.0, headline=True,
    ),
    _metric(
        "with_holes_in_reach", "With holes in reach", "fatal",
        "share of frames whose energy falls by more than 0.5 eV in total on that way, or is not answered for",
        headline=True,
    ),
    _metric(
        "holes", "Holes in the wall", "good to know",
        "how far the energy falls again while matter is squeezed beyond its well, or random atoms beyond touching;"
        " mean over frames, pieces and packings",
        unit="meV/atom", bad=50.0,
    ),
    _metric(
        "with_holes", "With holes", "good to know",
        "share of frames, pieces and packings whose energy falls by more than 0.5 eV in total on that way, or is not"
        " answered for",
    ),
    _metric(
        "collapsed", "Collapsed", "good to know",
        "share of frames, pieces and packings whose lowest energy is where they are squeezed most",
    ),
    _metric(
        "extra_minima", "Extra minima", "good to know",
        "share of frames and pieces with more than one minimum of a prominence of 50 meV/atom",
    ),
    _metric(
        "not_computed", "Not computed", "good to know",
        "share of frames, pieces and packings that the model failed on, all or where they are squeezed most",
    ),
)  # fmt: skip
VALUES: Final = ("holes_in_reach", "holes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Squeeze frames of the data, and random heaps of its atoms.

    Attributes:
        n_frames: of the data, half of them periodic where there are such frames.
        max_atoms: of larger frames the smallest is taken up to 1.3 times its density only, as squeezed matter has very
            many neighbours, and pieces are cut out to be squeezed farther.
        n_random: heaps of random atoms.
        n_atoms: of a heap.
        nearest: shortest contact, in sums of covalent radii.
        widest: largest scale of a frame; heaps start where their nearest contact is 1.5 sums of covalent radii.
        n_points: of a curve.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="compression",
        title="Compression",
        question="Does the energy only rise when matter is squeezed?",
        metrics=METRICS,
        observe_version=2,
        score_version=2,
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
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask for all scaled frames, pieces and heaps, as far in as the model answers.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: the model covers neither frames nor heaps.
            ModelFailure: the model fails on all it covers.
        """
        self._check()
        kept: list[tuple[_Start, int, Float, Float]] = []
        refusals: list[NotApplicable] = []
        failures: list[tuple[_Start, ModelFailure]] = []
        for start in self._starts(model, data, context.rng()):
            scale = self._scales(start)
            frames = [scaled(start.atoms, s) for s in scale.tolist()]
            try:
                first, said, failure = predict_inward(model, frames, context, remark="squeezing")
            except NotApplicable as refusal:
                refusals.append(refusal)
                continue
            if failure is not None:
                failures.append((start, failure))
            if said is not None:
                # What has no answer is not looked at; only finite numbers can be kept.
                energy = np.concatenate([np.full(first, said.energy[0]), said.energy]) / len(start.atoms)
                kept.append((start, first, scale, energy))
        if not kept:
            raise failures[0][1] if failures else refusals[0]
        sizes = np.array([len(scale) for _, _, scale, _ in kept], dtype=np.int64)
        return {
            "kind": np.array([one.kind for one, _, _, _ in kept]),
            "origin": np.array([one.origin for one, _, _, _ in kept]),
            "n_atoms": np.array([len(one.atoms) for one, _, _, _ in kept]),
            "first": np.array([first for _, first, _, _ in kept], dtype=np.int64), "n_points": sizes,
            "is_deep": np.array([one.is_deep for one, _, _, _ in kept]),
            "scale": np.concatenate([scale for _, _, scale, _ in kept]),
            "contact": np.concatenate([one.contact * scale for one, _, scale, _ in kept]),
            "energy": np.concatenate([energy for _, _, _, energy in kept]),
            "failed_kind": np.array([one.kind for one, _ in failures], dtype=np.int64),
            "failed_origin": np.array([one.origin for one, _ in failures], dtype=np.int64),
            "failed_reason": as_numbers([str(failure) for _, failure in failures]),
        }  # fmt: skip

    def _starts(self, model: Model, data: Dataset, rng: np.random.Generator) -> list[_Start]:
        """Return the frames, pieces and heaps to squeeze."""
        numbers, known = covered_by(model, data)
        fit = [
            k for k in numbers.tolist() if len(data.frames[k]) <= self.max_atoms and _can_be_squeezed(data.frames[k])
        ]
        starts, origins = [], fit
        if fit:
            found = [fit[k] for k in spread_halves(data.take(fit), self.n_frames).tolist()]
            starts = [_Start(kind=0, origin=k, atoms=data.frames[k], is_deep=True) for k in found]
        elif any(_can_be_squeezed(data.frames[k]) for k in numbers.tolist()):
            origins = smallest_frames(data, numbers, n_frames=self.n_frames).tolist()
            starts = [_Start(kind=0, origin=k, atoms=data.frames[k], is_deep=False) for k in origins[:1]]
            cut = pieces(data.take(origins), len(origins), rng, lone_elements=self.lone_elements)
            starts += [
                _Start(kind=2, origin=origins[one.frame], atoms=one.atoms, is_deep=True)
                for one in cut if len(one.atoms) > 1
            ]  # fmt: skip
        elements = np.unique(known.numbers)
        heaps = [heap(elements, self.n_atoms, rng) for _ in range(self.n_random)]
        starts += [_Start(kind=1, origin=n, atoms=atoms, is_deep=True) for n, atoms in enumerate(heaps)]
        if not starts:
            raise NotApplicable(f"data set {data.spec.name} has only lone atoms here; set n_random to 1 or more")
        return starts

    def _scales(self, start: _Start) -> Float:
        """Return the scales of a curve, ascending, with some between the density of a frame and 1.3 times that."""
        least = DENSER ** (-1.0 / 3.0)
        widest = 1.5 / start.contact if start.kind == 1 else self.widest
        inner = min(self.nearest / start.contact, 0.9 * widest)
        if start.kind != 0:
            return np.geomspace(inner, widest, self.n_points)
        reach = np.concatenate([np.geomspace(least, 1.0, N_REACH), np.geomspace(1.0, widest, 5)[1:]])
        if not start.is_deep or inner >= least:
            return reach
        deep = np.geomspace(inner, least, max(self.n_points - len(reach), 5) + 1)[:-1]
        return np.concatenate([deep, reach])

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return what is unsound, in all and for each kind."""
        found = []
        judged = [judged_of(one) for one in _curves(seen)]
        units = _units(seen["kind"], seen["origin"], data)
        failed = _units(seen["failed_kind"], seen["failed_origin"], data)
        lost = _lost(seen)
        kinds = np.concatenate([seen["kind"], seen["failed_kind"][lost]])
        units = np.concatenate([units, failed[lost]])
        judged += [{"with_holes": 1.0} | ({"with_holes_in_reach": 1.0} if k == 0 else {}) for k in kinds[len(judged) :]]
        hit = {(k, o) for k, o in zip(seen["failed_kind"].tolist(), seen["failed_origin"].tolist(), strict=True)}
        origins = np.concatenate([seen["origin"], seen["failed_origin"][lost]])
        for one, k, o in zip(judged, kinds.tolist(), origins.tolist(), strict=True):
            one["not_computed"] = float((k, o) in hit)
        parts = [("", np.ones(len(units), dtype=bool))]
        parts += [(f"kind={name}", kinds == k) for k, name in enumerate(KINDS)]
        for metric in METRICS:
            there = np.array([metric.name in one for one in judged])
            for part, own in parts:
                chosen = there & own
                values = np.array([one[metric.name] for one, use in zip(judged, chosen, strict=True) if use])
                if not len(values):
                    continue
                if metric.name not in VALUES:
                    found.append(share_of(metric, values > 0.0, units[chosen], part=part))
                    continue
                value = value_of(
                    metric, np.column_stack([values, np.ones(len(values))]), units[chosen], "mean", part=part
                )
                lacks = np.array([one["not_computed"] > 0.0 for one in judged]) & ~there & own
                lacks &= (kinds == 0) | (metric.name != "holes_in_reach")
                left = tuple(units[lacks].tolist())
                found.append(replace(value, failed=left, n_all=value.n + len(set(left))))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all curves, cut off above, and the holes."""
        shown: list[View] = []
        for kind, name in enumerate(KINDS):
            own = np.flatnonzero(seen["kind"] == kind)
            if not len(own):
                continue
            curves = [curve for curve, at in zip(_curves(seen), seen["kind"], strict=True) if at == kind]
            lows, highs = zip(*((one.contact[0], one.contact[-1]) for one in curves), strict=True)
            x = np.linspace(min(lows), max(highs), self.n_points)
            y = [np.interp(x, one.contact, one.energy - one.energy.min()) for one in curves]
            origin = seen["origin"].tolist()
            shown.append(Lines(
                title=f"Squeezing: {name}, energy above the lowest up to {SHOWN_TO_EV:g} eV/atom",
                x_axis=Axis(quantity="nearest contact", unit="sum of covalent radii"),
                y_axis=Axis(quantity="energy", unit="eV/atom"),
                names=tuple(f"heap {origin[k]}" if kind == 1 else data.uid[origin[k]] for k in own),
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


def spread_halves(data: Dataset, n_frames: int) -> Int:
    """Return numbers of frames, half of them periodic where there are such frames."""
    periodic = np.array([atoms.pbc.any() for atoms in data.frames])
    chosen: list[int] = []
    n_periodic = min(int(periodic.sum()), max((n_frames + 1) // 2, n_frames - int((~periodic).sum())))
    for own, n in ((periodic, n_periodic), (~periodic, n_frames - n_periodic)):
        rows = np.flatnonzero(own)
        if len(rows) and n > 0:
            chosen += rows[spread_out(data.take(rows.tolist()), n)].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


def _can_be_squeezed(atoms: Atoms) -> bool:
    """Tell whether there is more than a lone atom in vacuum."""
    return len(atoms) > 1 or bool(atoms.pbc.any())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What is squeezed.

    Attributes:
        kind: number in `KINDS`.
        origin: number of the frame in the data set, or of the heap.
        atoms: as they are.
        is_deep: is it squeezed until its atoms are inside each other?
    """

    kind: int
    origin: int
    atoms: Atoms
    is_deep: bool

    @property
    def contact(self) -> float:
        """The nearest contact, in sums of covalent radii."""
        return nearest_contact(self.atoms)


def _curves(seen: Observation) -> list[Curve]:
    """Return the curves of an observation."""
    ends = np.cumsum(seen["n_points"])[:-1]
    columns = [np.split(seen[name], ends) for name in ("scale", "contact", "energy")]
    heads = zip(
        seen["kind"].tolist(), seen["is_deep"].tolist(), seen["first"].tolist(), seen["n_atoms"].tolist(), strict=True
    )
    return [
        Curve(kind, bool(deep), first == 0, n_atoms, *(column[k][first:] for column in columns))
        for k, (kind, deep, first, n_atoms) in enumerate(heads)
    ]


def _lost(seen: Observation) -> Int:
    """Return which of the failed starts have no curve at all."""
    kept = set(zip(seen["kind"].tolist(), seen["origin"].tolist(), strict=True))
    failed = zip(seen["failed_kind"].tolist(), seen["failed_origin"].tolist(), strict=True)
    return np.array([k for k, one in enumerate(failed) if one not in kept], dtype=np.int64)


def _units(kinds: Int, origins: Int, data: Dataset) -> Names:
    """Return the independent unit of each curve: its trajectory, or the heap itself."""
    pairs = zip(kinds.tolist(), origins.tolist(), strict=True)
    return np.array(
        [f"heap {origin}" if kind == 1 else data.trajectory[origin] for kind, origin in pairs], dtype=np.str_
    )
