"""Whoever fails, whenever and however, leaves alone: the others' numbers are the same to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from batched_lj import BatchedLJ
from simulate.test_driver import ace, argon, water
from simulate.toys import FAULTS, Faulty, Field, gas, same

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dynamics import Replica, Schedule, Track
from mlipbench.simulate.driver import relax, run

NPT = Schedule(n_steps=12, sample_every=3, frame_every=4, barostat_every=4, relaxation_steps=2)
SENTENCES = {"raises": "the doomed have no answer"} | dict.fromkeys(
    ("energy", "forces", "virial"), "non-finite: energy, forces or virial of the model"
)


def replicas_of(starts: list[Atoms], doomed: int, **more: object) -> list[Replica]:
    found = []
    for k, start in enumerate(starts):
        atoms = start.copy()
        atoms.info["doomed"] = k == doomed
        found.append(
            Replica(name=str(k), atoms=atoms, seed=k, **{"temperature_K": 60.0, "pressure_bar": 300.0, **more})
        )
    return found


def evaluations(model: object, replicas: list[Replica], plan: Schedule) -> int:
    counted = Faulty(model, after=10**9)
    run(counted, replicas, plan, progress=no_progress)
    return counted.calls


def check_left(found: tuple[Track, ...], well: tuple[Track, ...], doomed: int, fault: str) -> None:
    for k, (one, other) in enumerate(zip(found, well, strict=True)):
        if k != doomed:
            assert same(one, other)
            assert not one.failure
            continue
        assert one.failure == SENTENCES[fault]
        n = len(one.time_ps)
        assert n < len(other.time_ps)
        assert one.ended_ps < other.ended_ps
        assert np.array_equal(one.potential_eV, other.potential_eV[:n])
        assert np.array_equal(one.positions, other.positions[: len(one.positions)])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("thermostat", ["langevin", "rescaling"])
def test_a_failure_at_any_evaluation_disturbs_nobody(thermostat: str, fault: str) -> None:
    """While it slides, is squeezed for its compressibility, breathes, and moves."""
    model, plan = BatchedLJ(cutoff_A=5.3), replace(NPT, thermostat=thermostat)
    replicas = replicas_of([argon(k) for k in range(3)], 1)
    well = run(model, replicas, plan, progress=no_progress)
    assert not any(track.failure for track in well)
    for after in range(evaluations(model, replicas, plan)):
        check_left(run(Faulty(model, after, fault), replicas, plan, progress=no_progress), well, 1, fault)


@pytest.mark.parametrize("doomed", [0, 2])
def test_the_first_and_the_last_may_leave_too(doomed: int) -> None:
    model = Field(stiffness_eV_A2=1.0)
    replicas = replicas_of([gas(3 + k, seed=k) for k in range(3)], doomed)
    well = run(model, replicas, NPT, progress=no_progress)
    for after in (0, 5, 9):
        check_left(run(Faulty(model, after), replicas, NPT, progress=no_progress), well, doomed, "energy")


@pytest.mark.parametrize("fault", ["energy", "raises"])
def test_aces_replicas_do_not_notice_either(fault: str) -> None:
    model, plan = ace(), replace(NPT, n_steps=20, relaxation_steps=0)
    replicas = replicas_of([water(k) for k in range(3)], 0, temperature_K=300.0, timestep_fs=0.3)
    well = run(model, replicas, plan, progress=no_progress)
    check_left(run(Faulty(model, 12, fault), replicas, plan, progress=no_progress), well, 0, fault)


def test_when_all_fail_each_has_its_reason() -> None:
    for fault in FAULTS:
        for after in range(8):
            replicas = replicas_of([argon(k) for k in range(2)], 0)
            for one in replicas:
                one.atoms.info["doomed"] = True
            found = run(Faulty(BatchedLJ(cutoff_A=5.3), after, fault), replicas, NPT, progress=no_progress)
            assert [track.failure for track in found] == [SENTENCES[fault]] * 2


def test_the_periodic_and_the_free_move_together_as_alone() -> None:
    """Only what is periodic has a virial; a cluster in the batch must not take the others' away."""
    cluster = Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [0, 3.8, 0]])
    replicas = [
        Replica(name="cluster", atoms=cluster, seed=0, temperature_K=30.0),
        Replica(name="box", atoms=argon(0), seed=1, temperature_K=30.0, pressure_bar=300.0),
        Replica(name="closed box", atoms=argon(1), seed=2, temperature_K=30.0),
    ]
    told: list[tuple[int, int]] = []
    together = run(BatchedLJ(), replicas, NPT, progress=lambda done, total, remark: told.append((done, total)))
    for one, track in zip(replicas, together, strict=True):
        (alone,) = run(BatchedLJ(), [one], NPT, progress=no_progress)
        assert track.name == one.name
        assert same(alone, track)
    assert not together[0].pressure_bar.any()
    assert together[1].pressure_bar.all()
    assert told[-1] == (24, 24)
    assert told == sorted(told)


def test_frames_slide_as_alone_and_the_failed_are_named() -> None:
    frames = [argon(k) for k in range(4)]
    for k, frame in enumerate(frames):
        frame.info["doomed"] = k == 2
        frame.rattle(0.02 * k, seed=k)
    found = relax(Faulty(BatchedLJ(), 5, "raises"), frames, n_steps=300, force_eV_A=1e-3)
    assert [one.failure for one in found] == ["", "", SENTENCES["raises"], ""]
    assert [one.rests for one in found] == [True, True, False, True]
    for k in (0, 1, 3):
        (alone,) = relax(BatchedLJ(), [frames[k]], n_steps=300, force_eV_A=1e-3)
        assert np.array_equal(alone.atoms.positions, found[k].atoms.positions)
        forces = BatchedLJ().predict([found[k].atoms]).forces
        assert np.linalg.norm(forces, axis=1).max() < 1e-3
        assert np.linalg.norm(BatchedLJ().predict([frames[k]]).forces, axis=1).max() > 1e-2
    assert all(one.failure for one in relax(Faulty(BatchedLJ(), 0), frames[2:3]))


def test_a_cluster_slides_into_its_known_minimum() -> None:
    """Thirteen Lennard-Jones atoms, an icosahedron of -44.326801 ε (Cambridge Cluster Database)."""
    from ase.cluster import Icosahedron

    atoms = Atoms(Icosahedron("Ar", 2, latticeconstant=5.4))
    atoms.set_cell(None)
    atoms.pbc = False
    atoms.rattle(0.2, seed=1)
    model = BatchedLJ(epsilon_eV=1.0, sigma_A=3.4, cutoff_A=60.0, is_shifted=False)
    (found,) = relax(model, [atoms], n_steps=500, force_eV_A=1e-4)
    assert found.rests
    assert found.energy_eV == pytest.approx(-44.326801, abs=2e-5)
