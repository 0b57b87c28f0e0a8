"""Dynamics is compared over one length, above noise, and never over what broke."""

from __future__ import annotations

from dataclasses import replace

import moving_case
import numpy as np
import pytest
from ase import Atoms
from batched_lj import BatchedLJ

from mlipbench.benchmarks.density import Density
from mlipbench.benchmarks.diffusion import DiffusionCoefficient
from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import excess, refuse_untold_mean, sizes
from mlipbench.benchmarks.motion import Motion, Moved, compared_ps
from mlipbench.benchmarks.nve_drift import NveDrift
from mlipbench.benchmarks.pressure import Pressure
from mlipbench.benchmarks.rdf import DEFINED as RDF
from mlipbench.benchmarks.rdf import Rdf, expected_noise
from mlipbench.benchmarks.stability import Stability
from mlipbench.benchmarks.transferability import Transferability, _largest_between
from mlipbench.benchmarks.velocity_spectrum import VelocitySpectrum
from mlipbench.benchmarks.velocity_spectrum import expected_noise as spectrum_noise
from mlipbench.core.benchmark import Context, no_progress
from mlipbench.core.dynamics import Replica, Track
from mlipbench.core.metric import MetricValue, score
from mlipbench.data.manifest import load, source
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models import load as load_model
from mlipbench.models.entries import read_model
from mlipbench.physics.rdf import INTER, PairCounts, l1_distance
from mlipbench.physics.spectrum import spectrum_distance
from mlipbench.physics.timeseries import mean_over_replicas

PLAIN = {"n_replicas": 2, "timestep_fs": 8.0, "hydrogen_mass_u": None}


def by_name(values):
    return {(one.metric, one.part): one for one in values}


@pytest.mark.parametrize("kind", [Density, Rdf, Pressure, DiffusionCoefficient])
def test_a_longer_run_is_judged_by_the_common_part(kind: type, context: Context) -> None:
    data, own = moving_case.state("cold"), moving_case.MODEL.spec.kind
    short = kind(**PLAIN, duration_ps=3.2)
    long = kind(**PLAIN, duration_ps=3.2, other_durations_ps={own: 4.8})
    assert compared_ps(long) == 3.2
    expected, found = (one.score(one.observe(moving_case.MODEL, data, context), data) for one in (short, long))
    assert [one.value for one in found] == pytest.approx([one.value for one in expected], rel=1e-12)


def test_what_ends_after_the_common_length_is_shown_and_not_counted(context: Context) -> None:
    made = Stability(**PLAIN, duration_ps=0.8)
    seen = {
        "temperature": np.full(2, 20.0), "pressure": np.ones(2), "has_pressure": np.ones(2, dtype=bool),
        "ended": np.full(2, 0.8), "failure": np.full(2, -1),
        "ended_whole": np.array([1.2, 1.6]), "failure_whole": np.array([3, -1]),
    }  # fmt: skip
    found = by_name(made.score(seen, moving_case.state("cold")))
    assert found["survival", ""].value == 1.0
    assert found["survival_to_end", ""].value == 0.5
    assert found["compared_length", ""].value == 0.8
    assert found["failure_rate", ""].value == 0.0
    assert made.views(seen, moving_case.state("cold"))[0].title.startswith("Survival; 0.8 ps")


def test_a_common_length_beyond_a_kinds_own_is_refused() -> None:
    with pytest.raises(BadInput, match=r"compared_ps = 2\.0"):
        compared_ps(Motion(duration_ps=5.0, other_durations_ps={"mace": 1.5}, compared_ps=2.0))


class Wall(BatchedLJ):
    """An attraction without a wall."""

    def pair(self, squares):
        distance = np.sqrt(squares)
        return -5.0 / distance, 5.0 / distance**3


@pytest.mark.parametrize("kind", [Density, Rdf, Pressure, DiffusionCoefficient])
def test_too_short_a_run_says_what_would_do_and_failing_comes_first(kind: type, context: Context) -> None:
    data = slow(moving_case.state("cold"))
    with pytest.raises(NotApplicable, match=r"trajectories of 0.8 ps are too short to tell; .* about [0-9.]+ ps"):
        kind(**PLAIN, duration_ps=0.8).observe(moving_case.MODEL, data, context)
    with pytest.raises(ModelFailure, match="trajectories failed"):
        kind(**PLAIN, duration_ps=0.8).observe(Wall(name="wall"), data, context)


def slow(data):
    """A reference that takes ten times as long for everything."""
    slower = ("_every_ps", "displacement_times")
    more = {name: 10.0 * array if name.endswith(slower) else array for name, array in data.observables.items()}
    return replace(data, observables=more)


def test_what_is_too_short_depends_on_the_reference_alone() -> None:
    rng = np.random.default_rng(0)
    series = mean_over_replicas([1.0 + 0.02 * rng.normal(size=2000) for _ in range(4)])
    common = {"every_ps": 0.5, "n_replicas": 3, "what": "density"}
    found = refuse_untold_mean(series, length_ps=20.0, bad=0.15, **common)
    assert found.stderr == pytest.approx(0.02 / np.sqrt(3 * 20.0 / 0.5), rel=0.2)
    with pytest.raises(NotApplicable, match="too short"):
        refuse_untold_mean(series, length_ps=2.0, bad=0.15, **common)
    with pytest.raises(NotApplicable, match="about"):  # long enough to forget, too short to see
        refuse_untold_mean(series, length_ps=20.0, bad=0.003, **common)
    with pytest.raises(NotApplicable, match="no run is long enough"):
        refuse_untold_mean(series, length_ps=20.0, bad=1e-5, **common)


@pytest.mark.parametrize("true", [0.0, 3.0, 10.0])
def test_sizes_beyond_noise_are_right_on_average(true: float) -> None:
    rng = np.random.default_rng(1)
    drawn = true + 2.0 * rng.normal(size=20_000)
    assert np.mean(drawn**2 - 4.0) == pytest.approx(true**2, abs=0.5)
    found = np.array([excess(abs(one), 2.0) for one in drawn])
    assert np.mean(found) == pytest.approx(true, abs=1.1)
    assert (found <= np.abs(drawn)).all()


def test_no_model_gains_by_noise() -> None:
    metric = Density.about.metrics[0]
    quiet = sizes(metric, metric, 5.0, 0.1, noise=4.0, n=4)[1]
    loud = sizes(metric, metric, 5.0, 40.0, noise=4.0, n=4)[1]
    assert quiet.value == pytest.approx(5.0, abs=0.01)
    assert loud.value == pytest.approx(3.0)
    assert loud.low == 0.0 and loud.high > 100.0


def counts(rng: np.random.Generator, n_frames: int, *, shift_A: float = 0.0) -> PairCounts:
    """Independent frames of a liquid with one peak, 0.05 pairs a bin and frame far out."""
    edges = np.linspace(0.0, 5.0, 101)
    middle = 0.5 * (edges[1:] + edges[:-1])
    g = (middle > 2.0) * (1.0 + 1.5 * np.exp(-4.0 * (middle - 3.5 - shift_A) ** 2))
    expected = g * 4.0 / 3.0 * np.pi * np.diff(edges**3)
    both = np.zeros((1, 2, 100))
    both[0, INTER] = rng.poisson(expected * n_frames)
    return PairCounts(
        edges_A=edges, counts=both, n_kind=np.array([9]), density=np.full(1, float(n_frames)), n_frames=n_frames
    )


def test_the_references_own_liquid_gets_no_rdf_error_and_another_one_does() -> None:
    rng = np.random.default_rng(2)
    replicas = [counts(rng, 100) for _ in range(4)]
    whole = sum(replicas[1:], replicas[0])
    noise = 100.0 * float(expected_noise(replicas, [0], INTER, worth=0.03)[0])

    def away(one: PairCounts) -> float:
        return 100.0 * l1_distance(one.g()[0, INTER], whole.g()[0, INTER])

    own = [away(counts(rng, 3)) for _ in range(100)]
    metric = RDF["rdf_excess_inter"]
    assert score(metric, float(np.mean(own))) < 0.95  # as it was found
    assert np.mean(own) == pytest.approx(noise, rel=0.1)
    assert np.mean([score(metric, excess(one, noise)) for one in own]) > 0.97
    true = away(counts(rng, 100_000, shift_A=0.4))
    other = [excess(away(counts(rng, 3, shift_A=0.4)), noise) for _ in range(100)]
    assert np.mean(other) == pytest.approx(true, rel=0.2)


def test_the_references_own_spectrum_gets_no_error() -> None:
    rng, edges = np.random.default_rng(3), np.linspace(0.0, 100.0, 21)

    def pieces(n: int) -> np.ndarray:
        drawn = rng.gamma(20.0, size=(n, 20))
        return drawn / drawn.sum(axis=1, keepdims=True) / 5.0

    theirs = pieces(20)
    noise = spectrum_noise(theirs, edges, n=4.0)
    own = [spectrum_distance(pieces(4).mean(axis=0), theirs.mean(axis=0), edges) for _ in range(200)]
    assert np.mean(own) == pytest.approx(noise, rel=0.2)


def test_a_perfect_copy_wanders_as_fast_however_short(context: Context) -> None:
    """The reference's curve, of a cage, over 200 ps; the model's the same over 20."""
    data = moving_case.state("cold")
    times = 0.25 * np.arange(801)
    curve = 0.66 * times + 2.0 * (1.0 - np.exp(-times / 5.0))
    theirs = np.outer([0.99, 1.01], curve)[:, None] * np.ones((2, 1))
    more = {**data.observables, "cold/displacement": theirs, "cold/displacement_times": times}
    short = times <= 20.0
    seen = {
        "time": times[short], "displacement": theirs[:, :, short], "temperature": np.full(2, 20.0),
        "edge": np.full(2, 10.0),
    }  # fmt: skip
    found = by_name(DiffusionCoefficient(n_replicas=2, duration_ps=20.0).score(seen, replace(data, observables=more)))
    assert found["diffusion_error", ""].value == pytest.approx(0.0, abs=1e-9)
    assert found["diffusion_excess", "molecule=Ar"].value == 0.0


def test_drifts_of_other_signs_do_not_cancel() -> None:
    times = np.arange(0.0, 2.0, 0.004)
    swing = 0.3 * np.sin(2.0 * np.pi * 40.0 * times)
    total = 1e-3 * 10.0 * np.array([5.0 * times + swing, -5.0 * times + swing])
    seen = {"time": np.array([times, times]), "total": total, "n_atoms": np.array([10, 10])}
    found = by_name(NveDrift().score(seen, moving_case.state("cold")))
    assert found["energy_drift", ""].value == pytest.approx(5.0, rel=1e-3)
    assert found["mean_drift", ""].value == pytest.approx(0.0, abs=1e-3)
    still = NveDrift().score({**seen, "total": 1e-2 * np.array([swing, swing])}, moving_case.state("cold"))
    assert still[0].value < 0.01
    assert still[0].high is not None and still[0].high < 0.01


def water(lost: bool) -> tuple[Replica, Track]:
    """Two molecules at rest apart; one hydrogen leaves after a twentieth of the time, and no driver minds."""
    one = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    atoms = Atoms("OHHOHH", np.concatenate([one, one + 5.0]), cell=np.eye(3) * 12.0, pbc=True)
    n = 41
    rng = np.random.default_rng(5)
    positions = atoms.positions + 0.05 * rng.normal(size=(n, 6, 3))
    if lost:
        positions[2:, 1, 0] += 2.0
    zeros = np.zeros(n)
    track = Track(
        name="0", time_ps=0.1 * np.arange(n), potential_eV=zeros, kinetic_eV=np.full(n, 9.0 * 8.617e-5 * 300.0),
        pressure_bar=zeros, volume_A3=np.full(n, 1728.0), conserved_eV=np.zeros(0), frame_time_ps=0.1 * np.arange(n),
        positions=positions.astype(np.float32), cells=np.tile(np.eye(3) * 12.0, (n, 1, 1)),
        velocities=np.zeros((0, 6, 3), dtype=np.float32), ended_ps=4.0,
    )  # fmt: skip
    return Replica(name="0", atoms=atoms, seed=0, temperature_K=300.0), track


def test_a_broken_liquid_has_no_averages() -> None:
    molecule = np.repeat([0, 1], 3)
    for lost in (False, True):
        pairs = [water(False), water(lost)]
        found = Moved(
            replicas=tuple(one for one, _ in pairs), tracks=tuple(track for _, track in pairs),
            molecules=(molecule, molecule), is_own=False,
        )  # fmt: skip
        if lost:
            with pytest.raises(ModelFailure, match=r"1 of 2 trajectories failed; .* hydrogen loss"):
                refuse_failed(Motion(), found)
        else:
            refuse_failed(Motion(), found)


def test_states_at_which_dynamics_fails_are_named(monkeypatch: pytest.MonkeyPatch, context: Context) -> None:
    made, data = Transferability(**PLAIN, duration_ps=3.2, with_dynamics=True), moving_case.moving()
    observe = Density.observe

    def failing(self, model, own, context):
        if broken.intersection(own.config_type):
            raise ModelFailure("dynamics ended")
        return observe(self, model, own, context)

    monkeypatch.setattr(Density, "observe", failing)
    broken = {"warm"}
    worst = by_name(made.score(made.observe(moving_case.MODEL, data, context), data))["worst_density_excess", ""]
    assert worst.failed == ("warm",) and worst.n_all == 2
    assert worst.value >= 15.0  # failing at a state is no better than being wrong there
    broken = {"warm", "cold"}
    worst = by_name(made.score(made.observe(moving_case.MODEL, data, context), data))["worst_density_excess", ""]
    assert worst.value == 15.0
    assert worst.failed == ("cold", "warm")
    assert "worst_density_excess" in made.expects(data)


def test_the_interval_of_the_worst_state_holds_for_the_choice() -> None:
    """Nine equal states of two trajectories: the largest error is too large by chance, and its interval knows."""
    rng, held, naive = np.random.default_rng(6), 0, 0
    for _ in range(400):
        each = np.abs(1.0 + 0.1 * rng.normal(size=(9, 2)))
        own = [MetricValue(metric="m", value=one.mean(), stderr=one.std(ddof=1) / np.sqrt(2.0), n=2) for one in each]
        low, high = _largest_between(own, is_relative=True)
        held += low <= 1.0 <= high
        worst = max(own, key=lambda one: one.value)
        naive += abs(worst.value - 1.0) <= 1.96 * 0.1 / np.sqrt(2.0)
    assert held / 400 > 0.94
    assert naive / 400 < 0.9


@pytest.mark.parametrize("kind", [Stability, Density, Rdf, Pressure, DiffusionCoefficient, VelocitySpectrum, NveDrift])
def test_only_what_is_beyond_noise_is_a_merit(kind: type) -> None:
    merits = {metric.name for metric in kind.about.metrics if metric.role == "merit"}
    headline = {metric.name for metric in kind.about.metrics if metric.headline}
    assert headline <= merits <= headline | {"failure_rate", "rdf_excess_intra"}


def test_molecules_that_fly_apart_conserve_no_energy_worth_the_name() -> None:
    """Without forces the total energy never changes; the row fails all the same."""
    liquid = load(source("ecemc_gaff2_md")).split("mix12-375K-1kbar")
    model = load_model(read_model("zero").spec, device="cpu")
    context = Context(seed=0, device="cpu", progress=no_progress)
    with pytest.raises(ModelFailure, match="came apart"):
        NveDrift(n_replicas=1, duration_ps=0.2).observe(model, liquid, context)
