"""Do the references get what they answer with, and nobody else?"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlipbench.core.result import Measured, Outcome, Skipped
from mlipbench.data.suites import read_suite
from mlipbench.engine import plan as planning
from mlipbench.engine.run import perform
from mlipbench.models.entries import read_model
from mlipbench.store import Store

REAL = """\
schema = 1
version = "1"
about = "for tests"
[[rows]]
name = "errors"
benchmark = "energy_force_stress"
data = "ecemc_gfn1"
split = "composition"
[[rows]]
name = "apart"
benchmark = "intra_inter"
data = "ecemc_gfn1"
split = "composition"
parameters = { max_frames = 3 }
[[rows]]
name = "turned"
benchmark = "symmetry"
data = "ecemc_gfn1"
split = "larger_clusters"
parameters = { n_frames = 1 }
[[rows]]
name = "speed"
benchmark = "speed"
data = "ecemc_gfn1"
split = "composition"
"""


def outcomes(suite: Path, name: str, store: Store) -> dict[str, Outcome]:
    plan = planning.make(read_suite(str(suite)), [read_model(name)], tier="quick", device="cpu")
    return {job.row: perform(job, store, lambda *_: None).result.outcome for job in plan.jobs}


def test_what_computes_nothing_has_no_speed(tmp_path: Path) -> None:
    suite, store = tmp_path / "real.toml", Store(tmp_path / "store")
    suite.write_text(REAL, encoding="utf-8")
    found = outcomes(suite, "no-interaction", store)
    assert {row: outcome.outcome for row, outcome in found.items()} == {
        "errors": "measured", "apart": "measured", "turned": "measured",
    }, "what computes nothing has no speed"  # fmt: skip
    apart = found["apart"]
    assert isinstance(apart, Measured)
    values = {value.metric: value.value for value in apart.values if not value.part}
    assert values["intra_force_rmse"] == 0.0
    assert values["inter_force_relative_rmse"] == pytest.approx(1.0, abs=0.05)
    assert {row: outcome.outcome for row, outcome in outcomes(suite, "zero", store).items()} == {
        "errors": "measured", "apart": "measured", "turned": "measured",
    }  # fmt: skip


def test_data_without_vacuum_labels_are_no_fault_of_the_model(tiny_suite: Path, tmp_path: Path) -> None:
    found = outcomes(tiny_suite, "no-interaction", Store(tmp_path / "store"))
    assert isinstance(found["errors"], Skipped)
    assert "answers with vacuum labels, and tiny has none" in found["errors"].reason
