"""Does GAFF2's own liquid become a reference, and go on where it was interrupted?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openmm")
pytest.importorskip("packmol")

from mlipbench.core.dataset import Dataset
from mlipbench.data.manifest import load, names, source
from mlipbench.generate import TABLE, ecemc_gaff2_md, gaff2_dynamics
from mlipbench.generate.ecemc_gaff2_md import STATES, State, publish, simulated, stretches
from mlipbench.generate.gaff2_dynamics import Stretch, run
from mlipbench.generate.gaff2_labels import record
from mlipbench.generate.sampling import molecule_numbers
from mlipbench.models.gaff2 import compose
from mlipbench.physics.rdf import INTER, INTRA
from mlipbench.physics.timeseries import mean_over_replicas

# Two molecules in a box that just holds two cutoffs; the pressure has no time to change it.
PAIR = {"EC": 1, "EMC": 1}
SHORT = Stretch(
    name="pair", composition=PAIR, temperature_K=300.0, pressure_bar=1000.0, density_g_cm3=0.2, seed=7,
    duration_ps=0.6, frame_every_ps=0.2,
)  # fmt: skip
TINY = (
    State(name="free", composition=PAIR, temperature_K=300.0, pressure_bar=1000.0, starts_g_cm3=(0.2, 0.21),
          duration_ps=1.6, every_ps=0.1, frame_every_ps=0.1),
    State(name="fixed", composition={"EMC": 2}, temperature_K=300.0, pressure_bar=None, starts_g_cm3=(0.2, 0.2),
          duration_ps=1.6, every_ps=0.1, frame_every_ps=0.1),
)  # fmt: skip


def read(file: Path) -> dict[str, Any]:
    with np.load(file) as found:
        return dict(found)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return set(one) == set(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Replicas of the tiny states."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ecemc_gaff2_md, "STATES", TINY)
        patch.setattr(gaff2_dynamics, "SETTLING_PS", 0.1)
        patch.setattr(gaff2_dynamics, "SPECTRUM_PS", 0.2)
        for stretch in stretches():
            simulated(stretch, folder)
    return folder


@pytest.fixture(scope="module")
def made(scratch: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "STATES": TINY, "DROPPED_PS": 0.4, "SERIES_PS": 0.1, "SPECTRUM_PIECE_PS": 0.1, "SPECTRUM_BIN_PER_CM": 400.0,
            "PUBLICATION": replace(ecemc_gaff2_md.PUBLICATION, splits_about={}),
        }.items():  # fmt: skip
            patch.setattr(ecemc_gaff2_md, name, value)
        publish(out, scratch=scratch)
    return load(source(str(out)))


def test_the_table_names_it() -> None:
    assert TABLE["ecemc_gaff2_md"] == "mlipbench.generate.ecemc_gaff2_md:generate"


def test_every_replica_has_a_name_and_a_seed_of_its_own() -> None:
    found = stretches()
    assert len(found) == sum(len(state.starts_g_cm3) for state in STATES)
    assert len({one.name for one in found}) == len({one.seed for one in found}) == len(found)
    assert {one.name for one in found[: len(STATES)]} == {f"{state.name}-0" for state in STATES}


def test_an_interrupted_replica_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the barostat, which learns the size of its steps anew, goes on as if nothing had been."""
    (tmp_path / "whole").mkdir()
    whole = read(run(SHORT, tmp_path / "whole"))
    monkeypatch.setattr(gaff2_dynamics, "SAVED_EVERY_PS", 0.2)
    keep = gaff2_dynamics._replace

    def interrupted(file: Path, content: bytes) -> None:
        keep(file, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(gaff2_dynamics, "_replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(SHORT, tmp_path)
    assert len(read(tmp_path / "pair.part.npz")["density"]) == 2
    monkeypatch.setattr(gaff2_dynamics, "_replace", keep)
    parts = read(run(SHORT, tmp_path))
    assert {name: array.shape for name, array in parts.items()} == {name: one.shape for name, one in whole.items()}
    np.testing.assert_array_equal(parts["density"][:3], whole["density"][:3])
    np.testing.assert_allclose(parts["density"], whole["density"], rtol=0.1)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["pair.npz"]


def test_a_finished_replica_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "pair.npz").write_bytes(b"finished")
    assert run(SHORT, tmp_path).read_bytes() == b"finished"


def test_frames_to_start_from_carry_their_state_and_labels(made: Dataset) -> None:
    assert {name: len(own) for name, own in made.splits.items()} == {"free": 4, "fixed": 4}
    assert made.config_type == ("free",) * 4 + ("fixed",) * 4
    assert made.trajectory == tuple(f"{name}-{k}" for name in ("free", "fixed") for k in (0, 0, 1, 1))
    assert made.molecule is not None
    for number, frame in enumerate(made.frames):
        assert frame.info["temperature_K"] == 300.0
        assert frame.info.get("pressure_bar") == (1000.0 if number < 4 else None)
        rows = slice(made.offsets[number], made.offsets[number + 1])
        told = record(frame, made.molecule[rows])
        assert made.energy[number] == pytest.approx(told["energy"], abs=1e-6)
        np.testing.assert_allclose(made.forces[rows], told["forces"], atol=1e-5)
        np.testing.assert_allclose(made.stress[number], told["stress"], atol=1e-8)


def test_densities_are_those_of_the_dynamics(made: Dataset, scratch: Path) -> None:
    seen = made.observables
    series = np.array([read(scratch / f"free-{k}.npz")["density"][4:] for k in range(2)])
    np.testing.assert_allclose(seen["free/density_series"], series, rtol=1e-6)
    known = mean_over_replicas(list(seen["free/density_series"]))
    assert float(seen["free/density_mean"]) == known.mean
    assert float(seen["free/density_stderr"]) == known.stderr
    assert seen["free/density_interval"].tolist() == [known.low, known.high]
    assert float(seen["free/density_inefficiency_ps"]) == pytest.approx(0.1 * known.inefficiency)
    assert float(seen["free/temperature_K"]) == 300.0
    assert float(seen["free/pressure_bar"]) == 1000.0
    assert seen["free/n_molecules"].tolist() == [1, 1]
    assert seen["fixed/n_molecules"].tolist() == [0, 2]
    assert "fixed/pressure_bar" not in seen
    assert "fixed/density_series" not in seen


@pytest.mark.parametrize(("state", "n_frames"), [("free", 12), ("fixed", 16)])
def test_pair_counts_add_up(made: Dataset, state: str, n_frames: int) -> None:
    seen = {name.partition("/")[2]: array for name, array in made.observables.items() if name.startswith(f"{state}/")}
    assert seen["rdf_n_frames"].tolist() == [n_frames] * 2
    composition = next(one.composition for one in TINY if one.name == state)
    symbols = list(made.split(state).frames[0].symbols)
    assert seen["rdf_n_kind"].tolist() == [symbols.count(one) for one in "HCO"]
    # All bonds are shorter than the last edge, and each CH bond is one pair of H and C.
    middle = 0.5 * (seen["rdf_edges"][1:] + seen["rdf_edges"][:-1])
    bonded = seen["rdf_counts"][:, 1, INTRA, middle < 1.4].sum(axis=1)
    assert bonded.tolist() == [n_frames * symbols.count("H")] * 2
    # Centres: no pair within a molecule, and at most one between two of them.
    assert seen["centre_rdf_n_kind"].tolist() == list(composition.values())
    assert not seen["centre_rdf_counts"][:, :, INTRA].any()
    assert (seen["centre_rdf_counts"][:, :, INTER].sum(axis=(1, 2)) <= n_frames).all()
    assert seen["centre_rdf_edges"][1] == pytest.approx(0.05)


def test_centres_are_counted_where_they_are(made: Dataset, scratch: Path) -> None:
    """The distance of the two centres in every frame, by hand."""
    names, molecule = molecule_numbers(PAIR)
    system = compose(names)
    masses = np.array([system.getParticleMass(i)._value for i in range(system.getNumParticles())])
    edges = made.observables["free/centre_rdf_edges"]
    for replica in range(2):
        file = read(scratch / f"free-{replica}.npz")
        first, second = (
            np.average(file["positions"][4:, molecule == k], axis=1, weights=masses[molecule == k]) for k in (0, 1)
        )
        apart = second - first
        edge = file["edge"][4:, None]
        apart -= edge * np.round(apart / edge)
        counted = made.observables["free/centre_rdf_counts"][replica][1, INTER]
        np.testing.assert_array_equal(np.histogram(np.linalg.norm(apart, axis=1), edges)[0], counted)


def test_constant_volume_tells_what_moves(made: Dataset) -> None:
    seen = made.observables
    assert seen["fixed/pressure_series"].shape == (2, 16)
    assert seen["fixed/diffusion"].shape == (2,)
    assert seen["fixed/spectrum"].shape == (4, len(seen["fixed/spectrum_edges"]) - 1)
    assert np.isfinite(seen["fixed/spectrum"]).all()


@pytest.mark.skipif("ecemc_gaff2_md" not in names(), reason="not published here")
def test_what_is_shipped_is_what_is_planned() -> None:
    data = load(source("ecemc_gaff2_md"))
    assert {name: len(own) for name, own in data.splits.items()} == {
        state.name: 2 * len(state.starts_g_cm3) for state in STATES
    }
    for state in STATES:
        seen = {key.partition("/")[2]: one for key, one in data.observables.items() if key.startswith(f"{state.name}/")}
        assert float(seen["temperature_K"]) == state.temperature_K
        assert len(seen["rdf_counts"]) == len(state.starts_g_cm3)
        if state.pressure_bar is not None:
            assert seen["density_series"].shape[0] == len(state.starts_g_cm3)
            assert 0.8 < float(seen["density_mean"]) < 1.3
            known = mean_over_replicas(list(seen["density_series"]))
            # The estimator of the day of publication: another one may find other starts, not another density.
            stderr = float(seen["density_stderr"])
            assert float(seen["density_mean"]) == pytest.approx(known.mean, abs=2.0 * max(stderr, known.stderr))
            assert stderr < 0.01 * known.mean
