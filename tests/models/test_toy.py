"""Are the good toy's answers right, and does the contract kit catch every bad one?"""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.errors import ModelFailure, NotApplicable
from mlipbench.models.ase import AseModel, load, spec_of
from mlipbench.models.toy import Hangs, Springs
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model


def toy(name: str) -> AseModel:
    return load(spec_of(f"mlipbench.models.toy:{name}"), device="cpu")


def test_two_atoms_on_paper() -> None:
    # k = 2 eV/Å², r0 = 1 Å, rc = 4 Å, r = 2 Å: E = (2 - 1)² · (1 - 1/4)³ = 27/64 eV
    atoms = Atoms("H2", [[0, 0, 0], [2, 0, 0]], calculator=Springs(stiffness_eV_per_A2=2.0, length_A=1.0))
    assert atoms.get_potential_energy() == pytest.approx(27 / 64, abs=1e-14)
    # dE/dr = 2 (r - r0) f + (r - r0)² · 3 (3/4)² · (-2 r / rc²) = 27/32 - 27/64
    np.testing.assert_allclose(atoms.get_forces(), [[27 / 64, 0, 0], [-27 / 64, 0, 0]], atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(distance=st.floats(0.5, 6.0))
def test_slope_is_the_derivative_of_the_energy(distance: float) -> None:
    step, springs = 1e-5, Springs()
    above, below = (springs.pair(np.array(distance + h))[0] for h in (step, -step))
    if distance + step < springs.cutoff_A:
        assert springs.pair(np.array(distance))[1] == pytest.approx((above - below) / (2 * step), abs=1e-8)


def test_springs_fade_out_smoothly() -> None:
    energy, slope = Springs().pair(np.array([4.0 - 1e-4, 4.0]))
    assert abs(energy[0]) < 1e-10
    assert abs(slope[0]) < 1e-6
    assert energy[1] == slope[1] == 0.0


@pytest.mark.parametrize("i", range(8))
def test_forces_and_stress_are_derivatives(i: int) -> None:
    atoms = small_frames()[i]
    atoms.calc = Springs()
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-7)
    if atoms.pbc.all():
        np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8)


def test_springs_keep_the_contract() -> None:
    check_model(toy("Springs"), small_frames())


BROKEN = {
    "AlwaysRaises": (ModelFailure, "frame 0 .*RuntimeError: this toy always raises"),
    "ReturnsNaN": (ModelFailure, "forces is not finite"),
    "WrongShape": (ModelFailure, r"forces of shape \(\d, 2\)"),
    "MutatesAtoms": (ModelFailure, "changed the positions of the atoms"),
    "NotDeterministic": (AssertionError, "asked twice, the model gives two answers: energy"),
    "NotPermutationInvariant": (AssertionError, "depends on the order of the atoms"),
    "CopperOnly": (NotApplicable, "does not cover C, H, O"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_contract_has_teeth(name: str) -> None:
    error, says = BROKEN[name]
    with pytest.raises(error, match=says):
        check_model(toy(name), small_frames())


class Spoiled:
    """Springs whose answers are spoiled in one way that no calculator can show."""

    def __init__(self, way: str) -> None:
        self.good, self.way = toy("Springs"), way
        self.spec = self.good.spec

    def calculator(self):  # type: ignore[no-untyped-def]
        return Springs(length_A=1.6) if self.way == "calculator" else self.good.calculator()

    def site_energies(self, frames):  # type: ignore[no-untyped-def]
        found = self.good.predict(frames)
        even = np.repeat(found.energy / np.maximum(found.n_atoms, 1), found.n_atoms)
        return even + (self.way == "sites")

    def predict(self, frames):  # type: ignore[no-untyped-def]
        found = self.good.predict(frames)
        energy, forces, stress = found.energy.copy(), found.forces.copy(), found.stress.copy()
        has_stress = found.has_stress.copy()
        if self.way == "batch" and len(frames) > 1:
            energy[-1] += 1.0
        if self.way == "order of frames":
            energy = energy[::-1] if len(frames) == len(small_frames()) else energy
        if self.way == "lone atom":
            forces[np.repeat(found.n_atoms == 1, found.n_atoms)] += 0.1
        if self.way == "outside the cell":
            outside = [bool(((f.get_scaled_positions(wrap=False) < -1) & f.pbc).any()) for f in frames]
            energy = energy + np.array(outside, dtype=float) if frames else energy
        if self.way == "not extensive":
            energy = np.where(found.n_atoms == 8, energy + 1.0, energy)
        if self.way == "stress of a slab":
            has_stress = np.array([bool(f.pbc.any()) for f in frames], dtype=bool)
        if self.way == "hidden stress":
            stress[~has_stress] = 1.0
        if self.way == "leaves a calculator":
            for frame in frames:
                frame.calc = self.good.calculator()
        kind = np.float32 if self.way == "single precision" else np.float64
        return type(found)(
            n_atoms=found.n_atoms, energy=energy.astype(kind), forces=forces, stress=stress, has_stress=has_stress
        )


SPOILED = {
    "batch": "differ from one by one", "order of frames": "order of the frames|one by one",
    "lone atom": "a lone . atom feels a force", "outside the cell": "moves by a lattice vector",
    "not extensive": "not twice one cell", "stress of a slab": "is not periodic, and has a stress",
    "hidden stress": "it must be zero", "leaves a calculator": "left a calculator",
    "single precision": "float64 is needed", "calculator": "the calculator and predict differ",
    "sites": "site energies do not add up",
}  # fmt: skip


@pytest.mark.parametrize("way", SPOILED)
def test_the_contract_sees_what_is_spoiled(way: str) -> None:
    with pytest.raises(AssertionError, match=SPOILED[way]):
        check_model(Spoiled(way), small_frames())


def test_the_contract_passes_what_is_not_spoiled() -> None:
    check_model(Spoiled("nothing"), small_frames())


def test_made_up_elements_are_seen() -> None:
    class Boastful(Spoiled):
        def __init__(self) -> None:
            super().__init__("nothing")
            self.spec = type(self.spec)(name="b", kind="ase", elements=("H", "C", "O"))

    with pytest.raises(AssertionError, match="raise NotApplicable"):
        check_model(Boastful(), small_frames())


def test_hangs_takes_its_time() -> None:
    atoms = Atoms("H", calculator=Hangs(seconds=0.2))
    start = time.perf_counter()
    atoms.get_potential_energy()
    assert time.perf_counter() - start >= 0.2


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_crashes_takes_its_process_down() -> None:
    code = (
        "from ase import Atoms; from mlipbench.models.toy import Crashes; "
        "Atoms('H', calculator=Crashes()).get_potential_energy()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGSEGV
