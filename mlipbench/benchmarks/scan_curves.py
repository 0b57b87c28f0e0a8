"""Which frames of a data set make a scan, and what do a model and the reference say along it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlipbench.benchmarks.molecular import molecular, radii_A
from mlipbench.benchmarks.rigid import Company, Virials, charges_of, energies_alone, virials
from mlipbench.benchmarks.systems import Systems, as_numbers, predict_each
from mlipbench.core.benchmark import Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import Float, Int, Model
from mlipbench.data.units import is_guessed
from mlipbench.errors import BadInput, MissingPackage, ModelFailure, NotApplicable
from mlipbench.physics.molecules import are_whole, unwrap
from mlipbench.physics.scans import centres
from mlipbench.units import density_g_per_cm3

FEWEST_FRAMES: Final = 5
SAME: Final = 1e-6  # relative: places on a scan that are nearer to each other are one
RIGID_A: Final = 0.01  # a molecule whose distances change by less is rigid
N_VIRIALS: Final = 4  # places on a scan where the virial is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Frames of one data set along one coordinate, from the compressed to the expanded end.

    Attributes:
        name: the trajectory, or the composition where frames have none in common.
        company: of each frame, molecules whole.
        place: shape (n,): density in g/cm³ in a cell; scale of the centres' distances without one, 1 at the lowest
            energy of the reference; distance of the centres in Å of two molecules.
        size: shape (n,), ascending: volume in Å^3 in a cell, and `place` without one.
        is_periodic: is there a cell?
        is_rigid: do molecules keep their shape?
    """

    name: str
    company: tuple[Company, ...]
    place: Float
    size: Float
    is_periodic: bool
    is_rigid: bool

    @property
    def frames(self) -> Int:
        """Numbers of its frames in the data set."""
        return np.array([one.frame for one in self.company], dtype=np.int64)

    @property
    def n_molecules(self) -> int:
        """Number of molecules."""
        return self.company[0].n_molecules


def scans_of(data: Dataset, *, lone_elements: Sequence[str], pairs: bool = False) -> tuple[Scan, ...]:
    """Return the scans of a data set.

    Frames of one trajectory, with the same atoms in the same order, make a scan; where every frame stands for itself or
    trajectories are guessed, all frames with the same atoms do. Molecules are those that the data name. Where they name
    none, bonds of the most expanded frame decide for the whole scan, as those of squeezed frames would join molecules.

    Args:
        data: frames of scans.
        lone_elements: symbols of elements that are never bonded.
        pairs: is the coordinate of two molecules the distance of their centres?

    Raises:
        NotApplicable: there is no scan of five frames or more, with two molecules or more.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    own_name = len(set(data.trajectory)) < len(data)
    for frame, atoms in enumerate(data.frames):
        name = data.trajectory[frame]
        if not own_name or is_guessed(name):
            name = atoms.get_chemical_formula()
        groups.setdefault((name, tuple(atoms.numbers.tolist())), []).append(frame)
    found = []
    for (name, _), frames in groups.items():
        periods = {tuple(data.frames[k].pbc.tolist()) for k in frames}
        if len(frames) < FEWEST_FRAMES or len(periods) > 1 or 0 < sum(next(iter(periods))) < 3:
            continue
        try:
            company = _companies(data, frames, lone_elements)
        except NotApplicable:  # a molecule that is bonded to its own image
            continue
        if company[0].n_molecules > 1 and (company[0].n_molecules == 2 or not pairs):
            scan = _ordered(data, name, company, pairs=pairs)
            is_moved = bool((np.diff(scan.size) > SAME * scan.size[-1]).all())
            if is_moved and (scan.is_rigid or _is_scaled(scan)):  # else it is no scan, but a trajectory
                found.append(scan)
    if not found:
        raise NotApplicable(
            f"data set {data.spec.name} holds no scan here: {FEWEST_FRAMES} frames or more of the same"
            f" {'two molecules' if pairs else 'molecules'}, moved together and apart, in one trajectory, with a cell in"
            " all directions or in none"
        )
    return tuple(found)


def observe_scans(model: Model, scans: Sequence[Scan], context: Context, *, with_virials: bool) -> Observation:
    """Ask a model along scans, all frames at once.

    A frame without an answer is left out with its reason; its scan has failed, and what is left of it is shown only.

    Raises:
        ModelFailure: the model covers a frame, and has no answer for any.
        NotApplicable: it covers none.
    """
    company = [one for scan in scans for one in scan.company]
    of_scan = np.repeat(np.arange(len(scans)), [len(scan.company) for scan in scans])
    answered = predict_each(model, [one.atoms for one in company], context, remark="scans")
    rigid = [k for k in answered.kept.tolist() if scans[of_scan[k]].is_rigid]
    # of a rigid molecule's energy alone there is but one
    firsts = {int(of_scan[k]): k for k in reversed(rigid)}
    firsts, alone = _alone(model, firsts, company, context)
    seen = {
        "scan": of_scan[answered.kept], "frame": np.array([company[k].frame for k in answered.kept.tolist()]),
        "row": answered.kept, "energy": answered.said.energy,
        "alone_scan": np.array(list(firsts), dtype=np.int64), "alone": np.array(alone),
        "failed_frame": np.array([company[k].frame for k in answered.refused.tolist()], dtype=np.int64),
        "failed_row": answered.refused, "is_covered": answered.is_covered,
        "failed_reason": as_numbers(answered.reasons),
    }  # fmt: skip
    looked_at = _spread(rigid, of_scan) if with_virials else []
    found, looked_at = _virials(model, looked_at, company, context)
    if found is not None:
        seen |= {
            "virial_scan": of_scan[looked_at], "virial_told": found.told, "virial_slope": found.slope,
            "virial_known": found.known,
        }  # fmt: skip
    return seen


def _alone(
    model: Model, firsts: dict[int, int], company: Sequence[Company], context: Context
) -> tuple[dict[int, int], list[float]]:
    """Return the scans whose molecules the model answers for alone, and the sum of their energies, eV."""
    kept, energies = {}, []
    for number, row in firsts.items():
        try:
            energies.append(float(energies_alone(model, [company[row]], context)[0]))
        except MissingPackage:
            raise
        except (ModelFailure, NotApplicable):  # the scan then fails where the molecules alone are needed
            continue
        kept[number] = row
    return kept, energies


def _virials(
    model: Model, rows: list[int], company: Sequence[Company], context: Context
) -> tuple[Virials | None, list[int]]:
    """Return both sides of the molecular virial where the model answers, and for which frames."""
    if not rows:
        return None, []
    try:
        return virials(model, [company[k] for k in rows], context), rows
    except MissingPackage:
        raise
    except (ModelFailure, NotApplicable):
        pass
    parts, kept = [], []
    for row in rows:
        try:
            parts.append(virials(model, [company[row]], context))
        except (ModelFailure, NotApplicable):
            continue
        kept.append(row)
    if not parts:
        return None, []
    names = ("told", "slope", "known")
    told, slope, known = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
    return Virials(told=told, slope=slope, known=known), kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A scan as the reference and the model see it, where the model answered; energies per molecule, eV.

    Attributes:
        scan: it.
        rows: shape (n,), frames of the scan that are kept.
        reference: shape (n,), less the molecules alone where they are known, else less the most expanded frame.
        model: shape (n,), likewise.
        is_absolute: are both less the molecules alone?
    """

    scan: Scan
    rows: Int
    reference: Float
    model: Float
    is_absolute: bool

    @property
    def place(self) -> Float:
        """Coordinate of what is kept."""
        return np.asarray(self.scan.place[self.rows])

    @property
    def size(self) -> Float:
        """Ascending coordinate of what is kept."""
        return np.asarray(self.scan.size[self.rows])


def pairs_of(seen: Observation, data: Dataset, scans: Sequence[Scan]) -> list[Pair]:
    """Return reference and model side by side for each scan with five answers or more."""
    alone = dict(zip(seen["alone_scan"].tolist(), seen["alone"].tolist(), strict=True))
    first = _first_rows(scans)
    found = []
    for number, scan in enumerate(scans):
        own = seen["scan"] == number
        if np.count_nonzero(own) >= FEWEST_FRAMES:
            rows = seen["row"][own] - first[number]
            found.append(_pair(scan, rows, seen["energy"][own], alone.get(number), data))
    return found


def ignorant_pairs(data: Dataset, scans: Sequence[Scan]) -> list[Pair]:
    """Return the reference beside a model of a constant energy, for each scan."""
    return [_pair(scan, np.arange(len(scan.company)), np.zeros(len(scan.company)), 0.0, data) for scan in scans]


def _pair(scan: Scan, rows: Int, model: Float, alone: float | None, data: Dataset) -> Pair:
    """Return reference and model side by side; `alone` is what the model says of the molecules alone, eV."""
    frames = scan.frames[rows]
    zero_model, zero_reference = model[-1], data.energy[frames][-1]
    absolute = alone is not None and can_be_absolute(scan, data)
    if absolute and alone is not None and data.energy_intra is not None:
        zero_model, zero_reference = alone, data.energy_intra[frames]
    return Pair(
        scan=scan, rows=rows, is_absolute=absolute, model=(model - zero_model) / scan.n_molecules,
        reference=(data.energy[frames] - zero_reference) / scan.n_molecules,
    )  # fmt: skip


def can_be_absolute(scan: Scan, data: Dataset) -> bool:
    """Tell whether there is a reference for energies less those of the molecules alone."""
    return scan.is_rigid and data.energy_intra is not None


def systems_of(seen: Observation, data: Dataset, scans: Sequence[Scan], *, alone_too: bool) -> Systems:
    """Return which scans there are, and which of them miss an answer.

    Args:
        seen: as observed.
        data: the frames.
        scans: of the data.
        alone_too: is an answer for the molecules alone needed, where the reference has one?
    """
    of_row = np.repeat(np.arange(len(scans)), [len(scan.company) for scan in scans])
    refused = set(of_row[seen["failed_row"][seen["is_covered"]]].tolist())
    uncovered = set(of_row[seen["failed_row"][~seen["is_covered"]]].tolist())
    alone = set(seen["alone_scan"].tolist())
    if alone_too:
        refused |= {k for k, scan in enumerate(scans) if can_be_absolute(scan, data) and k not in alone}
    return Systems(
        names=tuple(scan.name for scan in scans),
        kinds=tuple(data.config_type[int(scan.frames[0])] for scan in scans),
        covered=frozenset(scan.name for k, scan in enumerate(scans) if k not in uncovered),
        failed=frozenset(scans[k].name for k in refused - uncovered),
    )


def _first_rows(scans: Sequence[Scan]) -> Int:
    """Return the number of the first frame of each scan, all scans in a row."""
    return np.concatenate([[0], np.cumsum([len(scan.company) for scan in scans])])


def _companies(data: Dataset, frames: Sequence[int], lone_elements: Sequence[str]) -> tuple[Company, ...]:
    """Return the frames of a scan with the same molecules in each."""
    by_size = sorted(frames, key=lambda k: _extent(data, k))
    offsets = data.offsets
    if data.molecule is not None:
        molecule = np.unique(data.molecule[offsets[frames[0]] : offsets[frames[0] + 1]], return_inverse=True)[1]
    else:
        widest = molecular(data, np.array(by_size[-1:]), lone_elements=lone_elements)
        molecule = widest.molecule
    out = []
    for frame in by_size:
        atoms = data.frames[frame].copy()
        if data.molecule is not None and not np.array_equal(
            np.unique(data.molecule[offsets[frame] : offsets[frame + 1]], return_inverse=True)[1], molecule
        ):
            raise BadInput(f"frame {data.uid[frame]}: its molecules are not those of the rest of its scan")
        atoms.positions = _whole(data, frame, molecule)
        atoms.set_array("molecule", molecule)
        charges = charges_of(data, frame, int(molecule.max()) + 1)
        out.append(Company(frame=frame, atoms=atoms, molecule=molecule, charges=charges))
    return tuple(out)


def _whole(data: Dataset, frame: int, molecule: Int) -> Float:
    """Return positions with every molecule whole; nearest images would mislead in a cell smaller than a molecule."""
    atoms = data.frames[frame]
    radii = radii_A(atoms.numbers, ())
    if not atoms.pbc.any() or are_whole(atoms.positions, molecule, radii=radii):
        return np.array(atoms.positions)
    return unwrap(atoms.positions, atoms.cell.array, atoms.pbc, molecule, radii=radii)


def _extent(data: Dataset, frame: int) -> float:
    """Return what orders the frames of a scan: the volume, or how far atoms are from each other."""
    atoms = data.frames[frame]
    if atoms.pbc.any():
        return float(atoms.get_volume())
    return float(np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0)))


def _ordered(data: Dataset, name: str, company: tuple[Company, ...], *, pairs: bool) -> Scan:
    """Find the coordinate of a scan's frames."""
    is_periodic = bool(company[0].atoms.pbc.all())
    middles = [centres(one.atoms.positions, one.atoms.get_masses(), one.molecule) for one in company]
    if is_periodic:
        size = np.array([one.atoms.get_volume() for one in company])
        place = _densities(company, size)
    else:
        spread = [np.sqrt(((m - m.mean(axis=0)) ** 2).sum(axis=1).mean()) for m in middles]
        size = 2.0 * np.array(spread) if pairs else np.array(spread)
        if not pairs:
            size /= size[int(np.argmin(data.energy[[one.frame for one in company]]))]
        place = size
    order = np.argsort(size, kind="stable")
    company, place, size = tuple(company[int(k)] for k in order), place[order], size[order]
    middles = [middles[int(k)] for k in order]
    shape = [_inside(one, middle) for one, middle in zip(company, middles, strict=True)]
    is_rigid = max(float(np.abs(one - shape[0]).max()) for one in shape) < RIGID_A
    return Scan(name=name, company=company, place=place, size=size, is_periodic=is_periodic, is_rigid=is_rigid)


def _is_scaled(scan: Scan) -> bool:
    """Tell whether all distances between atoms are those of the first frame, times one number."""
    apart = [one.atoms.positions - one.atoms.positions.mean(axis=0) for one in scan.company]
    first = np.linalg.norm(apart[0], axis=1)
    for positions in apart[1:]:
        lengths = np.linalg.norm(positions, axis=1)
        if np.abs(lengths - first * (lengths @ first) / (first @ first)).max() > RIGID_A:
            return False
    return True


def _densities(company: Sequence[Company], volumes_A3: Float) -> Float:
    mass_u = float(company[0].atoms.get_masses().sum())
    return np.array([density_g_per_cm3(mass_u, volume) for volume in volumes_A3.tolist()])


def _inside(one: Company, middle: Float) -> Float:
    """Return the distance of each atom from the centre of its molecule."""
    return np.asarray(np.linalg.norm(one.atoms.positions - middle[one.molecule], axis=1))


def _spread(rows: Sequence[int], of_scan: Int) -> list[int]:
    """Return a few rows of each scan, evenly spaced."""
    out: list[int] = []
    for number in np.unique(of_scan[list(rows)]).tolist():
        own = [k for k in rows if of_scan[k] == number]
        if len(own) < 3:
            continue
        out += [own[int(k)] for k in np.unique(np.linspace(1, len(own) - 2, N_VIRIALS).round())]
    return out
