"""Is any ASE calculator a model, and is every fault put where it belongs?"""

import os
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.core.model import ModelSpec
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models import load as load_any
from mlipbench.models.ase import AseModel, covered, load, spec_of
from mlipbench.models.toy import CopperOnly, Springs
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model

USER_FILE = """
from dataclasses import dataclass

from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

@dataclass
class Settings:
    sigma: float

def make(sigma=1.0, device="nowhere"):
    calculator = LennardJones(sigma=Settings(sigma).sigma, rc=3.0, smooth=True)
    calculator.device = device
    return calculator

def broken():
    raise RuntimeError("no weights here")

def number():
    return 3

ready = EMT()
constant = 3.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return path


def made(text: str, **arguments: object) -> AseModel:
    return load(ModelSpec(name="m", kind="ase", options={"factory": text, "arguments": arguments}), device="cpu")


def around(calculator: object, elements: tuple[str, ...] | None = None) -> AseModel:
    return AseModel(spec=ModelSpec(name="m", kind="ase", elements=elements), bare=calculator)


def test_emt_gives_what_ase_gives() -> None:
    model = load_any(spec_of("ase.calculators.emt:EMT"), device="cpu")
    frames = [molecule("CH3CH2OH"), bulk("Cu", cubic=True), molecule("H2O")]
    frames[1].rattle(0.05, seed=0)
    found = model.predict(frames)
    assert found.has_stress.tolist() == [False, True, False]
    for frame, energy, forces in zip(frames, found.energy, np.split(found.forces, found.offsets[1:-1]), strict=True):
        alone = frame.copy()
        alone.calc = EMT()
        assert energy == pytest.approx(alone.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(forces, alone.get_forces(), atol=1e-12)
        if frame.pbc.all():
            np.testing.assert_allclose(found.stress[1], alone.get_stress(voigt=False), atol=1e-12)


@pytest.mark.parametrize("calculator", [Springs(), LennardJones(sigma=1.2, rc=3.5, smooth=True)])
def test_calculators_keep_the_contract(calculator: Calculator) -> None:
    check_model(around(calculator), small_frames())


def test_emt_keeps_the_contract() -> None:
    # without the chain and slab whose atoms EMT's neighbour list cannot place, and with metals it was made for
    frames = [bulk("Cu", cubic=True), molecule("H2O"), bulk("AuCu", "rocksalt", a=5.0)]
    for frame in frames:
        frame.rattle(0.1, seed=1)
    check_model(around(EMT()), frames)


# what the user types


def test_a_file_becomes_a_spec_without_running(tmp_path: Path) -> None:
    path, trap = tmp_path / "trap.py", tmp_path / "sprung"
    path.write_text(f"from pathlib import Path\nPath({str(trap)!r}).touch()\ndef make(): ...\n")
    spec = spec_of(f"{path}:make")
    assert not trap.exists()
    assert (spec.name, spec.kind) == ("trap-make", "ase")
    assert spec.identity == f"sha256:{sha256(path.read_bytes()).hexdigest()}"
    assert spec.options["factory"] == f"{path}:make"


def test_a_relative_file_is_found_from_elsewhere(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of("mine.py:make", name="lj")
    monkeypatch.chdir("/")
    assert isinstance(load(spec, device="cpu").calculator(), LennardJones)
    assert spec.name == "lj"


def test_a_module_becomes_a_spec_without_an_import() -> None:
    import ase

    sys.modules.pop("ase.calculators.harmonic", None)
    spec = spec_of("ase.calculators.harmonic:HarmonicCalculator")
    assert "ase.calculators.harmonic" not in sys.modules
    assert spec.identity == f"ase=={ase.__version__}"
    assert spec.name == "HarmonicCalculator"


def test_a_module_without_distribution_is_known_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "loose_module.py").write_text("a = 1\n")
    first = spec_of("loose_module:a").identity
    (tmp_path / "loose_module.py").write_text("a = 2\n")
    assert first.startswith("sha256:")
    assert spec_of("loose_module:a").identity != first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("FILE", r"factory is missing; write '.*mine\.py:name'\. It defines Settings, broken, make, number"),
        ("FILE:mak", r"mine\.py: unknown name 'mak'\. Did you mean 'make'"),
        ("nowhere.py:make", r"nowhere\.py cannot be read: No such file"),
        ("nowhere.py", r"nowhere\.py cannot be read: No such file"),
        ("no_such_package.inside:make", "'no_such_package' of 'no_such_package.inside' is not installed"),
        ("just_a_word", "names no calculator factory; write 'file.py:name' or 'package.module:name'"),
        ("a module:make", "names no calculator factory"),
        ("ase.calculators.emt:", "names no calculator factory"),
        ("", "names no calculator factory"),
    ],
)
def test_what_names_no_factory(file: Path, text: str, says: str) -> None:
    with pytest.raises((BadInput, NotApplicable), match=says):
        spec_of(text.replace("FILE", str(file)))


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def make(:")
    with pytest.raises(BadInput, match=r"bad\.py is not valid Python"):
        spec_of(f"{tmp_path / 'bad.py'}:make")


@given(text=st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    try:
        assert spec_of(text).kind == "ase"
    except BadInput as error:
        assert str(error)


# how the factory is called


def test_functions_classes_and_instances_are_factories(file: Path) -> None:
    assert isinstance(made(f"{file}:make").bare, LennardJones)
    assert isinstance(made("ase.calculators.emt:EMT").bare, EMT)
    assert isinstance(made(f"{file}:ready").bare, EMT)


def test_arguments_and_device_are_handed_over(file: Path) -> None:
    model = made(f"{file}:make", sigma=2.5)
    assert model.bare.parameters["sigma"] == 2.5
    assert model.bare.device == "cpu"
    assert made(f"{file}:make", device="here").bare.device == "here"


@pytest.mark.parametrize(
    ("name", "arguments", "error", "says"),
    [
        ("make", {"sigmar": 1}, BadInput, "cannot take the arguments"),
        ("ready", {"x": 1}, BadInput, "is a calculator already and takes no arguments"),
        ("constant", {}, BadInput, "is of type float; a function, class or ASE calculator"),
        ("number", {}, BadInput, "gives an object of type int, which is not an ASE calculator"),
        ("broken", {}, ModelFailure, "could not be made: RuntimeError: no weights here"),
    ],
)
def test_factories_that_fail(
    file: Path, name: str, arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        made(f"{file}:{name}", **arguments)


def test_options_that_are_wrong() -> None:
    with pytest.raises(BadInput, match="unknown option 'factor'"):
        load(ModelSpec(name="m", kind="ase", options={"factor": "a:b"}), device="cpu")
    with pytest.raises(BadInput, match="'factory' is missing"):
        load(ModelSpec(name="m", kind="ase"), device="cpu")


def test_a_package_that_is_missing_and_a_module_that_is_misspelt(tmp_path: Path) -> None:
    (tmp_path / "needs.py").write_text("import no_such_package\ndef make(): ...\n")
    with pytest.raises(NotApplicable, match="'no_such_package' is not installed"):
        made(f"{tmp_path / 'needs.py'}:make")
    with pytest.raises(BadInput, match=r"there is no module 'ase\.calculators\.emd'"):
        made("ase.calculators.emd:EMT")


def test_errors_of_ours_pass_through(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "from mlipbench.errors import NotApplicable\ndef make():\n    raise NotApplicable('not on this machine')\n"
    )
    with pytest.raises(NotApplicable, match="not on this machine"):
        made(f"{tmp_path / 'ours.py'}:make")


# whose fault it is


class Says(Springs):
    """Raises an error when there is oxygen, or always."""

    def __init__(self, error: Exception, *, always: bool = False) -> None:
        super().__init__()
        self.error, self.always = error, always

    def calculate(self, atoms=None, *arguments, **keywords):  # type: ignore[no-untyped-def]
        if self.always or "O" in atoms.symbols:
            raise self.error
        super().calculate(atoms, *arguments, **keywords)


@pytest.mark.parametrize(
    "error",
    [
        KeyError(8), KeyError("O"), IndexError("index 8 is out of bounds"), NotImplementedError("No potential for O"),
        ValueError("8 is not in list"), RuntimeError("unknown element O"),
    ],
)  # fmt: skip
def test_an_element_it_lacks_does_not_apply(error: Exception) -> None:
    with pytest.raises(NotApplicable, match=r"frame 1 \(H2O\): the calculator does not cover O"):
        around(Says(error)).predict([molecule("CH4"), molecule("H2O")])


def test_a_copper_model_on_molecules_does_not_apply() -> None:
    with pytest.raises(NotApplicable, match="does not cover H, O"):
        around(CopperOnly()).predict([bulk("Cu"), molecule("H2O")])
    with pytest.raises(NotApplicable, match="does not cover Na"):
        around(EMT()).predict([Atoms("NaCu", [[0, 0, 0], [2, 0, 0]])])


@pytest.mark.parametrize("error", [KeyError("a bug"), NotImplementedError("later"), RuntimeError("element O is bad")])
def test_what_raises_for_every_element_has_failed(error: Exception) -> None:
    with pytest.raises(ModelFailure, match=type(error).__name__):
        around(Says(error, always=True)).predict([molecule("H2O")])


def test_an_error_that_lone_atoms_do_not_show_is_a_failure() -> None:
    class Crowded(Springs):
        def calculate(self, atoms=None, *arguments, **keywords):  # type: ignore[no-untyped-def]
            super().calculate(atoms, *arguments, **keywords)
            if len(atoms) > 2:
                raise KeyError("too many")

    with pytest.raises(ModelFailure, match="KeyError: 'too many'"):
        around(Crowded()).predict([molecule("H2O")])


def test_what_raises_without_a_hint_at_an_element_has_failed() -> None:
    with pytest.raises(ModelFailure, match=r"frame 0 \(H2O\): RuntimeError: SCF did not converge"):
        around(Says(RuntimeError("SCF did\n  not converge"))).predict([molecule("H2O")])


def test_declared_elements_are_kept_to() -> None:
    with pytest.raises(NotApplicable, match="frame 0: the model does not cover O; it covers H, C"):
        around(Springs(), ("H", "C")).predict([molecule("H2O")])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("elements", ["H", "O"], ("H", "O")),
        ("species", np.array(["H"]), ("H",)),
        ("allowed_atomic_numbers", np.array([1, 8]), ("H", "O")),
        ("elements", "HO", None),
        ("elements", [], None),
        ("species", {"a": 1}, None),
        ("elements", [0, 1], None),
        ("elements", [True], None),
        ("nothing", 1, None),
    ],
)
def test_calculators_say_what_they_cover(name: str, value: object, says: tuple[str, ...] | None) -> None:
    calculator = Springs()
    setattr(calculator, name, value)
    assert covered(calculator) == says


def test_an_interrupt_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        around(Says(KeyboardInterrupt(), always=True)).predict([Atoms("H")])  # type: ignore[arg-type]


# what it may not do


class Changes(Springs):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def calculate(self, atoms=None, *arguments, **keywords):  # type: ignore[no-untyped-def]
        super().calculate(atoms, *arguments, **keywords)
        if self.what == "numbers":
            atoms.numbers = atoms.numbers[::-1].copy()
        elif self.what == "cell":
            atoms.set_cell(atoms.cell.array + 1e-12)
        else:
            atoms.pbc = ~atoms.pbc


@pytest.mark.parametrize("what", ["numbers", "cell", "pbc"])
def test_changing_the_atoms_is_a_failure(what: str) -> None:
    frame = Atoms("CO", [[0, 0, 0], [1, 0, 0]], cell=[5, 5, 5])
    before = frame.copy()
    with pytest.raises(ModelFailure, match=f"changed the {what} of the atoms"):
        around(Changes(what)).predict([frame])
    assert frame == before


def test_a_broken_memory_does_not_leak() -> None:
    class Forgetful(Springs):
        def check_state(self, atoms, tol=1e-15):  # type: ignore[no-untyped-def]
            return []

    frames = [molecule("H2O"), molecule("CO2"), molecule("NH3")]
    np.testing.assert_array_equal(around(Forgetful()).predict(frames).energy, around(Springs()).predict(frames).energy)


def test_what_has_no_stress_has_none() -> None:
    class Unstressed(Springs):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
            super().calculate(*arguments, **keywords)
            del self.results["stress"]

    class Lying(Unstressed):
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

        def get_stress(self, atoms=None):  # type: ignore[no-untyped-def]
            raise PropertyNotImplementedError

    for calculator in (Unstressed(), Lying()):
        assert around(calculator).predict([bulk("Cu")]).has_stress.tolist() == [False]


def test_no_forces_is_a_failure() -> None:
    class Forceless(Calculator):  # type: ignore[misc]
        implemented_properties = ["energy"]  # noqa: RUF012

        def calculate(self, *arguments, **keywords):  # type: ignore[no-untyped-def]
            super().calculate(*arguments, **keywords)
            self.results = {"energy": 0.0}

    with pytest.raises(ModelFailure, match="PropertyNotImplementedError"):
        around(Forceless()).predict([Atoms("H")])


def test_constraints_hide_no_forces() -> None:
    frame = molecule("H2O")
    free = around(Springs()).predict([frame]).forces
    frame.set_constraint(FixAtoms([0, 1]))
    np.testing.assert_array_equal(around(Springs()).predict([frame]).forces, free)
    assert np.abs(free[0]).max() > 0.1


def test_the_variable_of_mace_is_left_alone(file: Path) -> None:
    before = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    made(f"{file}:make")
    assert os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD") == before
