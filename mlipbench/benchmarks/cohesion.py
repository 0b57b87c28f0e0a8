"""Does matter hold together, and does it keep apart?

condensed  four molecules or more, neutral: rigid molecules are pushed together until they nearly overlap, and pulled
           apart until they are alone; of large frames, a molecule and those around it
company    fewer, or charged: likewise, but nothing says that they must attract each other as they stand
atoms      crystals, slabs, single molecules, and frames of which no condensed piece can be taken: all atoms are scaled,
           up to 1.15 times their distances (1.4, where the energy still falls there), as data of such matter teach
           nothing of what lies beyond

Only centres (or atoms) move, and the cell with them. Nothing is compared with any reference. The slope of the energy
must be what forces and stress say (the molecular virial), which a stress of the wrong sign breaks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.asking import all_or_each, predict_pieces, smallest_frames
from mlipbench.benchmarks.comparison import Names, share_of, value_of
from mlipbench.benchmarks.frames import spread_out
from mlipbench.benchmarks.molecular import LONE_ELEMENTS
from mlipbench.benchmarks.operations import covered_by
from mlipbench.benchmarks.rigid import (
    Company,
    atom_by_atom,
    companies,
    energies_alone,
    touching_scale,
    virial_errors,
    virials,
)
from mlipbench.benchmarks.squeezing import nearest_contact
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import squares
from mlipbench.core.metric import Metric, MetricValue, Severity
from mlipbench.core.model import Bool, Float, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.physics.scans import shape_of
from mlipbench.units import MEV_PER_EV

CANDIDATES: Final = 4  # times as many frames are looked at as are scanned
VIRIAL_SCALES: Final = (0.97, 1.0, 1.06)
SHOWN_TO_MEV: Final = 500.0
SHOWN_POINTS: Final = 60
KINDS: Final = ("condensed", "company", "atoms")
ENOUGH: Final = 4  # molecules that are condensed matter: of two, turned as they are, the best distance may be infinite
CARVED: Final = 48  # atoms of a piece of a large frame
CHARGED: Final = 0.8  # times sums of covalent radii, where ions of opposite charge repel each other for certain
ATOMS_INNER: Final = 0.85  # scale; 1.6 times the density
ATOMS_OUTER: Final = (1.15, 1.4)  # scales; the second for frames that are squeezed themselves
# Contacts of molecules, in sums of covalent radii: nearer than this no liquid comes (H-H 0.8 Å, H-O 1.25 Å, O-O 1.7 Å,
# Ar 2.8 Å, an electronvolt or more up the wall, where 2000 K are 0.17 eV), and data teach nothing.
REACH: Final = 1.3
NOBLE: Final = ("He", "Ne", "Ar", "Kr", "Xe", "Rn")


def _flag(name: str, title: str, severity: Severity, says: str) -> Metric:
    """Return the definition of a share of scans that must be none."""
    return Metric(
        name=name, title=title, unit="", better="lower", good=0.0, bad=1e-3, role="check", severity=severity,
        headline=severity == "fatal", lowest=0.0, highest=1.0, says=f"share of {says}; interval over trajectories",
    )  # fmt: skip


METRICS: Final = (
    _flag(
        "no_minimum", "No minimum", "fatal",
        "scans of condensed matter, crystals and single molecules whose energy is nowhere lower than at both ends",
    ),
    _flag(
        "collapse", "Collapse", "fatal",
        "these that do not repel when pushed together, or whose wall has a hole of 5 % of the depth, of molecules up to"
        f" contacts of {REACH:g} sums of covalent radii",
    ),
    _flag(
        "collapse_farther", "Collapse farther in", "good to know",
        "these likewise, of molecules as near as they are pushed, where no liquid comes",
    ),
    _flag(
        "unbound", "Unbound", "fatal",
        "scans of condensed molecules that are nowhere better off by 1 meV each than alone",
    ),
    _flag(
        "double_minimum", "Double minimum", "good to know",
        "scans of condensed matter with more than one well of 5 % of the depth (and 1 meV per molecule)",
    ),
    _flag(
        "company_collapse", "Collapse of few", "good to know",
        "scans of fewer than four molecules, and of charged ones, that do not repel when pushed together",
    ),
    _flag(
        "not_computed", "Not computed", "fatal", "scans that the model failed on",
    ),
    Metric(
        name="virial_identity", title="Molecular virial", unit="", better="lower", good=2e-4, bad=5e-3, log_scale=True,
        headline=True, role="check", severity="must",
        says="difference of tr W - Σ (r - R)·f and minus the slope of the energy along the logarithm of the scale,"
        " relative to the larger of both and of their median size on the scan (at least 1 meV per molecule); root mean"
        " square over scans and scales; interval over trajectories",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What is pushed together and pulled apart.

    Attributes:
        kind: number in `KINDS`.
        one: molecules, or atoms, that are moved.
        is_known: are the charges of its molecules known, so that they can be asked for alone?
    """

    kind: int
    one: Company
    is_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohesion:
    """Push rigid molecules together and pull them apart, or scale crystals and single molecules.

    Attributes:
        n_frames: scans, each of another frame; those with most molecules, periodic ones first.
        max_atoms: of larger frames a molecule and its neighbours are taken, of crystals the smallest.
        nearest: contact at the inner end, in sums of covalent radii.
        farthest: scale at the outer end.
        n_points: of a scan.
        lone_elements: never bonded when molecules are found by the bond rule.
    """

    about: ClassVar[About] = About(
        name="cohesion",
        title="Cohesion",
        question="Does matter hold together, and does it keep apart?",
        metrics=METRICS,
        observe_version=3,
        score_version=3,
        source="rigid-molecule volume scans after I.-B. Magdău et al., npj Comput. Mater. 9, 146 (2023); molecular"
        " virial: M. P. Allen & D. J. Tildesley, Computer Simulation of Liquids (2017), section 2.4",
        grade="verification",
        seconds=4.0,
    )

    n_frames: int = 3
    max_atoms: int = 90
    nearest: float = 0.9
    farthest: float = 3.0
    n_points: int = 28
    lone_elements: tuple[str, ...] = LONE_ELEMENTS

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Ask along each scan.

        Raises:
            BadInput: a parameter is out of range.
            NotApplicable: there are only lone atoms, or the model does not cover the frames.
            ModelFailure: the model fails on all scans.
        """
        if not 0.5 <= self.nearest <= 1.5 or not 1.5 <= self.farthest <= 10.0 or self.n_points < 11:
            raise BadInput(
                f"cohesion: nearest is {self.nearest:g}, farthest {self.farthest:g} and n_points {self.n_points}; 0.5"
                " to 1.5, 1.5 to 10 and at least 11 are needed"
            )
        scans = self._chosen(model, data)
        answers = all_or_each(lambda some: [self._told(model, scan, context) for scan in some], scans)
        kept = [(scan, one) for scan, one in zip(scans, answers, strict=True) if not isinstance(one, ModelFailure)]
        failures = [(scan, one) for scan, one in zip(scans, answers, strict=True) if isinstance(one, ModelFailure)]
        if not kept:
            raise failures[0][1]
        seen = {name: np.array([one[name] for _, one in kept]) for name in kept[0][1]}
        virial = {name: seen.pop(name).ravel() for name in ("virial_told", "virial_slope", "virial_known")}
        return {
            "frame": np.array([scan.one.frame for scan, _ in kept]), "kind": np.array([scan.kind for scan, _ in kept]),
            "failed_frame": np.array([scan.one.frame for scan, _ in failures], dtype=np.int64),
            "failed_kind": np.array([scan.kind for scan, _ in failures], dtype=np.int64), **seen, **virial,
        }  # fmt: skip

    def _told(self, model: Model, scan: Scan, context: Context) -> dict[str, Float | Bool]:
        """Return what the model says of one scan; energies per molecule, less those of the molecules alone."""
        for outer in ATOMS_OUTER:
            scales = self._scales(scan, outer)
            frames = [scan.one.at(scale) for scale in scales.tolist()]
            energy = predict_pieces(model, frames, context, remark=KINDS[scan.kind]).energy
            if scan.kind != 2 or int(np.argmin(energy)) < len(energy) - 1:
                break
        reach = min(touching_scale(scan.one, nearest=REACH), 0.95) if scan.kind == 0 else float(scales[0])
        is_alone = scan.kind == 0 and scan.is_known
        alone = float(energies_alone(model, [scan.one], context)[0]) if is_alone else float(energy[-1])
        found = virials(model, [_moved(scan.one, scale) for scale in VIRIAL_SCALES], context)
        return {
            "scale": scales, "reach": np.array(reach), "energy": (energy - alone) / scan.one.n_molecules,
            "virial_told": found.told, "virial_slope": found.slope, "virial_known": found.known,
        }  # fmt: skip

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Return the share of scans with each flag, and how well the virial keeps its identity."""
        units: Names = np.array(data.trajectory)[seen["frame"]]
        failed: Names = np.array(data.trajectory)[seen["failed_frame"]]
        whole = [shape_of(energy) for energy in seen["energy"]]
        shapes = [
            shape_of(energy[scale >= reach - 1e-9])
            for energy, scale, reach in zip(seen["energy"], seen["scale"], seen["reach"], strict=True)
        ]
        condensed, company = seen["kind"] == 0, seen["kind"] == 1
        of_failed = seen["failed_kind"]
        own = {
            "no_minimum": (~company, of_failed != 1, "no_minimum"), "collapse": (~company, of_failed != 1, "collapse"),
            "unbound": (condensed, of_failed == 0, "unbound"),
            "double_minimum": (~company, of_failed != 1, "double_minimum"),
            "collapse_farther": (~company, of_failed != 1, "collapse"),
            "company_collapse": (company, of_failed == 1, "collapse"),
        }  # fmt: skip
        found = []
        for name, (kept, lost, field) in own.items():
            if kept.any():
                judged = whole if name == "collapse_farther" else shapes
                hit = np.array([getattr(shape, field) for shape in judged], dtype=bool)
                value = share_of(DEFINED[name], hit[kept], units[kept])
                left = tuple(failed[lost].tolist())
                found.append(replace(value, failed=left, n_all=value.n + len(set(left))))
        hit = np.repeat([False, True], [len(units), len(failed)])
        found.append(share_of(DEFINED["not_computed"], hit, np.concatenate([units, failed])))
        known = seen["virial_known"].astype(bool)
        if known.any():
            scan = np.repeat(np.arange(len(units)), len(VIRIAL_SCALES))
            errors = virial_errors(seen["virial_told"], seen["virial_slope"], scan)[known]
            value = value_of(DEFINED["virial_identity"], squares(errors), units[scan][known], "root_mean")
            found.append(replace(value, failed=tuple(failed.tolist()), n_all=value.n + len(set(failed.tolist()))))
        return tuple(found)

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show all scans, cut off above."""
        grid = np.linspace(float(seen["scale"].min()), float(seen["scale"].max()), SHOWN_POINTS)
        curves = [np.interp(grid, x, MEV_PER_EV * y) for x, y in zip(seen["scale"], seen["energy"], strict=True)]
        labels = zip(seen["frame"].tolist(), seen["kind"].tolist(), strict=True)
        return (
            Lines(
                title="Together and apart: energy less that of the molecules alone (of others, of the outer end)",
                x_axis=Axis(quantity="scale of the distances, 1 as in the data"),
                y_axis=Axis(quantity="energy", unit="meV/molecule"),
                names=tuple(f"{data.uid[frame]}, {KINDS[kind]}" for frame, kind in labels), x=grid,
                y=np.clip(np.array(curves), -4.0 * SHOWN_TO_MEV, SHOWN_TO_MEV),
            ),
        )  # fmt: skip

    def _chosen(self, model: Model, data: Dataset) -> list[Scan]:
        """Return what to scan: condensed matter first, with a cell before without, then that of most molecules.

        Where there is none, frames are scaled atom by atom, and the others say what they can beside that.
        """
        numbers, known = covered_by(model, data)
        offered = numbers[spread_out(known, CANDIDATES * self.n_frames)]
        small = [k for k in offered.tolist() if len(data.frames[k]) <= self.max_atoms]
        scans = [scan for k in small for scan in self._molecular(data, k)]
        if all(scan.kind != 0 for scan in scans):  # of large frames, a piece
            scans += [scan for k in offered.tolist() if k not in small for scan in self._molecular(data, k)]
        order = sorted(scans, key=lambda scan: (scan.kind, -int(scan.one.atoms.pbc.any()), -scan.one.n_molecules))
        if order and order[0].kind == 0:
            return [scan for scan in order if scan.kind == 0][: self.n_frames]
        whole = smallest_frames(data, offered, n_frames=self.n_frames)
        if len(data.frames[int(whole[0])]) > self.max_atoms:
            whole = whole[:1]
        return [Scan(kind=2, one=atom_by_atom(data, k)) for k in whole.tolist()] + order[: self.n_frames]

    def _molecular(self, data: Dataset, frame: int) -> list[Scan]:
        """Return the scan of a frame's molecules; nothing where it has fewer than two, or is a crystal."""
        try:
            (one,) = companies(data, np.array([frame]), lone_elements=self.lone_elements)
        except NotApplicable:
            return []
        is_named = data.molecule is not None or data.molecule_charges is not None
        if one.n_molecules == len(one.atoms) and not is_named and not set(one.atoms.symbols) <= set(NOBLE):
            return []  # salts and metals: which of their atoms are ions, nobody knows
        charge = one.atoms.info.get("charge", 0)
        is_known = bool(one.charges) or not charge
        if len(one.atoms) > self.max_atoms:
            one = one.nearest(CARVED, least=ENOUGH)
            charge = one.atoms.info.get("charge", 0)
        is_condensed = is_known and not charge and one.n_molecules >= ENOUGH
        return [Scan(kind=0 if is_condensed else 1, one=one, is_known=is_known)]

    def _scales(self, scan: Scan, outer: float) -> Float:
        """Return the scales of a scan, closer where molecules are close."""
        if scan.kind == 2:
            inner = min(ATOMS_INNER / nearest_contact(scan.one.atoms), ATOMS_INNER)
            return np.geomspace(inner, outer, self.n_points)
        is_charged = any(scan.one.charges) or not scan.is_known
        inner = min(touching_scale(scan.one, nearest=CHARGED if is_charged else self.nearest), 0.95)
        n_near = (2 * self.n_points) // 3
        near = np.linspace(inner, 1.25, n_near)
        return np.concatenate([near, np.geomspace(1.25, self.farthest, self.n_points - n_near + 1)[1:]])


def _moved(one: Company, scale: float) -> Company:
    """Return the molecules at another scale."""
    return Company(frame=one.frame, atoms=one.at(scale), molecule=one.molecule, charges=one.charges)
