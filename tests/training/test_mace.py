"""Does a training end well, early where it should, and the same each time?"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mace")

import torch
from ase import Atoms

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import ModelSpec, Trained
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models.mace import MaceModel, load
from mlipbench.training import trainer
from mlipbench.training.e0 import baseline
from mlipbench.training.mace import train as train_mace
from mlipbench.training.mace_loop import stages
from mlipbench.training.mace_options import Options, read_options

TINY = {"irreps": "4x0e", "cutoff_A": 3.5, "max_ell": 1, "epochs": 3, "stage_two_epoch": 2, "batch_size": 4}
Log = list[tuple[int, int, str]]


@pytest.fixture(scope="module")
def data(make_data: Callable[..., Dataset], make_clusters: Callable[..., list[Atoms]]) -> tuple[Dataset, Dataset]:
    return make_data(make_clusters(8, 0)), make_data(make_clusters(4, 1))


def run(data: tuple[Dataset, Dataset], out: Path, **options: object) -> tuple[Trained, Log]:
    log: Log = []
    trained = train_mace(
        *data, options={**TINY, **options}, seed=3, device="cpu", out=out,
        progress=lambda done, total, remark: log.append((done, total, remark)),
    )  # fmt: skip
    return trained, log


def model_of(trained: Trained, out: Path) -> MaceModel:
    spec = ModelSpec(name="tiny", kind=trained.kind, checkpoint=str(out / trained.checkpoint), options=trained.options)
    return load(spec, device="cpu")


@pytest.fixture(scope="module")
def tiny(data: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Log, Path]:
    out = tmp_path_factory.mktemp("tiny")
    return *run(data, out), out


def test_the_table_finds_it() -> None:
    assert trainer("mace") is train_mace


def test_it_says_what_it_made(tiny: tuple[Trained, Log, Path]) -> None:
    trained, log, out = tiny
    assert trained.elements == ("H", "C", "O")
    assert trained.facts["epochs"] == 3
    assert trained.facts["stage_two_from"] == 3
    assert trained.facts["best_epoch"] == 3  # of stage two, which has one epoch
    assert [path.name for path in out.iterdir()] == [trained.checkpoint]
    assert [(done, total) for done, total, _ in log] == [(1, 3), (2, 3), (3, 3)]
    assert "meV/atom" in log[0][2]
    assert all(np.isfinite(list(epoch.values())).all() for epoch in trained.history)


def test_stage_two_switches_weights(tiny: tuple[Trained, Log, Path]) -> None:
    history = tiny[0].history
    assert [epoch["energy_weight"] for epoch in history] == [1.0, 1.0, 1000.0]
    assert [epoch["learning_rate"] for epoch in history] == [0.01, 0.01, 0.001]


def test_the_file_gives_the_errors_it_states(tiny: tuple[Trained, Log, Path], data: tuple[Dataset, Dataset]) -> None:
    # so the averaged weights were saved, and the network learns what it later predicts
    trained, _, out = tiny
    valid = data[1]
    found = model_of(trained, out).predict(valid.frames)
    energy = 1e3 * np.sqrt(np.mean(((found.energy - valid.energy) / valid.n_atoms) ** 2))
    force = 1e3 * np.sqrt(np.mean((found.forces - valid.forces) ** 2))
    assert energy == pytest.approx(trained.facts["valid_energy_rmse_meV_per_atom"], rel=1e-4)
    assert force == pytest.approx(trained.facts["valid_force_rmse_meV_per_A"], rel=1e-4)


def test_mace_itself_reads_the_file(
    tiny: tuple[Trained, Log, Path], data: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace.calculators import MACECalculator

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # as a fresh import of mace sets it
    trained, _, out = tiny
    frame = data[1].frames[0].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MACE's own loading says is not ours
        frame.calc = MACECalculator(model_paths=str(out / trained.checkpoint), default_dtype="float32")
    ours = model_of(trained, out).predict([data[1].frames[0]])
    np.testing.assert_allclose(frame.get_forces(), ours.forces, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone(
    tiny: tuple[Trained, Log, Path], data: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    again, _ = run(data, tmp_path)
    torch.testing.assert_close(torch.rand(3), wanted, rtol=0, atol=0)
    assert torch.get_default_dtype() is torch.float32
    first = model_of(tiny[0], tiny[2]).network.state_dict()
    second = model_of(again, tmp_path).network.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns(tmp_path: Path, data: tuple[Dataset, Dataset]) -> None:
    trained, _ = run(data, tmp_path, epochs=8, stage_two_epoch=8)
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < 0.6 * first["loss"]
    assert trained.facts["stage_two_from"] == 0


def test_early_stopping_stops(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    # nothing gets better at a learning rate of 0: the first epoch of each stage is its best, and patience is 2
    rates = {"learning_rate": 0.0, "stage_two_learning_rate": 0.0}
    trained, log = run(data, tmp_path, **rates, epochs=50, stage_two_epoch=40, patience=2)
    assert trained.facts["epochs"] == 6
    assert trained.facts["stage_two_from"] == 4
    assert trained.facts["best_epoch"] == 4
    assert trained.facts["stopped_early"] is True
    assert [total for _, total, _ in log] == [50, 50, 50, 13, 13, 13]


def test_a_stress_weight_is_felt(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    def rmse(weight: float) -> float:
        out = tmp_path / str(weight)
        trained, _ = run(data, out, epochs=5, stage_two_epoch=5, forces_weight=1.0, stress_weight=weight)
        found = model_of(trained, out).predict(data[0].frames)
        return float(np.sqrt(np.mean((found.stress - data[0].stress)[data[0].has_stress] ** 2)))

    assert rmse(1e6) < 0.7 * rmse(0.0)


def test_isolated_atoms_give_e0s_and_a_note(
    make_data: Callable[..., Dataset], make_clusters: Callable[..., list[Atoms]], tmp_path: Path
) -> None:
    train = make_data([*make_clusters(6, 0), Atoms("H"), Atoms("C"), Atoms("O")])
    bound = replace(train, energy=train.energy - 2.0 * train.n_atoms * (train.n_atoms > 1))
    trained, _ = run((bound, make_data(make_clusters(3, 1))), tmp_path, e0="isolated", epochs=1)
    assert [trained.facts[f"e0_{symbol}_eV"] for symbol in "HCO"] == pytest.approx([-3.0, -7.0, -11.0])
    assert trained.facts["n_train"] == 6
    assert trained.facts["shift_eV_per_atom"] < -1.0
    assert any("lone atom" in note for note in trained.notes)


def test_least_squares_says_its_rank(
    make_data: Callable[..., Dataset], make_clusters: Callable[..., list[Atoms]]
) -> None:
    full = baseline(make_data(make_clusters(9, 0)), "average", ("H", "C", "O"), is_shifted=True)
    assert (full.rank, full.notes) == (3, ())
    poor = baseline(make_data(make_clusters(9, 0, ("CH3OH", "C2H4O"))), "average", ("H", "C", "O"), is_shifted=True)
    assert poor.rank == 2
    assert poor.notes[0].startswith("E0s from least squares have rank 2 of 3 elements")
    assert abs(poor.offset_eV_per_atom) < 0.2


def test_least_squares_on_paper(make_data: Callable[..., Dataset]) -> None:
    # H2 at -7 eV and H at -3 eV: (2 · -7 + 1 · -3) / (2² + 1²) = -3.4 eV
    data = make_data([Atoms("H2", [[0, 0, 0], [9, 0, 0]]), Atoms("H")], ("H",))
    found = baseline(replace(data, energy=np.array([-7.0, -3.0])), "average", ("H",), is_shifted=True)
    assert found.energies_eV["H"] == pytest.approx(-3.4)
    assert found.offset_eV_per_atom == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("e0", "says"),
    [
        ("isolated", "no one-atom frame of H, C, O"),
        ({"H": 1.0, "C": 2.0}, "no energy for O"),
        ("typical", "'average', 'isolated' or a table"),
    ],
)
def test_e0s_that_are_missing(
    make_data: Callable[..., Dataset], make_clusters: Callable[..., list[Atoms]], e0: str, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        baseline(make_data(make_clusters(3, 0)), e0, ("H", "C", "O"), is_shifted=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epoch": 3}, "unknown recipe option 'epoch'. Did you mean 'epochs'"),
        ({"epochs": 0}, "epochs = 0; a finite number of at least 1"),
        ({"epochs": "many"}, "epochs = 'many' does not fit"),
        ({"dtype": "float16"}, "dtype"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
    ],
)
def test_options_are_checked(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_options(options)


def test_a_table_of_e0s_is_an_option() -> None:
    assert read_options({"e0": {"H": -1}}).e0 == {"H": -1.0}


def test_stages_of_one_kind_only() -> None:
    assert [s.energy_weight for s in stages(Options(epochs=5, stage_two_epoch=0))] == [1000.0]
    assert [s.energy_weight for s in stages(Options(epochs=5, stage_two_epoch=5))] == [1.0]


def test_irreps_that_are_none(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="irreps = 'many'"):
        run(data, tmp_path, irreps="many")


def test_splits_that_cannot_be_used(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="validation split is empty"):
        run((data[0], data[1].take([])), tmp_path)
    with pytest.raises(BadInput, match="training split is empty"):
        run((data[0].take([]), data[1]), tmp_path)
    hydrogen = replace(data[0].take([0]), frames=(Atoms("CH3CH2"),))
    with pytest.raises(BadInput, match="holds O, which the training split lacks"):
        run((hydrogen, data[1]), tmp_path)


def test_a_loss_that_explodes_is_the_models_fault(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="not finite in epoch"):
        run(data, tmp_path, learning_rate=1e30)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="torch finds no GPU"):
        train_mace(*data, options=TINY, seed=0, device="cuda", out=tmp_path, progress=lambda *_: None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(data: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    trained = train_mace(*data, options=TINY, seed=0, device="cuda", out=tmp_path, progress=lambda *_: None)
    spec = ModelSpec(name="tiny", kind="mace", checkpoint=str(tmp_path / trained.checkpoint))
    on_gpu, on_cpu = (load(spec, device=device).predict(data[1].frames) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu.forces, on_cpu.forces, atol=1e-3)
