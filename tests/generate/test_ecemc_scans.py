"""The scans: the plan, what is rigid in it, and one frame of each level labelled again."""

from __future__ import annotations

import numpy as np
import pytest

from mlipbench.benchmarks.scan_curves import scans_of
from mlipbench.core.dataset import Dataset
from mlipbench.data import manifest
from mlipbench.generate import ecemc_scans as made
from mlipbench.generate import generator
from mlipbench.units import density_g_per_cm3

LEVELS = ("gfn1", "gfn2", "gaff2")


@pytest.fixture(scope="module")
def plan() -> tuple[made.Scan, ...]:
    return tuple(made.plan(manifest.load(manifest.source(made.SOURCE))))


@pytest.fixture(scope="module")
def shipped() -> dict[str, Dataset]:
    return {level: manifest.load(manifest.source(f"ecemc_scans/{level}")) for level in LEVELS}


def test_the_plan_is_what_ships(plan: tuple[made.Scan, ...], shipped: dict[str, Dataset]) -> None:
    wanted = [(scan.name, atoms) for scan in plan for atoms in scan.frames]
    for data in shipped.values():
        assert [name for name, _ in wanted] == list(data.trajectory)
        for (_, atoms), frame in zip(wanted, data.frames, strict=True):
            assert np.abs(atoms.positions - frame.positions).max() < 2e-6
            assert np.abs(atoms.cell.array - frame.cell.array).max() < 2e-6


def test_densities_and_coordinates(shipped: dict[str, Dataset]) -> None:
    data = shipped["gfn1"].split("volume")
    found = [density_g_per_cm3(atoms.get_masses().sum(), atoms.get_volume()) for atoms in data.frames]
    assert min(found) == pytest.approx(0.1, rel=1e-3) and max(found) == pytest.approx(2.5, rel=1e-3)
    assert found == pytest.approx([atoms.info["density_g_cm3"] for atoms in data.frames], rel=1e-5)
    for split, rigid in (("volume", True), ("affine", False), ("cluster", True), ("binding", True)):
        scans = scans_of(shipped["gfn1"].split(split), lone_elements=())
        assert {scan.is_rigid for scan in scans} == {rigid}
        assert sum(len(scan.company) for scan in scans) == len(shipped["gfn1"].split(split))


def test_pairs_start_in_contact(plan: tuple[made.Scan, ...]) -> None:
    pairs = [scan for scan in plan if scan.split == "binding"]
    assert len(pairs) == 12
    for scan in pairs:
        first = scan.frames[0].positions
        apart = first[scan.molecule == 0][:, None] - first[scan.molecule == 1][None]
        assert np.linalg.norm(apart, axis=2).min() == pytest.approx(made.CONTACT_A, abs=2e-5)


def test_a_liquid_binds_at_every_level(shipped: dict[str, Dataset]) -> None:
    for data in shipped.values():
        volume = data.split("volume")
        assert volume.energy_intra is not None
        inter = volume.energy - volume.energy_intra
        for name in dict.fromkeys(volume.trajectory):
            own = inter[np.array(volume.trajectory) == name]
            assert -4.5 < own.min() < -1.0  # eV, six molecules
            assert abs(own[0]) < 0.2 and own[-1] > 1.0


@pytest.mark.parametrize("level", LEVELS)
def test_a_label_made_again(
    level: str, plan: tuple[made.Scan, ...], shipped: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openmm" if level == "gaff2" else "tblite")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert callable(generator(f"ecemc_scans/{level}"))
    (scan,) = [scan for scan in plan if scan.name == "binding-EC-EC-0"]
    frame = 8
    record = made.labeller(level)(scan.frames[frame], scan.molecule)
    data = shipped[level]
    row = data.trajectory.index(scan.name) + frame
    assert record["energy"] == pytest.approx(data.energy[row], abs=2e-6)
    assert data.energy_intra is not None
    assert record["energy_intra"] == pytest.approx(data.energy_intra[row], abs=2e-6)
    assert np.abs(np.array(record["forces"]) - data.forces[data.offsets[row] : data.offsets[row + 1]]).max() < 2e-5


def test_a_scan_that_fails_is_recorded(plan: tuple[made.Scan, ...]) -> None:
    from ase.calculators.calculator import CalculationFailed

    def label(atoms: object, molecule: object) -> dict[str, object]:
        raise CalculationFailed("SCF not converged in 250 cycles")

    found = made.labels(plan[-1], label)  # type: ignore[arg-type]
    assert not found["frames"]
    assert found["failed"][0] == {"uid": "binding-EMC-EMC-3:0", "reason": "SCF not converged in 250 cycles"}
