"""Every failure is found when it happens and called by its name, and the healthy are left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii
from batched_lj import BatchedLJ

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.data import manifest
from mlipbench.physics.failures import KINDS, Trajectory, first_failure, heat_of_parts, largest_void_A
from mlipbench.simulate.driver import run
from mlipbench.units import BOLTZMANN_EV_PER_K, EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS

N_FRAMES, WHEN = 40, 25  # the failure comes in this frame
TEMPERATURE_K = 375.0


@cache
def liquid() -> tuple[Atoms, np.ndarray]:
    data = manifest.load(manifest.source("ecemc_gaff2_md")).split("mix12-375K-1kbar")
    assert data.molecule is not None
    return data.frames[0], data.molecule[: len(data.frames[0])]


def healthy(seed: int = 0) -> Trajectory:
    """A liquid whose atoms shiver and whose molecules wander, as an exact thermostat would have it."""
    atoms, molecule = liquid()
    rng = np.random.default_rng(seed)
    n = len(atoms)
    walk = np.cumsum(0.03 * rng.standard_normal((N_FRAMES, int(molecule.max()) + 1, 3)), axis=0)
    positions = atoms.positions + walk[:, molecule] + 0.02 * rng.standard_normal((N_FRAMES, n, 3))
    masses = atoms.get_masses()
    width = np.sqrt(BOLTZMANN_EV_PER_K * TEMPERATURE_K / (masses * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    velocities = width[:, None] * rng.standard_normal((N_FRAMES, n, 3))
    kinetic = 0.5 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * np.einsum("i,fia->f", masses, velocities**2)
    time = 0.25 * np.arange(N_FRAMES)
    return Trajectory(
        radii_A=covalent_radii[atoms.numbers], is_hydrogen=atoms.numbers == 1, masses_u=masses,
        pbc=np.ones(3, dtype=bool), molecule=molecule, time_ps=time, potential_eV=rng.normal(-5.0, 0.5, N_FRAMES),
        kinetic_eV=kinetic, volume_A3=atoms.get_volume() * (1.0 + 0.03 * rng.standard_normal(N_FRAMES)),
        conserved_eV=rng.normal(0.0, 0.005, N_FRAMES), temperature_K=TEMPERATURE_K, frame_time_ps=time,
        positions=positions, cells=np.repeat(atoms.cell.array[None], N_FRAMES, axis=0), velocities=velocities,
    )  # fmt: skip


def moved(seen: Trajectory, atom: int, to: np.ndarray) -> Trajectory:
    positions = seen.positions.copy()
    positions[WHEN:, atom] = to
    return replace(seen, positions=positions)


def bonded(seen: Trajectory, symbol_is_hydrogen: bool) -> tuple[int, int]:
    """A heavy atom, and a hydrogen or heavy atom bonded to it."""
    where, _ = seen.positions[0], seen.molecule
    for i in np.flatnonzero(~seen.is_hydrogen):
        for j in np.flatnonzero((seen.molecule == seen.molecule[i]) & (seen.is_hydrogen == symbol_is_hydrogen)):
            if i != j and np.linalg.norm(where[i] - where[j]) < 1.2 * (seen.radii_A[i] + seen.radii_A[j]):
                return int(i), int(j)
    raise AssertionError


def not_finite(seen: Trajectory) -> Trajectory:
    energy = seen.potential_eV.copy()
    energy[WHEN] = np.nan
    return replace(seen, potential_eV=energy)


def hot(seen: Trajectory) -> Trajectory:
    kinetic = seen.kinetic_eV.copy()
    kinetic[WHEN:] *= 6.0
    return replace(seen, kinetic_eV=kinetic)


def without_hydrogen(seen: Trajectory) -> Trajectory:
    heavy, light = bonded(seen, True)
    away = seen.positions[WHEN:, light] - seen.positions[WHEN:, heavy]
    return moved(seen, light, seen.positions[WHEN:, heavy] + 1.7 * away)


def in_pieces(seen: Trajectory) -> Trajectory:
    """An EMC whose end flies off: all atoms on one side of its longest chain."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from mlipbench.physics.molecules import find_bonds

    bonds = find_bonds(seen.positions[0], seen.cells[0], seen.pbc, radii=seen.radii_A)
    number = int(seen.molecule.max())  # EMC: a chain, every heavy bond of which parts it
    own = (seen.molecule[bonds.first] == number) & ~seen.is_hydrogen[bonds.first] & ~seen.is_hydrogen[bonds.second]
    n = len(seen.molecule)
    for cut in np.flatnonzero(own):
        kept = np.arange(len(bonds.first)) != cut
        graph = coo_array((np.ones(kept.sum()), (bonds.first[kept], bonds.second[kept])), shape=(n, n))
        part = connected_components(graph, directed=False)[1]
        side = part == part[bonds.second[cut]]
        if 1 < side.sum() < 8:
            positions = seen.positions.copy()
            axis = positions[WHEN:, bonds.second[cut]] - positions[WHEN:, bonds.first[cut]]
            positions[WHEN:, side] += 0.8 * axis[:, None]
            return replace(seen, positions=positions)
    raise AssertionError


def new_bond(seen: Trajectory) -> Trajectory:
    """Two oxygen atoms of different molecules come as close as peroxides."""
    oxygen = np.flatnonzero(np.abs(seen.radii_A - covalent_radii[8]) < 1e-9)
    first = int(oxygen[0])
    second = int(next(k for k in oxygen if seen.molecule[k] != seen.molecule[first]))
    shift = seen.positions[WHEN:, second] + np.array([0.0, 0.0, 1.5]) - seen.positions[WHEN:, first]
    positions = seen.positions.copy()
    positions[WHEN:, seen.molecule == seen.molecule[first]] += shift[:, None]
    return replace(seen, positions=positions)


def on_top(seen: Trajectory) -> Trajectory:
    heavy = int(np.flatnonzero(~seen.is_hydrogen)[0])
    other = int(np.flatnonzero(seen.molecule != seen.molecule[heavy])[0])
    return moved(seen, heavy, seen.positions[WHEN:, other] + [0.0, 0.0, 0.3])


def volume(factor: float) -> Callable[[Trajectory], Trajectory]:
    def change(seen: Trajectory) -> Trajectory:
        volumes = seen.volume_A3.copy()
        volumes[WHEN:] *= factor
        return replace(seen, volume_A3=volumes)

    return change


def torn_open(seen: Trajectory) -> Trajectory:
    """Half of the molecules stay, and the box is twice as long: vacuum beside a liquid."""
    cells = seen.cells.copy()
    cells[WHEN:, 2] *= 2.0
    return replace(seen, cells=cells)


def flying(seen: Trajectory) -> Trajectory:
    """All kinetic energy goes into one direction."""
    velocities = 0.02 * seen.velocities
    speed = np.sqrt(2.0 * seen.kinetic_eV / (seen.masses_u.sum() * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS))
    velocities[WHEN:, :, 0] += speed[WHEN:, None]
    return replace(seen, velocities=np.where(np.arange(N_FRAMES)[:, None, None] < WHEN, seen.velocities, velocities))


def drifting(seen: Trajectory) -> Trajectory:
    return replace(seen, conserved_eV=0.1 * len(seen.molecule) * seen.time_ps)


def cold(seen: Trajectory) -> Trajectory:
    return replace(seen, kinetic_eV=np.where(np.arange(N_FRAMES) < N_FRAMES // 4, 1.0, 0.2) * seen.kinetic_eV)


def still(seen: Trajectory) -> Trajectory:
    positions = seen.positions.copy()
    positions[WHEN:] = positions[WHEN]
    return replace(seen, positions=positions)


def hot_as_wholes(seen: Trajectory) -> Trajectory:
    """All kinetic energy goes into the translation of molecules; their sum stays at rest."""
    masses, molecule = seen.masses_u, seen.molecule
    total = np.bincount(molecule, masses)
    belongs = (molecule == np.arange(len(total))[:, None]) * masses / total[:, None]
    centres = np.einsum("mi,fia->fma", belongs, seen.velocities)
    centres -= np.einsum("m,fma->fa", total / total.sum(), centres)[:, None]
    wholes = centres[:, molecule]
    kinetic = 0.5 * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS * np.einsum("i,fia->f", masses, wholes**2)
    wholes *= np.sqrt(seen.kinetic_eV / kinetic)[:, None, None]
    return replace(seen, velocities=np.where(np.arange(N_FRAMES)[:, None, None] < WHEN, seen.velocities, wholes))


def near_transfer(seen: Trajectory) -> Trajectory:
    """A hydrogen atom leans over to an oxygen atom of another molecule, 1.25 Å away, and no bond is broken.

    A published trajectory that no criterion of bonds calls failed looks like this.
    """
    carbon, hydrogen = bonded(seen, True)
    oxygen = next(
        int(k) for k in np.flatnonzero(np.abs(seen.radii_A - covalent_radii[8]) < 1e-9)
        if seen.molecule[k] != seen.molecule[hydrogen]
    )  # fmt: skip
    # Only these two molecules, in a cell of their own, the oxygen atom outermost and in line with the C–H bond.
    own = np.flatnonzero((seen.molecule == seen.molecule[hydrogen]) | (seen.molecule == seen.molecule[oxygen]))
    positions = seen.positions[:, own].copy()
    donor = seen.molecule[own] == seen.molecule[hydrogen]
    h, c, o = (int(np.flatnonzero(own == k)[0]) for k in (hydrogen, carbon, oxygen))
    for where in positions:
        out = where[h] - where[c]
        out /= np.linalg.norm(out)
        away = where[~donor].mean(axis=0) - where[o]
        where[~donor] = where[o] + (where[~donor] - where[o]) @ turn(away / np.linalg.norm(away), out)
    lean = np.where(np.arange(N_FRAMES) < WHEN, 2.2, 1.25)
    out = positions[:, h] - positions[:, c]
    out /= np.linalg.norm(out, axis=1)[:, None]
    positions[:, ~donor] += (positions[:, h] + lean[:, None] * out - positions[:, o])[:, None]
    return replace(
        seen, radii_A=seen.radii_A[own], is_hydrogen=seen.is_hydrogen[own], masses_u=seen.masses_u[own],
        pbc=np.zeros(3, dtype=bool), molecule=np.where(donor, 0, 1), volume_A3=np.zeros(N_FRAMES), positions=positions,
        cells=np.zeros((N_FRAMES, 3, 3)), velocities=seen.velocities[:, own],
        kinetic_eV=seen.kinetic_eV * len(own) / len(seen.molecule),
    )  # fmt: skip


def turn(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The rotation, for rows, that takes one unit vector to another."""
    half = old + new
    half /= np.linalg.norm(half)
    flip = 2.0 * np.outer(half, half) - np.eye(3)  # half a turn about the bisector
    return flip.T


def frozen_late(seen: Trajectory) -> Trajectory:
    return replace(seen, kinetic_eV=np.where(np.arange(N_FRAMES) < WHEN, 1.0, 0.02) * seen.kinetic_eV)


FAILURES: dict[str, tuple[Callable[[Trajectory], Trajectory], str, float]] = {
    # what is done: called, and when at the latest in frames after it was done
    "not_finite": (not_finite, "non-finite", 0),
    "hot": (hot, "temperature runaway", 2),
    "without_hydrogen": (without_hydrogen, "hydrogen loss", 0),
    "in_pieces": (in_pieces, "fragmentation", 0),
    "new_bond": (new_bond, "bond change", 0),
    "on_top": (on_top, "atoms too close", 0),
    "shrunk": (volume(0.4), "density collapse", 2),
    "grown": (volume(8.0), "evaporation", 2),
    "torn_open": (torn_open, "bubble", 4),
    "flying": (flying, "flying ice cube", 0),
    "hot_as_wholes": (hot_as_wholes, "flying ice cube", 2),
    "near_transfer": (near_transfer, "bond change", 0),
    "frozen_late": (frozen_late, "frozen", 6),
    "still": (still, "frozen", 1),
}


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_liquid_raises_no_alarm(seed: int) -> None:
    assert first_failure(healthy(seed)) is None


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_found_when_it_comes(name: str) -> None:
    change, kind, late = FAILURES[name]
    found = first_failure(change(healthy()))
    assert found is not None
    assert found.kind == kind, found
    assert 0.25 * WHEN - 1e-9 <= found.time_ps <= 0.25 * (WHEN + late) + 1e-9, found
    assert found.reason


def test_a_drift_and_cold_are_found() -> None:
    drift, frost = first_failure(drifting(healthy())), first_failure(cold(healthy()))
    assert drift is not None
    assert drift.kind == "energy drift"
    assert "100.0 meV/atom/ps" in drift.reason
    assert frost is not None
    assert frost.kind == "frozen"


def test_what_led_to_a_number_that_is_none_comes_first() -> None:
    seen = without_hydrogen(healthy())
    energy = seen.potential_eV.copy()
    energy[WHEN + 8 :] = np.nan
    found = first_failure(replace(seen, potential_eV=energy))
    assert found is not None
    assert found.kind == "hydrogen loss"
    positions = healthy().positions.copy()
    positions[5] = np.nan
    earlier = first_failure(replace(healthy(), potential_eV=energy, positions=positions))
    assert earlier is not None
    assert (earlier.kind, earlier.time_ps) == ("non-finite", 0.25 * 5)


def test_a_bond_stretched_at_first_is_not_new_when_short() -> None:
    """The hottest C–H bonds of GAFF2 at 1200 K are beyond the rule by which bonds are found."""
    seen = healthy()
    heavy, light = bonded(seen, True)
    positions = seen.positions.copy()
    bond = positions[0, light] - positions[0, heavy]
    sums = seen.radii_A[heavy] + seen.radii_A[light]
    positions[0, light] = positions[0, heavy] + 1.28 * sums * bond / np.linalg.norm(bond)
    assert first_failure(replace(seen, positions=positions)) is None


def test_cold_and_frequent_frames_are_not_frozen() -> None:
    """At 1 K, with a frame every femtosecond, atoms move by less than 0.001 Å and do move."""
    seen, cold_K = healthy(), 1.0
    slow = np.sqrt(cold_K / TEMPERATURE_K)
    positions = seen.positions[0] + np.cumsum(np.full((N_FRAMES, 1, 1), slow) * seen.velocities[0], axis=0)
    steps = np.sqrt(np.mean(np.diff(positions, axis=0) ** 2, axis=(1, 2)))
    assert steps.max() < 1e-3
    time = 1e-3 * np.arange(N_FRAMES)
    chilled = replace(
        seen, temperature_K=cold_K, kinetic_eV=slow**2 * seen.kinetic_eV, positions=positions, time_ps=time,
        frame_time_ps=time, velocities=slow * seen.velocities, conserved_eV=np.zeros(0),
    )  # fmt: skip
    assert first_failure(chilled) is None


def test_a_drop_in_a_large_cell_is_no_bubble() -> None:
    seen = healthy()
    own = seen.molecule < 4
    drop = replace(
        seen, radii_A=seen.radii_A[own], is_hydrogen=seen.is_hydrogen[own], masses_u=seen.masses_u[own],
        molecule=seen.molecule[own], positions=seen.positions[:, own], velocities=seen.velocities[:, own],
        cells=np.repeat(50.0 * np.eye(3)[None], N_FRAMES, axis=0), volume_A3=np.full(N_FRAMES, 50.0**3),
        kinetic_eV=seen.kinetic_eV * own.sum() / len(own),
    )  # fmt: skip
    assert first_failure(drop) is None


def test_parts_of_the_heat_add_up_and_are_equal_on_average() -> None:
    seen = healthy()
    heat, freedom = heat_of_parts(seen, np.arange(N_FRAMES))
    np.testing.assert_allclose(heat.sum(axis=1), seen.kinetic_eV, rtol=1e-9)
    assert freedom.tolist() == [36, 36, 3 * len(seen.molecule) - 72]
    share = 2.0 * heat.mean(axis=0) / (freedom * BOLTZMANN_EV_PER_K * TEMPERATURE_K)
    assert (np.abs(share - 1.0) < 4.0 * np.sqrt(2.0 / (freedom * N_FRAMES))).all()


def test_a_molecule_that_leaves_a_cluster_is_found() -> None:
    atoms, molecule = liquid()
    few = np.flatnonzero(molecule < 3)
    seen = healthy()
    positions = seen.positions[:, few].copy()
    centre = positions[0].mean(axis=0)
    for number in range(3):  # put side by side, 4 Å apart
        own = molecule[few] == number
        positions[:, own] += centre + np.array([5.0 * number, 0.0, 0.0]) - positions[0, own].mean(axis=0)
    cluster = replace(
        seen, radii_A=seen.radii_A[few], is_hydrogen=seen.is_hydrogen[few], masses_u=seen.masses_u[few],
        pbc=np.zeros(3, dtype=bool), molecule=molecule[few], volume_A3=np.zeros(N_FRAMES), positions=positions,
        cells=np.zeros((N_FRAMES, 3, 3)), velocities=seen.velocities[:, few],
        kinetic_eV=seen.kinetic_eV * len(few) / len(atoms), conserved_eV=np.zeros(0),
    )  # fmt: skip
    assert first_failure(cluster) is None
    gone = positions.copy()
    gone[WHEN:, molecule[few] == 2] += [15.0, 0.0, 0.0]
    found = first_failure(replace(cluster, positions=gone))
    assert found is not None
    assert found.kind == "evaporation"
    assert found.time_ps == pytest.approx(0.25 * WHEN)


def watched(track: Track, atoms: Atoms, temperature: float, molecule: np.ndarray) -> Trajectory:
    return Trajectory(
        radii_A=covalent_radii[atoms.numbers], is_hydrogen=atoms.numbers == 1, masses_u=atoms.get_masses(),
        pbc=np.asarray(atoms.pbc), molecule=molecule, time_ps=track.time_ps, potential_eV=track.potential_eV,
        kinetic_eV=track.kinetic_eV, volume_A3=track.volume_A3, conserved_eV=track.conserved_eV,
        temperature_K=temperature, frame_time_ps=track.frame_time_ps, positions=track.positions, cells=track.cells,
        velocities=track.velocities,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [40.0, 95.0])  # a crystal and a liquid
def test_argon_raises_no_alarm(temperature: float) -> None:
    atoms = bulk("Ar", cubic=True, a=5.7).repeat(3)
    replica = Replica(name="a", atoms=atoms, seed=1, temperature_K=temperature, pressure_bar=500.0, timestep_fs=8.0)
    plan = Schedule(n_steps=400, friction_per_ps=2.0, sample_every=10, frame_every=40, keeps_velocities=True)
    (track,) = run(BatchedLJ(), [replica], plan, progress=no_progress)
    assert not track.failure
    assert first_failure(watched(track, atoms, temperature, np.arange(len(atoms)))) is None


def test_copper_raises_no_alarm() -> None:
    from ase.calculators.emt import EMT

    class Emt:
        from mlipbench.core.model import ModelSpec

        spec = ModelSpec(name="emt", kind="test")

        def calculator(self) -> EMT:
            return EMT()

    atoms = bulk("Cu", cubic=True).repeat(2)
    replica = Replica(name="a", atoms=atoms, seed=1, temperature_K=300.0, timestep_fs=4.0)
    plan = Schedule(n_steps=120, sample_every=5, frame_every=20, keeps_velocities=True)
    (track,) = run(Emt(), [replica], plan, progress=no_progress)
    assert first_failure(watched(track, atoms, 300.0, np.arange(len(atoms)))) is None


@pytest.mark.parametrize(("temperature", "pressure"), [(375.0, 1000.0), (1200.0, 25000.0)])
def test_gaff2_raises_no_alarm(temperature: float, pressure: float) -> None:
    """Its bonds cannot break, however hot."""
    pytest.importorskip("openmm")
    from mlipbench.core.model import ModelSpec
    from mlipbench.models.mm import load

    atoms, molecule = liquid()
    model = load(ModelSpec(name="gaff2", kind="mm"), device="cpu")
    replica = Replica(name="a", atoms=atoms, seed=3, temperature_K=temperature, pressure_bar=pressure, timestep_fs=1.0)
    plan = Schedule(n_steps=1500, sample_every=50, frame_every=50, keeps_velocities=True)
    (track,) = model.simulate([replica], plan, no_progress)
    kinetic = track.kinetic_eV[len(track.kinetic_eV) // 2 :].mean()
    assert kinetic == pytest.approx(1.5 * len(atoms) * BOLTZMANN_EV_PER_K * temperature, rel=0.1)
    assert first_failure(watched(track, atoms, temperature, molecule)) is None


def test_the_largest_void_of_a_lattice_is_its_hole() -> None:
    """In a simple cubic lattice the point farthest from all atoms is the cell's middle, √3/2 of the edge away."""
    atoms = Atoms("Ar", cell=[4.0] * 3, pbc=True).repeat(2)
    assert largest_void_A(atoms.positions, atoms.cell.array, spacing_A=0.5) == pytest.approx(np.sqrt(3) * 2.0)


def test_the_largest_void_of_a_skewed_cell_is_that_of_its_lattice() -> None:
    """A face-centred lattice in its primitive cell, and the same with one vector sheared by two others."""
    primitive = 2.0 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    for cell in (primitive, primitive + np.array([[0.0] * 3, [0.0] * 3, 3 * primitive[0] - 2 * primitive[1]])):
        assert largest_void_A(np.full((1, 3), 0.3), cell, spacing_A=0.1) == pytest.approx(2.0, abs=0.1)


def test_every_kind_is_named_once() -> None:
    assert len(set(KINDS)) == len(KINDS)
    named = {kind for _, kind, _ in FAILURES.values()} | {"energy drift", "frozen", "evaporation"}
    assert named == set(KINDS) - {"ended early", "oracle disagrees"}
