"""Training a GAP: what gap_fit is told, how its end is told, and, where it is installed, what it learns."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from mlipbench.core.benchmark import no_progress
from mlipbench.core.dataset import Dataset
from mlipbench.core.model import ModelSpec, Trained
from mlipbench.errors import BadInput, MissingPackage, ModelFailure
from mlipbench.models.gap import GapModel, load
from mlipbench.models.gap_file import XML, parse
from mlipbench.testing.frames import small_frames
from mlipbench.testing.models import check_model
from mlipbench.training import gap
from mlipbench.training.gap import CHECKPOINT, LOG, collected, gap_fit_program, run_gap_fit, train
from mlipbench.training.gap_input import Options, arguments, frames_text, gap_terms, read_options

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "cutoff_A": 4.2, "n_max": 3, "l_max": 2, "n_sparse": 20, "pair_cutoff_A": 4.2, "pair_n_sparse": 10,
    "atom_sigma_A": 0.4, "energy_sigma_eV": 1e-4, "forces_sigma_eV_per_A": 0.005, "virial_sigma_eV": 1e-3,
}  # fmt: skip
E0_EV = {"H": -3.0, "C": -7.0, "O": -11.0}


def bent(n_frames: int, seed: int) -> list[Atoms]:
    """Return bent molecules OCH near one shape; every other one repeats."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n_frames):
        frame = Atoms("OCH", np.array([[0, 0, 0], [1.4, 0, 0], [1.9, 1.3, 0.2]]) + rng.normal(0.0, 0.06, (3, 3)))
        if i % 2:
            frame.set_cell([3.4, 3.6, 3.8])
            frame.pbc = True
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def data(make_data: Callable[..., Dataset]) -> tuple[Dataset, Dataset]:
    return make_data(bent(16, 0)), make_data(bent(6, 1))


def trained(data: tuple[Dataset, Dataset], out: Path, **options: Any) -> tuple[Trained, GapModel]:
    pytest.importorskip("quippy")
    made = train(*data, options={**TINY, **options}, seed=0, device="cpu", out=out, progress=no_progress)
    return made, load(ModelSpec(name="a", kind=made.kind, checkpoint=str(out / made.checkpoint)), device="cpu")


@pytest.fixture(scope="module")
def once(data: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, GapModel, Path]:
    out = tmp_path_factory.mktemp("gap")
    return *trained(data, out), out


# ---- what gap_fit is told ------------------------------------------------------------------------------------------


def test_terms_are_pairs_that_meet_and_one_soap_per_element(make_data: Callable[..., Dataset]) -> None:
    pair = [Atoms("CO", [[0, 0, 0], [1.1 + 0.1 * k, 0, 0]]) for k in range(2)]
    options = Options(cutoff_A=3.0, pair_cutoff_A=2.0, n_sparse=3, n_max=5)
    terms = gap_terms(make_data(pair), options, ("C", "O"))
    assert [term.split()[:3] for term in terms[:-2]] == [["distance_2b", "Z1=6", "Z2=8"]]
    assert all(term.startswith("soap_turbo l_max=3 alpha_max={{5 5}} atom_sigma_r={{0.3 0.3}} ") for term in terms[-2:])
    assert "species_Z={{6 8}} central_index=2 " in terms[-1]
    assert "rcut_hard=3.0 rcut_soft=2.5 " in terms[-1]
    assert " n_sparse=3 " in terms[-1]
    still = make_data([pair[0], Atoms("H"), Atoms("C2", [[0, 0, 0], [2.5, 0, 0]])])
    alone = gap_terms(still, options, ("H", "C", "O"))
    assert [term.split()[0] for term in alone] == ["soap_turbo"] * 3  # one distance gives no pair term
    assert [term.partition(" n_sparse=")[2][0] for term in alone] == ["1", "3", "2"]  # O: one, and a lone one
    assert len(gap_terms(make_data(pair), Options(pair_n_sparse=0), ("C", "O"))) == 2


def test_every_argument_is_one_text() -> None:
    options = Options(energy_sigma_eV=0.002, forces_sigma_eV_per_A=0.1, virial_sigma_eV=0.05, jitter=1e-9)
    given = arguments(("distance_2b Z1=1", "soap_turbo"), options, {"H": -0.5, "O": np.float64(-11.0)}, seed=7)
    assert given == [
        "atoms_filename=train.xyz", "gap={distance_2b Z1=1 : soap_turbo}", "e0={H:-0.5:O:-11.0}",
        "default_sigma={0.002 0.1 0.05 0.0}", "sigma_per_atom=T", "energy_parameter_name=label_energy",
        "force_parameter_name=label_forces", "virial_parameter_name=label_virial", "sparse_jitter=1e-09",
        "do_copy_at_file=F", "sparse_separate_file=T", "gp_file=gap.xml", "rnd_seed=8",
    ]  # fmt: skip


def test_frames_are_written_with_their_labels(make_data: Callable[..., Dataset]) -> None:
    free = Atoms("CO", [[100, 0, 0], [101.1, 0, 0]])
    cell = Atoms("CO", [[0, 0, 0], [1.2, 0.1, 0]], cell=[4, 5, 6], pbc=True)
    data = make_data([free, cell, Atoms("O", [[7, 7, 7]])])
    lines = frames_text(data, {"C": -7.5, "O": -11.5}, cutoff_A=3.0).splitlines()
    heads = [line for line in lines if "Lattice" in line]
    assert [int(line) for line in lines if line.isdigit()] == [2, 2, 1, 1]
    assert 'pbc="T T T" Properties=species:S:1:pos:R:3:label_forces:R:3' in heads[0]
    assert [f"label_energy={energy!r}" in head for energy, head in zip(data.energy.tolist(), heads, strict=False)]
    assert ["label_virial" in head for head in heads] == [False, True, False, False]
    virial = np.array(heads[1].partition('label_virial="')[2].rstrip('"').split(), dtype=float).reshape(3, 3)
    np.testing.assert_allclose(virial, -data.stress[1] * 4 * 5 * 6, rtol=1e-12)
    assert ["energy_sigma=0.0001" in head for head in heads] == [False, False, True, True]
    assert "label_energy=-7.5" in heads[3]  # carbon has no lone atom in the data; oxygen keeps its own label
    assert "label_energy=-11.0" in heads[2]
    row = [float(word) for word in lines[2].split()[1:]]
    assert row[3:] == data.forces[0].tolist()
    assert min(row[:3]) >= 3.0  # in the box, whose edges are out of reach
    assert np.array_equal(data.frames[0].positions, free.positions)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cutof_A": 4.0}, "unknown recipe option 'cutof_A'. Did you mean 'cutoff_A'"),
        ({"cutoff_A": "wide"}, "cutoff_A = 'wide' does not fit"),
        ({"cutoff_A": float("nan")}, "cutoff_A = nan; a finite number"),
        ({"cutoff_width_A": 4.5}, "cutoff_width_A = 4.5; less than cutoff_A = 4.5"),
        ({"n_sparse": 0}, "n_sparse = 0; a finite number of at least 1"),
        ({"n_max": 2.5}, "n_max = 2.5 does not fit"),
        ({"energy_sigma_eV": 0.0}, "energy_sigma_eV = 0.0; a finite number of at least 1e-08"),
        ({"n_max": 13}, "n_max = 13; at most 12"),
        ({"e0": "averag"}, "e0"),
        ({"e0": {"H": float("inf")}}, "finite energies in eV"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_options(options)


def test_the_shipped_recipe_has_known_options() -> None:
    content = tomllib.loads((ROOT / "suites" / "models" / "gap.toml").read_text(encoding="utf-8"))
    assert content["recipe"]["trainer"] == content["spec"]["kind"] == "gap"
    read_options(content["recipe"]["options"])


# ---- how gap_fit is run --------------------------------------------------------------------------------------------

SPEAKS = """
import sys
for k in (1, 2):
    print(f"TIMER: gpFull_covarianceMatrix_sparse_Coordinate{k}_sparse  done in 1.0 cpu secs")
    print(f"TIMER: gpFull_covarianceMatrix_sparse_Coordinate{k}         done in 1.0 cpu secs", flush=True)
print("SYSTEM ABORT: no   such\\n\\nfile", file=sys.stderr)
"""


def run(code: str, folder: Path, progress: Callable[[int, int, str], None] = no_progress) -> None:
    run_gap_fit([sys.executable, "-c", code], folder=folder, log=folder / LOG, n_terms=2, progress=progress)


def test_its_output_is_kept_and_told(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    run(SPEAKS, tmp_path, lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(0, 3), (1, 3), (2, 3)]
    assert "SYSTEM ABORT: no   such" in (tmp_path / LOG).read_text(encoding="utf-8")


def test_its_failure_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ModelFailure, match=r"gap_fit ended with exit code 1; its last lines: .*ABORT: no such \| file$"
    ):
        run(SPEAKS + "sys.exit(1)", tmp_path)
    with pytest.raises(ModelFailure, match=r"gap_fit was ended by SIGKILL, perhaps for lack of memory; .* none"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    with pytest.raises(ModelFailure, match="gap_fit cannot be started: No such file"):
        run_gap_fit(["no-such-program"], folder=tmp_path, log=tmp_path / LOG, n_terms=1, progress=no_progress)


def test_it_does_not_outlive_an_interruption(tmp_path: Path) -> None:
    def interrupt(done: int, total: int, remark: str) -> None:
        if done:
            raise KeyboardInterrupt

    endless = f"import os, time; open('pid', 'w').write(str(os.getpid()));{SPEAKS}\ntime.sleep(600)"
    with pytest.raises(KeyboardInterrupt):
        run(endless, tmp_path, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), 0)


def test_it_has_one_thread_and_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; print(os.environ['OMP_NUM_THREADS'], repr(sys.stdin.read()), os.getcwd())"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run(code, tmp_path)
    assert (tmp_path / LOG).read_text(encoding="utf-8").split() == ["1", "''", str(tmp_path.resolve())]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run(code, tmp_path)
    assert (tmp_path / LOG).read_text(encoding="utf-8").split()[0] == "2"


def test_the_time_of_day_is_taken_out_of_what_it_leaves(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match=r"left no potential in gap\.xml"):
        collected(tmp_path)
    label = "GAP_2026_1_2_0_3_4_5_678"
    (tmp_path / XML).write_text(f'<{label}><Potential label="{label}" a="{label}9"/></{label}>', encoding="utf-8")
    (tmp_path / f"{XML}.sparseX.{label}9").write_text("1.0\n", encoding="utf-8")
    assert collected(tmp_path) == {
        XML: b'<GAP_><Potential label="GAP_" a="GAP_9"/></GAP_>', f"{XML}.sparseX.GAP_9": b"1.0\n",
    }  # fmt: skip


def test_without_quippy_the_package_is_named(
    data: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"quippy is not installed, and the trainer gap needs it"):
        train(*data, options=TINY, seed=0, device="cpu", out=tmp_path, progress=no_progress)


def test_data_that_cannot_be_fitted_are_refused(
    make_data: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap, "gap_fit_program", lambda: Path(sys.executable))
    data = make_data(bent(2, 1))

    def attempt(first: Dataset, second: Dataset) -> None:
        train(first, second, options=TINY, seed=0, device="cpu", out=tmp_path, progress=no_progress)

    with pytest.raises(BadInput, match="no frames"):
        attempt(data.take([]), data)
    with pytest.raises(BadInput, match="the validation split holds H, O, which the training split lacks"):
        attempt(make_data([Atoms("C")]), data)
    broken = make_data(bent(2, 0))
    broken.frames[1].positions[1] = broken.frames[1].positions[0]
    with pytest.raises(BadInput, match="a training frame cannot be used: frame 1: atoms 0 and 1 are"):
        attempt(broken, data)


# ---- what it learns ------------------------------------------------------------------------------------------------


def test_a_toy_potential_is_learnt(once: tuple[Trained, GapModel, Path], data: tuple[Dataset, Dataset]) -> None:
    made, model, out = once
    spread = 1e3 * np.sqrt(np.square(data[1].forces).mean())
    assert made.facts["valid_forces_rmse_meV_per_A"] < 0.1 * spread
    assert made.facts["valid_energy_rmse_meV_per_atom"] < 5.0
    assert made.facts["valid_stress_rmse_meV_per_A3"] < 0.1 * 1e3 * data[1].stress.std()
    assert made.elements == ("H", "C", "O")
    assert {made.facts[f"n_sparse_{symbol}"] for symbol in made.elements} <= set(range(3, 18))
    assert all(np.isfinite(fact) for fact in made.facts.values() if not isinstance(fact, str))
    error = model.predict(data[1].frames).forces - data[1].forces
    assert 1e3 * np.sqrt(np.square(error).mean()) == pytest.approx(made.facts["valid_forces_rmse_meV_per_A"])
    assert sorted(path.name for path in out.iterdir()) == [LOG, CHECKPOINT]
    assert parse((out / CHECKPOINT).read_bytes(), name="a").about["options"]["n_max"] == TINY["n_max"]


def test_the_trained_model_keeps_the_contract(once: tuple[Trained, GapModel, Path]) -> None:
    check_model(once[1], small_frames(("H", "C", "O")))


def test_forces_and_stress_are_slopes_of_the_energy(once: tuple[Trained, GapModel, Path]) -> None:
    for frame in bent(2, 5):
        frame.calc = once[1].calculator()
        np.testing.assert_allclose(frame.get_forces(), calculate_numerical_forces(frame, eps=1e-4), atol=1e-5)
        if frame.pbc.all():
            np.testing.assert_allclose(frame.get_stress(), calculate_numerical_stress(frame, eps=1e-5), atol=1e-6)


def test_lone_atoms_have_their_e0(
    once: tuple[Trained, GapModel, Path], make_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    made, model, _ = once
    lone = [Atoms(symbol) for symbol in made.elements]
    wanted = [made.facts[f"e0_{symbol}_eV"] for symbol in made.elements]
    np.testing.assert_allclose(model.predict(lone).energy, wanted, atol=1e-4)
    with_lone = make_data([*bent(4, 0), *lone])
    made, model = trained((with_lone, with_lone.take([0])), tmp_path, e0="isolated")
    assert [made.facts[f"e0_{symbol}_eV"] for symbol in made.elements] == list(E0_EV.values())
    np.testing.assert_allclose(model.predict(lone).energy, list(E0_EV.values()), atol=1e-3)


def test_the_same_recipe_gives_the_same_file(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    few = data[0].take(range(3)), data[1].take([0])
    trained(few, tmp_path / "a")
    trained(few, tmp_path / "b")
    assert (tmp_path / "a" / CHECKPOINT).read_bytes() == (tmp_path / "b" / CHECKPOINT).read_bytes()


def test_gap_fit_itself_says_what_is_wrong(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    pytest.importorskip("quippy")
    assert gap_fit_program().name == "gap_fit"
    with pytest.raises(ModelFailure, match=r"gap_fit ended with exit code 1; its last lines: .*SYSTEM ABORT"):
        run_gap_fit(
            [str(gap_fit_program()), "atoms_filename=none.xyz"], folder=tmp_path, log=tmp_path / LOG, n_terms=1,
            progress=no_progress,
        )  # fmt: skip
