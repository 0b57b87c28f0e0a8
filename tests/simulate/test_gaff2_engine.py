"""OpenMM drives GAFF2: is it as warm as it is told to be, and do molecules come back in the frame's own order?"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openmm")

from ase import Atoms
from ase.data import covalent_radii
from batched_lj import BatchedLJ
from simulate.toys import gas

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import OwnDynamics, Replica, Schedule, Track
from mlipbench.core.model import ModelSpec
from mlipbench.errors import NotApplicable
from mlipbench.models.gaff2 import template
from mlipbench.models.mm import load
from mlipbench.physics.cells import minimum_image
from mlipbench.physics.molecules import find_bonds
from mlipbench.physics.timeseries import mean_over_replicas
from mlipbench.simulate.driver import run
from mlipbench.units import BOLTZMANN_EV_PER_K, EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS

SIGMAS, EDGE_A, TEMPERATURE_K = 4.0, 13.0, 300.0
HEAT_EV = BOLTZMANN_EV_PER_K * TEMPERATURE_K
MODEL = load(ModelSpec(name="gaff2", kind="mm"), device="cpu")
PLAN = Schedule(n_steps=3000, friction_per_ps=10.0, sample_every=10, frame_every=50, keeps_velocities=True)


def box(*, cell: tuple[float, float, float] = (EDGE_A, EDGE_A, EDGE_A)) -> Atoms:
    """EMC, EC and EMC, atoms in disorder and wrapped one by one."""
    made = Atoms(cell=cell, pbc=True)
    for name, place in (("EMC", (0.0, 0, 0)), ("EC", (1.0, 0, 4.5)), ("EMC", (0.0, 1.0, 9.0))):
        known = template(name)
        made += Atoms(known.symbols, known.positions + np.array(place))
    made = made[np.random.default_rng(3).permutation(len(made))]
    made.wrap()
    return made


def replica(atoms: Atoms, **more: object) -> Replica:
    return Replica(**{"name": "box", "atoms": atoms, "seed": 1, "temperature_K": TEMPERATURE_K, **more})


@cache
def track() -> Track:
    (found,) = run(MODEL, [replica(box())], PLAN, progress=no_progress, by_own_engine=True)
    return found


def masses_u(atoms: Atoms) -> np.ndarray:
    """Hydrogen 3 u, at the expense of what it is bonded to."""
    masses = np.array([{1: 1.008, 6: 12.011, 8: 15.999}[z] for z in atoms.numbers])
    for i, j in bonds_of(atoms.positions, atoms):
        light, heavy = (i, j) if masses[i] < masses[j] else (j, i)
        if atoms.numbers[light] == 1:
            masses[heavy] -= 3.0 - masses[light]
            masses[light] = 3.0
    return masses


def bonds_of(positions: np.ndarray, atoms: Atoms) -> set[tuple[int, int]]:
    found = find_bonds(positions, atoms.cell.array, atoms.pbc, radii=covalent_radii[atoms.numbers])
    return {(int(i), int(j)) for i, j in zip(found.first, found.second, strict=True)}


def test_it_is_as_warm_as_it_is_told_to_be() -> None:
    found = mean_over_replicas([track().kinetic_eV])
    freedom = 3 * len(box())
    assert abs(found.mean - 0.5 * freedom * HEAT_EV) < SIGMAS * found.stderr
    assert abs(found.mean - 0.55 * freedom * HEAT_EV) > SIGMAS * found.stderr


def test_every_atom_has_its_own_mass() -> None:
    """m⟨v²⟩ = 3kT for each element: velocities come back in the frame's order, hydrogen with 3 u."""
    atoms, speeds = box(), track().velocities[5:].astype(float)
    heaviness = masses_u(atoms) * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS
    warmth = np.einsum("tia,tia->ti", speeds, speeds) * heaviness / (3.0 * HEAT_EV)
    for number in (1, 6, 8):
        found = mean_over_replicas([warmth[:, atoms.numbers == number].mean(axis=1)])
        assert abs(found.mean - 1.0) < SIGMAS * found.stderr
        assert abs(found.mean - 1.5) > SIGMAS * found.stderr
    disorder = np.random.default_rng(0).permutation(len(atoms))
    shuffled = np.einsum("tia,tia->ti", speeds[:, disorder], speeds[:, disorder]) * heaviness / (3.0 * HEAT_EV)
    found = mean_over_replicas([shuffled[:, atoms.numbers == 1].mean(axis=1)])
    assert abs(found.mean - 1.0) > SIGMAS * found.stderr  # in any other order it would show


def test_atoms_keep_their_places_in_the_frame() -> None:
    atoms, found = box(), track()
    away = minimum_image(found.positions[0].astype(float) - atoms.positions, atoms.cell.array, atoms.pbc)
    assert np.linalg.norm(away, axis=1).max() < 1e-4
    bonds = bonds_of(atoms.positions, atoms)
    assert len(bonds) == 14 + 10 + 14
    for k in (0, len(found.positions) // 2, -1):
        assert bonds_of(found.positions[k].astype(float), atoms) == bonds
        wrong = found.positions[k][np.random.default_rng(0).permutation(len(atoms))].astype(float)
        assert bonds_of(wrong, atoms) != bonds
        # Molecules are whole: bonds need no image.
        vectors = found.positions[k][[i for i, _ in bonds]] - found.positions[k][[j for _, j in bonds]]
        assert np.linalg.norm(vectors, axis=1).max() < 2.0


def test_samples_and_frames_come_when_they_should() -> None:
    found = track()
    np.testing.assert_allclose(found.time_ps, 0.01 * np.arange(301), atol=1e-9)
    np.testing.assert_allclose(found.frame_time_ps, 0.05 * np.arange(61), atol=1e-9)
    np.testing.assert_allclose(found.volume_A3, EDGE_A**3, rtol=1e-6)
    assert found.velocities.shape == found.positions.shape == (61, 40, 3)
    assert found.ended_ps == pytest.approx(3.0)


def test_a_pressure_moves_the_volume_and_a_finished_run_is_read(tmp_path: Path) -> None:
    plan = Schedule(n_steps=100, friction_per_ps=10.0, sample_every=50, frame_every=100)
    replicas = [replica(box(), pressure_bar=1.0), replica(box(), name="other", pressure_bar=1.0, seed=2)]
    told: list[tuple[int, int]] = []
    first = run(
        MODEL, replicas, plan, progress=lambda done, total, remark: told.append((done, total)), scratch=tmp_path,
        by_own_engine=True,
    )  # fmt: skip
    assert told[-1] == (200, 200)
    assert np.ptp(first[0].volume_A3) > 0.0
    assert not np.array_equal(first[0].potential_eV, first[1].potential_eV)
    again = run(MODEL, replicas, plan, progress=_refuse, scratch=tmp_path, by_own_engine=True)
    assert all(np.array_equal(one.positions, other.positions) for one, other in zip(first, again, strict=True))


def _refuse(done: int, total: int, remark: str) -> None:
    raise AssertionError("it runs again")


def test_what_it_cannot_drive_is_refused() -> None:
    def moved(atoms: Atoms, **plan: object) -> None:
        run(MODEL, [replica(atoms)], Schedule(**{"n_steps": 1, **plan}), progress=no_progress, by_own_engine=True)

    assert isinstance(MODEL, OwnDynamics)
    with pytest.raises(NotApplicable, match="cubic boxes only"):
        moved(box(cell=(13.0, 13.0, 14.0)))
    free = Atoms(template("EC").symbols, template("EC").positions)
    with pytest.raises(NotApplicable, match="cubic boxes only"):
        moved(free)
    with pytest.raises(NotApplicable, match="not with 'rescaling'"):
        moved(box(), thermostat="rescaling")
    with pytest.raises(NotApplicable, match="two cutoffs are"):
        moved(Atoms(template("EC").symbols, template("EC").positions, cell=[10.0] * 3, pbc=True))
    with pytest.raises(NotApplicable, match="is not in this GAFF2 force field"):
        moved(gas(2, edge_A=13.0))
    with pytest.raises(NotApplicable, match="no simulation engine of its own"):
        run(BatchedLJ(), [replica(gas(2))], PLAN, progress=no_progress, by_own_engine=True)
