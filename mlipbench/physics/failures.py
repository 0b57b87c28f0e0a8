"""How does dynamics go wrong? Detectors of failures that need no reference, and which of them came first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mlipbench.physics.cells import Bool, Float, Int, complete_cell, minimum_image
from mlipbench.physics.molecules import find_bonds
from mlipbench.units import BOLTZMANN_EV_PER_K, EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS, MEV_PER_EV

Kind: TypeAlias = Literal[
    "non-finite", "temperature runaway", "fragmentation", "bond change", "atoms too close", "hydrogen loss",
    "density collapse", "bubble", "evaporation", "energy drift", "flying ice cube", "frozen", "ended early",
    "oracle disagrees",
]  # fmt: skip
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What still counts as healthy.

    Attributes:
        hot_factor: times the thermostat's temperature, beside eight standard deviations of the canonical distribution.
        cold_factor: the same below; for the second half of a trajectory.
        broken: a bond of the first frame is broken beyond this many sums of covalent radii: 1.7 Å for C–H, 2.3 Å for
            C–O; molecules of GAFF2, which cannot break, stay below 1.45 at 1200 K.
        bonded: atoms of two molecules closer than this many are bonded, the rule of `physics.molecules`.
        bonded_inside: the same for atoms of one molecule that were not bonded; neighbours of neighbours stay above.
        too_close: atoms closer than this many lie on top of each other: 0.5 Å for C–H.
        shrunk, grown: volume against the first one.
        void: radius of the largest empty sphere, in radii of the sphere that an atom has on average.
        drift_meV_atom_ps: of what thermostat and barostat leave unchanged.
        far_A: a molecule of a cluster with no atom of another one so near has evaporated.
        ice: kinetic energy of the whole system's motion in units of 3/2 kT; chance gives 15 once in 10^9 frames.
        still_A: root mean square displacement between frames below which nothing moves.
    """

    hot_factor: float = 1.3
    cold_factor: float = 0.5
    broken: float = 1.6
    bonded: float = 1.25
    bonded_inside: float = 1.15
    too_close: float = 0.5
    shrunk: float = 0.6
    grown: float = 2.0
    void: float = 3.2
    drift_meV_atom_ps: float = 30.0
    far_A: float = 10.0
    ice: float = 15.0
    still_A: float = 1e-3


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
    limits = limits or Limits()
    broken = non_finite(seen)
    if broken is not None:
        return broken
    detectors = (
        atoms_too_close, bond_failures, temperature_runaway, evaporated, volume_failures, bubble, flying_ice_cube,
        energy_drift, frozen,
    )  # fmt: skip
    found = [one for detector in detectors if (one := detector(seen, limits)) is not None]
    return min(found, key=lambda one: one.time_ps) if found else None


def non_finite(seen: Trajectory) -> Failure | None:
    """A number that is none."""
    for times, arrays in (
        (seen.time_ps, (seen.potential_eV, seen.kinetic_eV, seen.volume_A3)),
        (seen.frame_time_ps, (seen.positions, seen.cells)),
    ):
        for array in arrays:
            bad = ~np.isfinite(array.reshape(len(array), -1 if array.size else 0)).all(axis=1)
            if bad.any():
                return Failure(kind="non-finite", time_ps=float(times[np.argmax(bad)]), reason="a number is not finite")
    return None


def temperature_runaway(seen: Trajectory, limits: Limits) -> Failure | None:
    """A kinetic temperature that the canonical distribution does not reach."""
    if not seen.temperature_K > 0.0 or not len(seen.kinetic_eV):
        return None
    now, sigma = _temperature(seen)
    most = limits.hot_factor * seen.temperature_K + 8.0 * sigma
    hot = _running(now, 3) > most
    if not hot.any():
        return None
    k = int(np.argmax(hot))
    return Failure(
        kind="temperature runaway", time_ps=float(seen.time_ps[k]),
        reason=f"{now[k]:.0f} K with a thermostat at {seen.temperature_K:.0f} K; {most:.0f} K would be healthy",
    )  # fmt: skip


def frozen(seen: Trajectory, limits: Limits) -> Failure | None:
    """Atoms that stand still, or are far too cold in the second half."""
    if not seen.temperature_K > 0.0 or len(seen.kinetic_eV) < 4:
        return None
    now, sigma = _temperature(seen)
    half = len(now) // 2
    if now[half:].mean() < limits.cold_factor * seen.temperature_K - 2.0 * sigma:
        return Failure(
            kind="frozen", time_ps=float(seen.time_ps[half]),
            reason=f"{now[half:].mean():.1f} K on average with a thermostat at {seen.temperature_K:.0f} K",
        )  # fmt: skip
    if len(seen.positions) < 2:
        return None
    steps = np.sqrt(np.mean(np.diff(seen.positions.astype(np.float64), axis=0) ** 2, axis=(1, 2)))
    still = steps < limits.still_A
    if not still.any():
        return None
    k = int(np.argmax(still))
    return Failure(
        kind="frozen", time_ps=float(seen.frame_time_ps[k + 1]),
        reason=f"atoms moved {steps[k]:.1e} Å between two frames",
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
    """A molecule that has left a cluster."""
    if seen.pbc.any() or not seen.is_molecular or seen.molecule.max() < 1:
        return None
    for time, where in zip(seen.frame_time_ps, seen.positions, strict=True):
        for number in range(int(seen.molecule.max()) + 1):
            own = seen.molecule == number
            nearest = float(cKDTree(where[~own]).query(where[own])[0].min())
            if nearest > limits.far_A:
                return Failure(
                    kind="evaporation", time_ps=float(time),
                    reason=f"molecule {number} is {nearest:.1f} Å from every other one",
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


def atoms_too_close(seen: Trajectory, limits: Limits) -> Failure | None:
    """Two atoms on top of each other."""
    for time, i, j, distance, reach in _contacts(seen, limits.too_close):
        close = distance < limits.too_close * reach
        if close.any():
            k = int(np.argmin(distance / reach))
            return Failure(
                kind="atoms too close", time_ps=time, reason=f"atoms {i[k]} and {j[k]} are {distance[k]:.2f} Å apart"
            )
    return None


def bond_failures(seen: Trajectory, limits: Limits) -> Failure | None:
    """Bonds of the first frame that break, and bonds that form; a lost hydrogen atom, fragments, or another change."""
    if not seen.is_molecular or not len(seen.positions):
        return None
    bonds = find_bonds(
        seen.positions[0].astype(np.float64), seen.cells[0], seen.pbc, radii=seen.radii_A, radius_factor=limits.bonded
    )
    n = len(seen.molecule)
    known = set((np.minimum(bonds.first, bonds.second) * n + np.maximum(bonds.first, bonds.second)).tolist())
    reach = seen.radii_A[bonds.first] + seen.radii_A[bonds.second]
    contacts = _contacts(seen, limits.bonded)
    for k, (time, i, j, distance, sums) in enumerate(contacts):
        where = seen.positions[k].astype(np.float64)
        apart = minimum_image(where[bonds.second] - where[bonds.first], seen.cells[k], seen.pbc)
        length = np.linalg.norm(apart, axis=1)
        torn = length > limits.broken * reach
        if torn.any():
            return _torn(seen, time, bonds.first, bonds.second, length, torn)
        same = seen.molecule[i] == seen.molecule[j]
        near = distance < np.where(same, limits.bonded_inside, limits.bonded) * sums
        near &= np.array([key not in known for key in (np.minimum(i, j) * n + np.maximum(i, j)).tolist()], dtype=bool)
        if near.any():
            p = int(np.argmax(near))
            return Failure(
                kind="bond change", time_ps=time,
                reason=f"atoms {i[p]} and {j[p]}, not bonded at first, are {distance[p]:.2f} Å apart",
            )  # fmt: skip
    return None


def _torn(seen: Trajectory, time: float, first: Int, second: Int, length: Float, torn: Bool) -> Failure:
    """Name what a broken bond means."""
    k = int(np.argmax(np.where(torn, length, 0.0)))
    pair = f"atoms {first[k]} and {second[k]}, bonded at first, are {length[k]:.2f} Å apart"
    if (seen.is_hydrogen[first[torn]] | seen.is_hydrogen[second[torn]]).all():
        return Failure(kind="hydrogen loss", time_ps=time, reason=pair)
    n = len(seen.molecule)
    graph = coo_array((np.ones((~torn).sum()), (first[~torn], second[~torn])), shape=(n, n))
    pieces = connected_components(graph, directed=False)[0]
    kind: Kind = "fragmentation" if pieces > len(np.unique(seen.molecule)) else "bond change"
    return Failure(kind=kind, time_ps=time, reason=pair)


def bubble(seen: Trajectory, limits: Limits, *, most_frames: int = 12) -> Failure | None:
    """An empty sphere that no liquid has.

    Source: the grid of voids of aseMolec, with the radius of an atom's share of the volume as the unit.
    """
    if not seen.pbc.all() or not len(seen.positions):
        return None
    chosen = np.unique(np.linspace(0, len(seen.positions) - 1, most_frames).astype(np.int64))
    for k in chosen:
        cell = seen.cells[k]
        unit = (3.0 * abs(float(np.linalg.det(cell))) / (4.0 * np.pi * len(seen.molecule))) ** (1.0 / 3.0)
        radius = largest_void_A(seen.positions[k].astype(np.float64), cell, spacing_A=0.7 * unit)
        if radius > limits.void * unit:
            return Failure(
                kind="bubble", time_ps=float(seen.frame_time_ps[k]),
                reason=f"an empty sphere of {radius:.1f} Å, {radius / unit:.1f} times an atom's share of the volume",
            )  # fmt: skip
    return None


def largest_void_A(positions: Float, cell: Float, *, spacing_A: float) -> float:
    """Return the largest distance from a point of a grid to the nearest atom, with periodic images.

    Args:
        positions: shape (n_atoms, 3), Å.
        cell: shape (3, 3), Å.
        spacing_A: of the grid.
    """
    counts = np.maximum(np.ceil(np.linalg.norm(cell, axis=1) / spacing_A), 1).astype(np.int64)
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in counts), indexing="ij"), axis=-1).reshape(-1, 3)
    inside = positions @ np.linalg.inv(cell)
    inside -= np.floor(inside)
    images = np.stack(np.meshgrid(*((-1, 0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    around = (inside[None] + images[:, None]).reshape(-1, 3)
    # Atoms more than half a cell outside are nearest to nothing in it.
    around = around[((around > -0.5) & (around < 1.5)).all(axis=1)]
    return float(cKDTree(around @ cell).query(grid @ cell)[0].max())


def _contacts(seen: Trajectory, factor: float) -> Iterator[tuple[float, Int, Int, Float, Float]]:
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
