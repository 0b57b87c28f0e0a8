"""How does dynamics go wrong? Detectors of failures that need no reference, and which of them came first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mlipbench.physics.cells import Bool, Float, Int, complete_cell, minimum_image, reduced_cell
from mlipbench.physics.forces import rotation_basis, split_forces
from mlipbench.physics.molecules import find_bonds
from mlipbench.units import BOLTZMANN_EV_PER_K, EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS, MEV_PER_EV

Kind: TypeAlias = Literal[
    "non-finite", "temperature runaway", "fragmentation", "bond change", "atoms too close", "hydrogen loss",
    "density collapse", "bubble", "evaporation", "energy drift", "flying ice cube", "frozen", "ended early",
    "oracle disagrees",
]  # fmt: skip
_Contacts: TypeAlias = tuple[float, Int, Int, Float, Float]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CHANCE: Final = 1e-9  # of a healthy frame to be called sick where the distribution is known
VIBRATION_PS: Final = 0.01  # the fastest ones' period: atoms fly freely for less than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What still counts as healthy.

    Attributes:
        hot_factor: times the thermostat's temperature, beside eight standard deviations of the canonical distribution.
        cold_factor: the same below; for the second half of a trajectory.
        broken: a bond of the first frame is broken beyond this many sums of covalent radii: 1.7 Å for C–H, 2.3 Å for
            C–O; molecules of GAFF2, which cannot break, stay below 1.27 at 1200 K.
        bonded: atoms of one molecule closer than this many in the first frame are bonded, the rule of
            `physics.molecules`.
        touching: atoms of two molecules closer than this many are bonded, and a hydrogen atom to any new partner:
            1.31 Å for O–H, where nothing but a transfer leads. GAFF2 keeps 1.71 between molecules and 1.50 for hydrogen
            inside, at 1200 K.
        bonded_inside: the same for other atoms of one molecule; neighbours of neighbours in a ring come down to 1.30.
        too_close: atoms closer than this many lie on top of each other: 0.5 Å for C–H.
        shrunk, grown: volume against the first one; GAFF2's fluid at 1200 K and 1 kbar breathes up to 3.9.
        void: radius of the largest empty sphere, in radii of the sphere that an atom has on average, as a mean of four
            frames; GAFF2's liquid reaches 2.8 in one, and its fluid at 1200 K and 1 kbar 3.2 on such a mean.
        void_growth: a bubble is also this many times larger than the largest void of the first frame.
        drift_meV_atom_ps: of what thermostat and barostat leave unchanged, over the whole length; the worst value of
            the scale of `nve_drift`. GAFF2 at 1200 K and 25 kbar, 2 fs, shows 2.1 in half a picosecond.
        far_A: molecules with no way to the others in steps so short have evaporated.
        ice: kinetic energy of the whole system's motion in units of 3/2 kT; chance gives 15 once in 10^9 frames.
        still: root mean square displacement between frames below which nothing moves, in units of how far heat carries
            free atoms in that time, or in 10 fs when that is shorter.
    """

    hot_factor: float = 1.3
    cold_factor: float = 0.5
    broken: float = 1.6
    bonded: float = 1.25
    touching: float = 1.35
    bonded_inside: float = 1.15
    too_close: float = 0.5
    shrunk: float = 0.6
    grown: float = 4.5
    void: float = 3.4
    void_growth: float = 1.3
    drift_meV_atom_ps: float = 10.0
    far_A: float = 10.0
    ice: float = 15.0
    still: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trajectory:
    """What the detectors look at; frames and samples may have times of their own.

    Attributes:
        radii_A: shape (n_atoms,), covalent radii; 0 for ions that stay alone.
        is_hydrogen: shape (n_atoms,).
        masses_u: shape (n_atoms,).
        pbc: shape (3,).
        molecule: shape (n_atoms,), from 0; each atom its own where there are no molecules, and then nothing is bonded.
        time_ps: shape (n_samples,).
        potential_eV, kinetic_eV: shape (n_samples,).
        volume_A3: shape (n_samples,); zeros without a cell.
        conserved_eV: shape (n_samples,), or empty.
        temperature_K: of the thermostat.
        frame_time_ps: shape (n_frames,).
        positions: shape (n_frames, n_atoms, 3), Å, molecules whole in the first.
        cells: shape (n_frames, 3, 3), Å.
        velocities: shape (n_frames, n_atoms, 3), Å/fs, or no frames.
    """

    radii_A: Float
    is_hydrogen: Bool
    masses_u: Float
    pbc: Bool
    molecule: Int
    time_ps: Float
    potential_eV: Float
    kinetic_eV: Float
    volume_A3: Float
    conserved_eV: Float
    temperature_K: float
    frame_time_ps: Float
    positions: NDArray[Any]
    cells: Float
    velocities: NDArray[Any]

    @property
    def is_molecular(self) -> bool:
        """Are there molecules of two atoms and more?"""
        return len(np.unique(self.molecule)) < len(self.molecule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong first.

    Attributes:
        kind: its name.
        time_ps: when it was first seen.
        reason: one sentence with numbers.
    """

    kind: Kind
    time_ps: float
    reason: str


def first_failure(seen: Trajectory, limits: Limits | None = None) -> Failure | None:
    """Return the earliest failure of a trajectory, or None when it is healthy.

    What is found at one time is named by the first detector in this order, which looks for causes before effects.
    """
    limits = Limits() if limits is None else limits
    ended = non_finite(seen)
    # What led there comes first, and only numbers can be looked at.
    sound = seen if ended is None else _before(seen, ended.time_ps)
    detectors = (
        contact_failures, temperature_runaway, evaporated, volume_failures, bubble, flying_ice_cube,
        unequal_heat, energy_drift, frozen,
    )  # fmt: skip
    found = [one for detector in detectors if (one := detector(sound, limits)) is not None]
    return min(found, key=lambda one: one.time_ps) if found else ended


def _before(seen: Trajectory, time_ps: float) -> Trajectory:
    """Return the part before a time."""
    samples, frames = seen.time_ps < time_ps, seen.frame_time_ps < time_ps
    return replace(
        seen, time_ps=seen.time_ps[samples], potential_eV=seen.potential_eV[samples],
        kinetic_eV=seen.kinetic_eV[samples], volume_A3=seen.volume_A3[samples],
        conserved_eV=seen.conserved_eV[samples] if len(seen.conserved_eV) else seen.conserved_eV,
        frame_time_ps=seen.frame_time_ps[frames], positions=seen.positions[frames], cells=seen.cells[frames],
        velocities=seen.velocities[frames] if len(seen.velocities) else seen.velocities,
    )  # fmt: skip


def non_finite(seen: Trajectory) -> Failure | None:
    """A number that is none, the earliest of all."""
    found = []
    for what, times, array in (
        ("position", seen.frame_time_ps, seen.positions),
        ("velocity", seen.frame_time_ps, seen.velocities),
        ("cell", seen.frame_time_ps, seen.cells),
        ("potential energy", seen.time_ps, seen.potential_eV),
        ("kinetic energy", seen.time_ps, seen.kinetic_eV),
        ("volume", seen.time_ps, seen.volume_A3),
        ("conserved energy", seen.time_ps, seen.conserved_eV),
    ):
        bad = ~np.isfinite(array.reshape(len(array), -1 if array.size else 0)).all(axis=1)
        if bad.any():
            time = float(times[np.argmax(bad)])
            found.append(Failure(kind="non-finite", time_ps=time, reason=f"a {what} is not finite"))
    return min(found, key=lambda one: one.time_ps) if found else None


def temperature_runaway(seen: Trajectory, limits: Limits) -> Failure | None:
    """A kinetic temperature that the canonical distribution does not reach."""
    if not seen.temperature_K > 0.0 or not len(seen.kinetic_eV):
        return None
    now, sigma = _temperature(seen)
    most = limits.hot_factor * seen.temperature_K + 8.0 * sigma
    mean = _running(now, 3)
    hot = mean > most
    if not hot.any():
        return None
    k = int(np.argmax(hot))
    return Failure(
        kind="temperature runaway", time_ps=float(seen.time_ps[k]),
        reason=f"{mean[k]:.0f} K with a thermostat at {seen.temperature_K:.0f} K; up to {most:.0f} K would be healthy",
    )  # fmt: skip


def frozen(seen: Trajectory, limits: Limits) -> Failure | None:
    """Atoms that stand still, or are far too cold in the second half."""
    if not seen.temperature_K > 0.0 or len(seen.kinetic_eV) < 4:
        return None
    now, sigma = _temperature(seen)
    half = len(now) // 2
    # A relaxed start gives half of its heat to the potential energy at once, so the first half may be cold.
    few = max(4, len(now) // 8)
    mean = _running(now, few)
    cold = (mean < limits.cold_factor * seen.temperature_K - 2.0 * sigma) & (np.arange(len(now)) >= half)
    if cold.any():
        k = int(np.argmax(cold))
        return Failure(
            kind="frozen", time_ps=float(seen.time_ps[k]),
            reason=f"{mean[k]:.1f} K on average with a thermostat at {seen.temperature_K:.0f} K",
        )  # fmt: skip
    if len(seen.positions) < 2:
        return None
    steps = np.sqrt(np.mean(np.diff(seen.positions.astype(np.float64), axis=0) ** 2, axis=(1, 2)))
    speed = np.sqrt(np.mean(_heat(seen) / (seen.masses_u * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS)))
    least = limits.still * speed * 1e3 * np.minimum(np.diff(seen.frame_time_ps), VIBRATION_PS)
    still = steps < least
    if not still.any():
        return None
    k = int(np.argmax(still))
    return Failure(
        kind="frozen", time_ps=float(seen.frame_time_ps[k + 1]),
        reason=f"atoms moved {steps[k]:.1e} Å between two frames; heat alone moves them more than {least[k]:.1e} Å",
    )  # fmt: skip


def volume_failures(seen: Trajectory, limits: Limits) -> Failure | None:
    """A liquid that collapses or boils off under constant pressure."""
    if not len(seen.volume_A3) or not seen.volume_A3[0] > 0.0:
        return None
    ratio = _running(seen.volume_A3, 3) / seen.volume_A3[0]
    wrong = (ratio < limits.shrunk) | (ratio > limits.grown)
    if not wrong.any():
        return None
    k = int(np.argmax(wrong))
    kind: Kind = "density collapse" if ratio[k] < 1.0 else "evaporation"
    return Failure(
        kind=kind, time_ps=float(seen.time_ps[k]), reason=f"the volume is {ratio[k]:.2f} times that of the start"
    )


def evaporated(seen: Trajectory, limits: Limits) -> Failure | None:
    """Molecules that have left a cluster or a surface; in a liquid, see `volume_failures` and `bubble`."""
    if seen.pbc.all() or not seen.is_molecular or seen.molecule.max() < 1:
        return None
    half, at_first = np.full(len(seen.molecule), 0.5 * limits.far_A), 0
    for k, (time, where, cell) in enumerate(zip(seen.frame_time_ps, seen.positions, seen.cells, strict=True)):
        near = find_bonds(where.astype(np.float64), cell, seen.pbc, radii=half, radius_factor=1.0)
        n, part = _pieces(seen.molecule[near.first], seen.molecule[near.second], int(seen.molecule.max()) + 1)
        at_first = n if k == 0 else at_first
        if n > at_first:
            gone = int(np.flatnonzero(part == np.argmin(np.bincount(part)))[0])
            return Failure(
                kind="evaporation", time_ps=float(time),
                reason=f"molecule {gone} is more than {limits.far_A:.1f} Å away from most others",
            )  # fmt: skip
    return None


def energy_drift(seen: Trajectory, limits: Limits) -> Failure | None:
    """What thermostat and barostat leave unchanged, changing."""
    if len(seen.conserved_eV) < 8 or not seen.time_ps[-1] > 0.0:
        return None
    per_atom = MEV_PER_EV * (seen.conserved_eV - seen.conserved_eV[0]) / len(seen.molecule)
    slope = float(np.polynomial.Polynomial.fit(seen.time_ps, per_atom, 1).convert().coef[1:].sum())
    # Short trajectories only fluctuate: the way gone must be more than a tenth of kT too.
    if abs(slope) < limits.drift_meV_atom_ps or abs(slope) * seen.time_ps[-1] < 0.1 * MEV_PER_EV * _heat(seen):
        return None
    passed = np.abs(per_atom) > 0.1 * MEV_PER_EV * _heat(seen)
    return Failure(
        kind="energy drift", time_ps=float(seen.time_ps[np.argmax(passed)] if passed.any() else seen.time_ps[-1]),
        reason=f"the conserved energy drifts by {slope:.1f} meV/atom/ps",
    )  # fmt: skip


def flying_ice_cube(seen: Trajectory, limits: Limits) -> Failure | None:
    """All energy in the motion of the whole, while its parts are cold.

    Source: S. C. Harvey, R. K.-Z. Tan & T. E. Cheatham, J. Comput. Chem. 19, 726 (1998).
    """
    if not len(seen.velocities) or not seen.temperature_K > 0.0 or len(seen.masses_u) < 2:
        return None
    momentum = np.einsum("i,fia->fa", seen.masses_u, seen.velocities.astype(np.float64))
    kinetic = 0.5 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * (momentum**2).sum(axis=1) / seen.masses_u.sum()
    share = kinetic / (1.5 * _heat(seen))
    if not (share > limits.ice).any():
        return None
    k = int(np.argmax(share > limits.ice))
    return Failure(
        kind="flying ice cube", time_ps=float(seen.frame_time_ps[k]),
        reason=f"the whole system flies with {share[k]:.0f} times the energy of thermal motion",
    )  # fmt: skip


def unequal_heat(seen: Trajectory, limits: Limits, *, most_frames: int = 50) -> Failure | None:
    """Molecules that are hot as wholes and cold inside, or the other way round, against equipartition.

    Each part of the motion has its own canonical distribution; a mean of three frames beyond what chance gives a single
    one is a failure, and so is one that stays cold on average over a quarter of the trajectory, after its first half.

    Source: S. C. Harvey, R. K.-Z. Tan & T. E. Cheatham, J. Comput. Chem. 19, 726 (1998).
    """
    if not len(seen.velocities) or not seen.temperature_K > 0.0 or not seen.is_molecular:
        return None
    chosen = np.unique(np.linspace(0, len(seen.velocities) - 1, most_frames).astype(np.int64))
    times, (heat, freedom) = seen.frame_time_ps[chosen], heat_of_parts(seen, chosen)
    found, few = [], len(chosen) // 4
    is_late = (np.arange(len(chosen)) >= len(chosen) // 2) & (few >= 4)
    n_molecules = len(np.unique(seen.molecule))
    for name, part, n in zip(("translation", "rotation", "vibration"), heat.T, freedom.tolist(), strict=True):
        if n == 0:
            continue
        now = 2.0 * part / (n * BOLTZMANN_EV_PER_K)
        brief, long = _running(now, 3), _running(now, max(few, 1))
        hot = brief > limits.hot_factor * seen.temperature_K * stats.chi2.isf(CHANCE, n) / n
        # Velocities last for at most about 1 ps; the whole's own motion may have been taken away.
        sigma = np.sqrt(2.0 / (n * max(1.0, 0.25 * float(times[-1] - times[0]))))
        least = limits.cold_factor * (1.0 - 1.0 / n_molecules) - 3.0 * sigma
        cold = (long < least * seen.temperature_K) & is_late
        if (hot | cold).any():
            k = int(np.argmax(hot | cold))
            kelvin, wanted = (brief if hot[k] else long)[k], seen.temperature_K
            reason = f"the {name} of molecules has {kelvin:.0f} K with a thermostat at {wanted:.0f} K"
            found.append(Failure(kind="flying ice cube", time_ps=float(times[k]), reason=reason))
    return min(found, key=lambda one: one.time_ps) if found else None


def heat_of_parts(seen: Trajectory, frames: Int) -> tuple[Float, Int]:
    """Return kinetic energies of the molecules' translation, rotation and vibration, and their degrees of freedom.

    A momentum splits as a force does (`physics.forces`), and the parts' energies add up to the whole.

    Args:
        seen: with velocities.
        frames: shape (n,), numbers of frames.

    Returns:
        Shape (n, 3), eV; and shape (3,).
    """
    masses, molecule = seen.masses_u, seen.molecule
    heat = np.zeros((len(frames), 3))
    for row, k in enumerate(frames):
        momenta = masses[:, None] * seen.velocities[k].astype(np.float64)
        parts = split_forces(momenta, seen.positions[k].astype(np.float64), masses, molecule)
        for column, part in enumerate((parts.translation, parts.rotation, parts.vibration)):
            heat[row, column] = 0.5 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * (part**2 / masses[:, None]).sum()
    first = seen.positions[0].astype(np.float64)
    groups = [np.flatnonzero(molecule == number) for number in np.unique(molecule)]
    turns = sum(rotation_basis(first[own], masses[own]).shape[1] for own in groups if len(own) > 1)
    return heat, np.array([3 * len(groups), turns, 3 * (len(molecule) - len(groups)) - turns], dtype=np.int64)


def contact_failures(seen: Trajectory, limits: Limits) -> Failure | None:
    """Atoms on top of each other; bonds of the first frame that break, and bonds that form.

    What breaks is a lost hydrogen atom, fragments, or another change.
    """
    if not len(seen.positions):
        return None
    bonds = _FirstBonds.of(seen, limits) if seen.is_molecular else None
    reach = max(limits.too_close, limits.touching, limits.bonded_inside) if bonds else limits.too_close
    for k, contacts in enumerate(_contacts(seen, reach)):
        found = _too_close(contacts, limits) or (bonds and _bond_failure(seen, limits, bonds, k, contacts))
        if found:
            return found
    return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _FirstBonds:
    """Bonds of the first frame, and the keys of pairs that are no new bonds when they are short."""

    first: Int
    second: Int
    sums: Float
    known: Int

    @classmethod
    def of(cls, seen: Trajectory, limits: Limits) -> _FirstBonds:
        """Find them; a bond that the first frame finds stretched is not new when it is short again."""
        place = (seen.positions[0].astype(np.float64), seen.cells[0], seen.pbc)
        bonds = find_bonds(*place, radii=seen.radii_A, radius_factor=limits.bonded)
        maybe = find_bonds(*place, radii=seen.radii_A, radius_factor=limits.touching)
        inside = seen.molecule[maybe.first] == seen.molecule[maybe.second]
        known = np.union1d(
            _keys(bonds.first, bonds.second, seen), _keys(maybe.first[inside], maybe.second[inside], seen)
        )
        sums = seen.radii_A[bonds.first] + seen.radii_A[bonds.second]
        return cls(first=bonds.first, second=bonds.second, sums=sums, known=known)


def _too_close(contacts: _Contacts, limits: Limits) -> Failure | None:
    """Two atoms on top of each other."""
    time, i, j, distance, sums = contacts
    if not (distance < limits.too_close * sums).any():
        return None
    k = int(np.argmin(distance / sums))
    reason = f"atoms {i[k]} and {j[k]} are {distance[k]:.2f} Å apart"
    return Failure(kind="atoms too close", time_ps=time, reason=reason)


def _bond_failure(seen: Trajectory, limits: Limits, bonds: _FirstBonds, k: int, contacts: _Contacts) -> Failure | None:
    """A bond broken or made in one frame."""
    time, i, j, distance, sums = contacts
    where = seen.positions[k].astype(np.float64)
    length = np.linalg.norm(minimum_image(where[bonds.second] - where[bonds.first], seen.cells[k], seen.pbc), axis=1)
    torn = length > limits.broken * bonds.sums
    if torn.any():
        return _torn(seen, time, bonds.first, bonds.second, length, torn)
    heavy_inside = (seen.molecule[i] == seen.molecule[j]) & ~seen.is_hydrogen[i] & ~seen.is_hydrogen[j]
    near = distance < np.where(heavy_inside, limits.bonded_inside, limits.touching) * sums
    near &= ~np.isin(_keys(i, j, seen), bonds.known)
    if not near.any():
        return None
    p = int(np.argmax(near))
    reason = f"atoms {i[p]} and {j[p]}, not bonded at first, are {distance[p]:.2f} Å apart"
    return Failure(kind="bond change", time_ps=time, reason=reason)


def _keys(first: Int, second: Int, seen: Trajectory) -> Int:
    """Return one number for each pair, whatever its order."""
    return np.asarray(np.minimum(first, second) * len(seen.molecule) + np.maximum(first, second))


def _pieces(first: Int, second: Int, n: int) -> tuple[int, Int]:
    """Return how many connected pieces a graph of n nodes has, and which one each node belongs to."""
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    number, part = connected_components(graph, directed=False)
    return int(number), np.asarray(part, dtype=np.int64)


def _torn(seen: Trajectory, time: float, first: Int, second: Int, length: Float, torn: Bool) -> Failure:
    """Name what a broken bond means."""
    k = int(np.argmax(np.where(torn, length, 0.0)))
    pair = f"atoms {first[k]} and {second[k]}, bonded at first, are {length[k]:.2f} Å apart"
    if (seen.is_hydrogen[first[torn]] ^ seen.is_hydrogen[second[torn]]).all():
        return Failure(kind="hydrogen loss", time_ps=time, reason=pair)
    n = len(seen.molecule)
    # Not against the molecules: one may be of several pieces from the start, such as a pair of ions.
    is_in_pieces = _pieces(first[~torn], second[~torn], n)[0] > _pieces(first, second, n)[0]
    return Failure(kind="fragmentation" if is_in_pieces else "bond change", time_ps=time, reason=pair)


def bubble(seen: Trajectory, limits: Limits, *, most_frames: int = 100) -> Failure | None:
    """An empty sphere that no liquid has, and that was not there at first.

    Source: the grid of voids of aseMolec, with the radius of an atom's share of the volume as the unit.
    """
    if not seen.pbc.all() or not len(seen.positions):
        return None
    chosen = np.unique(np.linspace(0, len(seen.positions) - 1, most_frames).astype(np.int64))
    volume = np.abs(np.linalg.det(seen.cells[chosen]))
    unit = (3.0 * volume / (4.0 * np.pi * len(seen.molecule))) ** (1.0 / 3.0)
    radius = np.array([
        largest_void_A(seen.positions[k].astype(np.float64), seen.cells[k], spacing_A=0.7 * float(one))
        for k, one in zip(chosen, unit, strict=True)
    ])
    # Voids of a hot fluid come and go; and a molecule in a large cell has one from the start.
    share, mean_A = _running(radius / unit, 4), _running(radius, 4)
    found = (share > limits.void) & (mean_A > limits.void_growth * radius[0])
    if not found.any():
        return None
    k = int(np.argmax(found))
    return Failure(
        kind="bubble", time_ps=float(seen.frame_time_ps[chosen[k]]),
        reason=f"an empty sphere of {mean_A[k]:.1f} Å, {share[k]:.1f} times an atom's share of the volume",
    )  # fmt: skip


def largest_void_A(positions: Float, cell: Float, *, spacing_A: float) -> float:
    """Return the largest distance from a point of a grid to the nearest atom, with periodic images.

    Args:
        positions: shape (n_atoms, 3), Å.
        cell: shape (3, 3), Å.
        spacing_A: of the grid.
    """
    cell, _ = reduced_cell(cell, np.ones(3, dtype=bool))
    counts = np.maximum(np.ceil(np.linalg.norm(cell, axis=1) / spacing_A), 1).astype(np.int64)
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = positions @ np.linalg.inv(cell)
    inside -= np.floor(inside)
    images = np.stack(np.meshgrid(*((-1, 0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    around = (inside[None] + images[:, None]).reshape(-1, 3)
    # Atoms farther outside are nearest to nothing in it: half an edge in a right-angled cell, 3/4 in a cell of 60°.
    around = around[((around > -0.75) & (around < 1.75)).all(axis=1)]
    return float(cKDTree(around @ cell).query(grid @ cell)[0].max())


def _contacts(seen: Trajectory, factor: float) -> Iterator[_Contacts]:
    """Give time, both atoms, distance and sum of radii of all pairs closer than a factor times their sum, by frame.

    Pairs of an atom and its own image are left out.
    """
    longest = 2.0 * factor * float(seen.radii_A.max(initial=0.0))
    for time, where, cell in zip(seen.frame_time_ps, seen.positions, seen.cells, strict=True):
        positions = where.astype(np.float64)
        half = np.full(len(positions), 0.5 * longest)
        bonds = find_bonds(positions, complete_cell(cell, seen.pbc), seen.pbc, radii=half, radius_factor=1.0)
        other = bonds.first != bonds.second
        i, j = bonds.first[other], bonds.second[other]
        distance, sums = np.linalg.norm(bonds.vectors[other], axis=1), seen.radii_A[i] + seen.radii_A[j]
        near = distance < factor * sums
        yield float(time), i[near], j[near], distance[near], sums[near]


def _heat(seen: Trajectory) -> float:
    """Return kT in eV."""
    return BOLTZMANN_EV_PER_K * max(seen.temperature_K, 1.0)


def _temperature(seen: Trajectory) -> tuple[Float, float]:
    """Return the kinetic temperature, K, shape (n_samples,), and its standard deviation in the canonical ensemble."""
    freedom = 3.0 * len(seen.masses_u)
    found: Float = 2.0 * seen.kinetic_eV / (freedom * BOLTZMANN_EV_PER_K)
    return found, float(np.sqrt(2.0 / freedom) * seen.temperature_K)


def _running(series: Float, n: int) -> Float:
    """Return the mean of the last n values, shape of the series."""
    padded = np.concatenate([np.full(n - 1, series[0]), series])
    found: Float = np.convolve(padded, np.full(n, 1.0 / n), mode="valid")
    return found
