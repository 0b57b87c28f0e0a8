"""Are packed and sampled structures what their names say?"""

import numpy as np
import pytest

pytest.importorskip("openmm")
pytest.importorskip("packmol")

from ase.data import covalent_radii

from mlipbench.generate.ecemc_gfn1 import settle
from mlipbench.generate.sampling import Protocol, gaff2_frames, molecule_numbers, pack
from mlipbench.physics.molecules import find_molecules
from mlipbench.units import density_g_per_cm3

SHORT = Protocol(
    temperature_K=300.0, equilibration_ps=0.05, gap_ps=0.02, n_frames=2, timestep_fs=0.5, friction_per_ps=2.0
)
MIX = {"EC": 1, "EMC": 2}


@pytest.mark.parametrize("density", [0.75, 1.35])
def test_a_box_has_the_density_asked_for(density: float) -> None:
    box = pack(MIX, density_g_cm3=density, seed=1)
    assert density_g_per_cm3(box.get_masses().sum(), box.get_volume()) == pytest.approx(density, abs=1e-5)


def test_seeds_decide() -> None:
    one, same, other = (pack(MIX, density_g_cm3=1.0, seed=seed).positions for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("density", [None, 1.2])
def test_sampled_molecules_stay_whole_and_numbered(density: float | None) -> None:
    start = pack(MIX, density_g_cm3=density, seed=3)
    _, molecule = molecule_numbers(MIX)
    for frame in gaff2_frames(start, MIX, SHORT, seed=4):
        settle(frame, molecule)
        found = find_molecules(
            frame.positions, frame.cell.array, frame.pbc, radii=covalent_radii[frame.numbers], radius_factor=1.25
        )
        np.testing.assert_array_equal(found, molecule)
        for number in range(3):  # whole: no molecule is longer than EMC can be
            assert np.ptp(frame.positions[molecule == number], axis=0).max() < 9.0
        np.testing.assert_array_equal(frame.positions, np.round(frame.positions, 6))
        if density is not None:
            centre = np.array([frame[molecule == n].get_center_of_mass(scaled=True) for n in range(3)])
            assert ((centre > -1e-5) & (centre < 1 + 1e-5)).all()


def test_sampling_repeats_bit_for_bit() -> None:
    start = pack(MIX, density_g_cm3=None, seed=3)
    one, same, other = (gaff2_frames(start, MIX, SHORT, seed=seed)[-1].positions for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
