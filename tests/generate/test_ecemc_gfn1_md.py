"""The quantum liquid: a few steps of it, published and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlipbench.data import manifest
from mlipbench.generate import ecemc_gfn1_md as made

pytest.importorskip("tblite")


def test_a_few_steps_become_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(made, "DROPPED_PS", 0.0)
    replica = made.start(made.STARTS[0], 0)
    assert replica.masses_array().sum() == pytest.approx(replica.atoms.get_masses().sum())
    assert sorted(set(replica.masses_array()[replica.atoms.numbers == 1])) == [3.0]
    track = made.simulated(replica, tmp_path / "scratch", n_steps=10)
    assert not track.failure
    made.publish(tmp_path / "out", [(replica, track)])
    data = manifest.load(manifest.source(str(tmp_path / "out")))
    assert len(data) == 2
    assert data.config_type[0] == made.STATE
    assert data.frames[0].info["temperature_K"] == made.TEMPERATURE_K
    assert data.observables[f"{made.STATE}/pressure_series"].shape == (1, 3)
    counts = data.observables[f"{made.STATE}/rdf_counts"]
    assert counts.shape == (1, 6, 2, 97)
    n_pairs = 3 * 80 * 79 / 2
    assert 0.2 * n_pairs < counts.sum() < n_pairs
    # the last frame's label is the energy that moved it, but for the tighter convergence and the rounding
    assert data.energy[1] == pytest.approx(track.potential_eV[-1], abs=2e-3)
    assert np.isfinite(data.observables[f"{made.STATE}/pressure_series"]).all()
