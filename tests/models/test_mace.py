"""Does a MACE checkpoint keep the contract, and is no other file ever unpickled?"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mace")

import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from untrained_mace import untrained

from mlipbench.core.model import ModelSpec
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.models import load as load_any
from mlipbench.models.mace import MaceModel, load
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import DOUBLE, check_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an untrained network, in double precision, for H, C and O."""
    return untrained(tmp_path_factory.mktemp("mace") / "untrained.model")


def spec_of(checkpoint: Path, **options: object) -> ModelSpec:
    return ModelSpec(name="untrained", kind="mace", checkpoint=str(checkpoint), options=options)


@pytest.fixture(scope="module", params=["float32", "float64"])
def model(request: pytest.FixtureRequest, checkpoint: Path) -> MaceModel:
    return load(spec_of(checkpoint, dtype=request.param), device="cpu")


@pytest.fixture(scope="module")
def double(checkpoint: Path) -> MaceModel:
    return load(spec_of(checkpoint), device="cpu")


def test_it_keeps_the_contract(model: MaceModel) -> None:
    check_model(model, small_frames())


def test_the_table_finds_it(checkpoint: Path) -> None:
    assert load_any(spec_of(checkpoint), device="cpu").spec.elements == ("H", "C", "O")


def test_the_networks_own_precision_is_the_default(double: MaceModel) -> None:
    assert double.dtype == "float64"
    assert next(double.network.parameters()).dtype is torch.float64


@pytest.mark.parametrize("i", [0, 4, 5, 6])
def test_forces_and_stress_are_derivatives(double: MaceModel, i: int) -> None:
    atoms = small_frames()[i]
    found = double.predict([atoms])
    moved = atoms.copy()
    moved.calc = double.calculator()
    np.testing.assert_allclose(found.forces, calculate_numerical_forces(moved, eps=1e-4), atol=1e-6)
    assert found.has_stress[0] == bool(atoms.pbc.all())
    if found.has_stress[0]:
        wanted = calculate_numerical_stress(moved, eps=1e-5, voigt=False)
        np.testing.assert_allclose(found.stress[0], wanted, atol=1e-6)


@pytest.mark.parametrize("batch_atoms", [1, 5, 10_000])
def test_the_size_of_batches_changes_nothing(checkpoint: Path, double: MaceModel, batch_atoms: int) -> None:
    other = load(spec_of(checkpoint, batch_atoms=batch_atoms), device="cpu")
    frames = small_frames() * 2
    np.testing.assert_allclose(other.predict(frames).energy, double.predict(frames).energy, rtol=1e-12)
    np.testing.assert_allclose(other.predict(frames).forces, double.predict(frames).forces, atol=1e-10)


def test_batches_are_bounded(checkpoint: Path) -> None:
    model = load(spec_of(checkpoint, batch_atoms=9), device="cpu")
    sizes = []
    ask = model.network.forward

    def watched(batch, **keywords):  # type: ignore[no-untyped-def]
        sizes.append(len(batch["positions"]))
        return ask(batch, **keywords)

    model.network.forward = watched
    model.predict(small_frames() * 3)
    assert max(sizes) <= 9
    assert sum(sizes) == 3 * sum(len(frame) for frame in small_frames())


def test_single_precision_energies_are_added_up_in_double(checkpoint: Path) -> None:
    # far apart, atoms are independent: E0s of 4000 eV each must not eat the last digits of their sum
    model = load(spec_of(checkpoint, dtype="float32"), device="cpu")
    one = model.predict([Atoms("O")]).energy[0]
    frame = Atoms("O64", [[20.0 * i, 0.0, 0.0] for i in range(64)])
    assert model.predict([frame]).energy[0] == pytest.approx(64 * one, abs=1e-9)
    frame.calc = model.calculator()
    assert frame.get_potential_energy() == pytest.approx(64 * one, abs=1e-9)


def test_elements_it_lacks(double: MaceModel) -> None:
    with pytest.raises(NotApplicable, match="frame 1: the MACE model untrained does not cover Cu; it covers H, C, O"):
        double.predict([Atoms("H"), Atoms("Cu")])


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (self.path,)


def test_a_file_that_is_not_the_one_named_never_runs(tmp_path: Path) -> None:
    trap, sprung = tmp_path / "trap.model", tmp_path / "sprung"
    torch.save(Trap(sprung), trap)
    spec = replace(spec_of(trap), checkpoint_sha256="0" * 64)
    with pytest.raises(BadInput, match=r"is not the one that model .* names"):
        load(spec, device="cpu")
    assert not sprung.exists()
    # the trap works: named without a sha256, it is trusted and runs
    with pytest.raises(BadInput, match="holds an object of type NoneType; a MACE network is needed"):
        load(spec_of(trap), device="cpu")
    assert sprung.exists()


def test_the_right_sha256_is_accepted(checkpoint: Path) -> None:
    right = sha256(checkpoint.read_bytes()).hexdigest()
    assert load(replace(spec_of(checkpoint), checkpoint_sha256=right), device="cpu").spec.checkpoint_sha256 == right


def test_files_that_are_no_model(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.model cannot be read: No such file"):
        load(spec_of(tmp_path / "nowhere.model"), device="cpu")
    text = tmp_path / "text.model"
    text.write_text("not a model")
    with pytest.raises(BadInput, match="cannot be read by the installed mace-torch"):
        load(spec_of(text), device="cpu")
    cut = tmp_path / "cut.model"
    cut.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(BadInput, match="cannot be read by the installed mace-torch"):
        load(spec_of(cut), device="cpu")
    with pytest.raises(BadInput, match="needs a checkpoint"):
        load(ModelSpec(name="none", kind="mace"), device="cpu")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtypes": "float32"}, "unknown option 'dtypes'. Did you mean 'dtype'"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"head": "pbe"}, "unknown head 'pbe'"),
        ({"batch_atoms": 0}, "batch_atoms = 0"),
    ],
)
def test_options_are_checked(checkpoint: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        load(spec_of(checkpoint, **options), device="cpu")


@pytest.fixture
def unset() -> Iterator[str]:
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = os.environ.pop(name, None)
    yield name
    os.environ.pop(name, None)
    if before is not None:
        os.environ[name] = before


def test_it_leaves_no_trace(checkpoint: Path, unset: str, capfd: pytest.CaptureFixture[str]) -> None:
    kind, filters = torch.get_default_dtype(), list(warnings.filters)
    load(spec_of(checkpoint), device="cpu").predict(small_frames())
    assert unset not in os.environ
    assert torch.get_default_dtype() is kind
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")


def test_a_users_mace_factory_still_loads(checkpoint: Path, unset: str, tmp_path: Path) -> None:
    # importing MACE lets its calculator unpickle; our loader takes that back, and lets the factory have it
    from mlipbench.models import ase

    load(spec_of(checkpoint), device="cpu")
    file = tmp_path / "mine.py"
    file.write_text(
        "import warnings\n"
        "from mace.calculators import MACECalculator\n"
        "def make(device):\n"
        "    warnings.simplefilter('ignore')\n"
        f"    return MACECalculator(model_paths={str(checkpoint)!r}, device=device, default_dtype='float64')\n"
    )
    theirs = ase.load(ase.spec_of(f"{file}:make"), device="cpu")
    assert unset not in os.environ
    frames = [frame for frame in small_frames() if np.abs(frame.positions).max() < 40]
    np.testing.assert_allclose(
        theirs.predict(frames).forces, load(spec_of(checkpoint), device="cpu").predict(frames).forces, atol=1e-8
    )
    with pytest.raises(NotApplicable, match="does not cover Cu"):
        theirs.predict([Atoms("Cu")])


def test_a_device_that_is_none(checkpoint: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown device 'cdua'\. Did you mean 'cuda'"):
        load(spec_of(checkpoint), device="cdua")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(checkpoint: Path) -> None:
    with pytest.raises(NotApplicable, match="torch finds no GPU"):
        load(spec_of(checkpoint), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_it_keeps_the_contract_on_a_gpu(checkpoint: Path) -> None:
    loose = replace(DOUBLE, energy_eV_per_atom=1e-8, forces_eV_per_A=1e-7)
    check_model(load(spec_of(checkpoint), device="cuda"), small_frames(), tolerance=loose)


def test_faster_kernels_must_give_the_same_answers(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A converted network that differs by a thousandth is refused before anything moves; an equal one is taken."""
    from mlipbench.errors import ModelFailure
    from mlipbench.models import mace_cueq

    def again(network: torch.nn.Module, device: str) -> torch.nn.Module:
        return load(spec_of(checkpoint), device=device).network

    model = load(spec_of(checkpoint, cuequivariance=True), device="cpu")
    frames = [frame for frame in small_frames() if len(frame) > 1]
    monkeypatch.setattr(mace_cueq, "find_spec", lambda name: None)
    with pytest.raises(NotApplicable, match=r"mlipbench\[cueq\]"):
        model.batch(frames)
    monkeypatch.setattr(mace_cueq, "find_spec", lambda name: object())
    monkeypatch.setattr(mace_cueq, "converted", again)
    assert model.batch(frames).memory() is not None

    def wrong(network: torch.nn.Module, device: str) -> torch.nn.Module:
        other = again(network, device)
        other.scale_shift.scale *= 1.001
        return other

    monkeypatch.setattr(mace_cueq, "converted", wrong)
    with pytest.raises(ModelFailure, match="changes the answers"):
        model.batch(frames)


def test_it_can_be_had_in_both_precisions(double: MaceModel) -> None:
    single = double.in_precision("float32")
    assert (single.dtype, double.dtype) == ("float32", "float64")
    assert double.in_precision("float64") is double
    frames = small_frames(["H", "C", "O"])
    one, other = single.predict(frames), double.predict(frames)
    assert 0.0 < np.abs(one.forces - other.forces).max() < 1e-4


def test_it_states_the_energies_of_lone_atoms(double: MaceModel) -> None:
    """A network with residual blocks need not keep them: that is what the benchmark `limits` asks."""
    stated = double.atom_energies()
    assert stated == pytest.approx({"H": -13.0, "C": -1030.0, "O": -2040.0})
    lone = double.predict([Atoms(symbol) for symbol in stated]).energy
    assert np.abs(lone - np.array(list(stated.values()))).max() < 1.0
