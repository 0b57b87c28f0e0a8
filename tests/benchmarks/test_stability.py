"""What the criteria miss does not pass for health."""

from __future__ import annotations

import moving_case
import numpy as np
import pytest
from batched_lj import BatchedLJ

from mlipbench.benchmarks import stability
from mlipbench.benchmarks.stability import Stability
from mlipbench.core.benchmark import Context
from mlipbench.core.model import ModelSpec, Predictions
from mlipbench.errors import BadInput, MissingPackage, ModelFailure
from mlipbench.physics.failures import KINDS

SHORT = {"n_replicas": 2, "duration_ps": 0.8, "timestep_fs": 8.0, "hydrogen_mass_u": None}


class Oracle(BatchedLJ):
    """Sees what it is told to see."""

    def __init__(self, *, force: float = 0.0, rise: float = 0.0, fails: bool = False) -> None:
        super().__init__()
        object.__setattr__(self, "told", (force, rise, fails))

    def predict(self, frames):
        force, rise, fails = self.told
        if fails:
            raise ModelFailure("SCF not converged")
        n = np.array([len(one) for one in frames])
        forces = np.zeros((int(n.sum()), 3))
        forces[-1, 0] = force
        empty = np.zeros((len(frames), 3, 3))
        energy = np.array([0.0, rise * n[-1]])
        return Predictions(
            n_atoms=n, energy=energy, forces=forces, stress=empty, has_stress=np.zeros(len(frames), dtype=bool)
        )


@pytest.mark.parametrize(
    ("oracle", "alarm"),
    [
        (Oracle(), False),
        (Oracle(force=10.0, rise=0.05), False),
        (Oracle(force=60.0), True),
        (Oracle(rise=0.5), True),
        (Oracle(fails=True), True),
    ],
)
def test_an_oracle_looks_at_what_seemed_healthy(
    oracle: Oracle, alarm: bool, monkeypatch: pytest.MonkeyPatch, context: Context
) -> None:
    monkeypatch.setattr(stability, "load", lambda spec, device: oracle)
    made = Stability(**SHORT, oracle="gfn1")
    seen = made.observe(moving_case.MODEL, moving_case.state("cold"), context)
    assert int(seen["n_reviewed"]) == 2
    assert [KINDS[k] if k >= 0 else "" for k in seen["failure"]] == ["oracle disagrees" if alarm else ""] * 2
    survival = made.score(seen, moving_case.state("cold"))[0]
    assert survival.value == (0.0 if alarm else 1.0)
    assert (survival.low, survival.high) == pytest.approx((0.0, 0.842) if alarm else (0.158, 1.0), abs=1e-3)


def test_an_oracle_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    def missing(spec: ModelSpec, device: str) -> None:
        raise MissingPackage("tblite is not installed", package="tblite")

    monkeypatch.setattr(stability, "load", missing)
    seen = Stability(**SHORT, oracle="gfn1").observe(moving_case.MODEL, moving_case.state("cold"), context)
    assert int(seen["n_reviewed"]) == 0
    assert (seen["failure"] < 0).all()


def test_pressures_without_temperatures_are_refused(context: Context) -> None:
    with pytest.raises(BadInput, match="needs temperatures_K"):
        Stability(**SHORT, pressures_bar=(1.0,)).observe(moving_case.MODEL, moving_case.state("cold"), context)


class Broken(BatchedLJ):
    """An attraction without a wall."""

    def pair(self, squares):
        distance = np.sqrt(squares)
        return -5.0 / distance, 5.0 / distance**3


def test_a_model_that_collapses_fails_with_its_reason(context: Context) -> None:
    made = Stability(**SHORT)
    seen = made.observe(Broken(name="broken"), moving_case.state("warm"), context)
    assert (seen["failure"] >= 0).all()
    assert (seen["ended"] < 0.8).all()
    survival, rate, *_ = made.score(seen, moving_case.state("warm"))
    assert survival.value == 0.0
    assert rate.low is not None
    assert rate.low > 0.0
    bars = made.views(seen, moving_case.state("warm"))[1]
    assert all(": " in label for label in bars.labels)
