"""Volume scans and binding curves: what is right gets full marks, and what is wrong shows where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import broken
import numpy as np
import pytest
import scan_case
from ase.calculators.calculator import Calculator
from known_energy import KnownEnergy

from mlipbench.benchmarks.binding_curves import BindingCurves
from mlipbench.benchmarks.cohesion import Cohesion
from mlipbench.benchmarks.rigid import companies, contact, touching_scale
from mlipbench.benchmarks.scan_curves import scans_of
from mlipbench.benchmarks.systems import as_texts
from mlipbench.benchmarks.volume_scan import METRICS, VolumeScan
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.policy import counted, row_score
from mlipbench.core.view import Bars
from mlipbench.data.units import blocks
from mlipbench.errors import BadInput, ModelFailure, NotApplicable


@pytest.fixture(scope="module")
def data() -> Dataset:
    return scan_case.data()


def values(
    row: VolumeScan | BindingCurves, calculator: Calculator, data: Dataset, context: Context
) -> dict[str, float]:
    seen = row.observe(broken.model(calculator), data, context)
    return {value.metric: value.value for value in row.score(seen, data) if not value.part}


def test_the_reference_itself(data: Dataset, context: Context) -> None:
    found = values(VolumeScan(), broken.Pairs(), data, context)
    assert set(found) == {metric.name for metric in VolumeScan.about.metrics}
    assert found.pop("virial_identity") < 1e-3  # what the extrapolation to a step of zero leaves
    assert max(found.values()) < 1e-5, found


class Deeper(broken.Pairs):
    def pair(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energy, slope = super().pair(distance)
        return 1.1 * energy, 1.1 * slope


class Wider(broken.Pairs):
    """The same potential with all lengths 2 % longer."""

    def pair(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energy, slope = super().pair(distance / 1.02)
        return energy, slope / 1.02


def test_a_deeper_well_is_deeper_and_stiffer(data: Dataset, context: Context) -> None:
    found = values(VolumeScan(), Deeper(), data, context)
    assert found["depth_error"] == pytest.approx(10.0, abs=1e-6)
    assert found["curvature_error"] == pytest.approx(10.0, abs=1e-6)
    assert found["minimum_error"] == pytest.approx(0.0, abs=1e-6)


def test_a_wider_potential_has_its_minimum_farther_out(context: Context) -> None:
    """Contacts are shorter than the distance of centres, so the minimum moves by less than 2 % of the scale."""
    cluster = scan_case.data(("cluster",))
    found = values(VolumeScan(), Wider(), cluster, context)
    assert 1.0 < found["minimum_error"] < 2.0
    assert 1.0 < found["wall_error"] < 3.0


@pytest.mark.parametrize(
    ("make", "metric"),
    [
        (broken.NoAttraction, "unbound"),
        (broken.NoAttraction, "no_minimum"),
        (broken.CollapsingWall, "collapse"),
        (broken.FlippedStress, "virial_identity"),
    ],
)
def test_flags(make: Callable[[], Calculator], metric: str, data: Dataset, context: Context) -> None:
    found = values(VolumeScan(), make(), data, context)
    if metric == "collapse":  # only where molecules come near enough; the scan of the check goes farther in
        seen = Cohesion(n_frames=1).observe(broken.model(make()), broken.argon(), context)
        found = {value.metric: value.value for value in Cohesion().score(seen, broken.argon())}
    assert found[metric] > 0.01


@pytest.mark.parametrize("guessed", [False, True])
def test_scans_are_found_without_trajectories_and_molecules(guessed: bool, data: Dataset) -> None:
    trajectory = tuple(blocks(["one"] * 12) if guessed else [f"frame-{k}" for k in range(12)])
    bare = replace(data.take(range(12)), trajectory=trajectory, molecule=None, energy_intra=None)
    named = scans_of(data.take(range(12)), lone_elements=())
    assert len(named) == 1 and named[0].is_periodic and named[0].is_rigid
    # argon is never bonded, so that without names every atom is a molecule, and its pairs do not keep their shape
    found = scans_of(bare, lone_elements=())
    assert len(found) == 1 and found[0].n_molecules == 8
    assert (np.diff(found[0].size) > 0).all()


def test_no_scan_is_said(data: Dataset) -> None:
    with pytest.raises(NotApplicable, match="holds no scan here: 5 frames"):
        scans_of(data.take(range(4)), lone_elements=())


def test_other_molecules_in_a_frame_are_refused(data: Dataset) -> None:
    assert data.molecule is not None
    mixed = data.molecule.copy()
    mixed[8:16] = np.repeat(np.arange(4), 2)[[0, 2, 1, 3, 4, 5, 6, 7]]
    with pytest.raises(BadInput, match="not those of the rest of its scan"):
        scans_of(replace(data, molecule=mixed), lone_elements=())


class FailsWhenDense(broken.Pairs):
    def calculate(self, *arguments: object, **keywords: object) -> None:
        super().calculate(*arguments, **keywords)
        if self.atoms.pbc.any() and self.atoms.get_volume() < 450.0:
            raise RuntimeError("SCF not converged in 250 cycles")


def test_a_frame_that_fails_costs_its_scan_and_no_other(data: Dataset, context: Context) -> None:
    row = VolumeScan()
    seen = row.observe(broken.model(FailsWhenDense()), data, context)
    assert len(seen["failed_frame"]) == 4
    assert "SCF not converged" in as_texts(seen["failed_reason"])[0]
    found = {value.metric: value for value in row.score(seen, data)}
    assert set(found) == {metric.name for metric in METRICS}
    for name in ("well_rmse", "minimum_error", "depth_error"):
        assert found[name].failed == ("volume-0", "volume-1") and found[name].n_all == 4 and found[name].n == 2
        assert found[name].value < 1e-6
    # where the reference itself has no such wall there is none to fail on
    assert found["wall_error"].failed == ("volume-0",) and found["wall_error"].n_all == 1 + found["wall_error"].n
    assert found["not_computed"].value == 0.5
    assert row_score(METRICS, list(found.values()), row.expects(data)) < 0.5
    shown = [view for view in row.views(seen, data) if isinstance(view, Bars)]
    assert any("SCF not converged" in label for view in shown for label in view.labels)


class Softer(broken.Pairs):
    """A wall that is half as hard."""

    def bare(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energy, slope = super().bare(r)
        inside = energy > 0.0
        return np.where(inside, 0.5 * energy, energy), np.where(inside, 0.5 * slope, slope)


class RefusesTheWall(Softer):
    def calculate(self, *arguments: object, **keywords: object) -> None:
        super().calculate(*arguments, **keywords)
        distance = self.atoms.get_all_distances(mic=True)
        if 1e-6 < distance[~np.eye(len(distance), dtype=bool)].min() < 3.1:
            raise RuntimeError("atoms too close")


@pytest.mark.parametrize("row", [VolumeScan(), BindingCurves()])
def test_refusing_the_wall_is_no_better_than_a_wrong_one(row: VolumeScan | BindingCurves, context: Context) -> None:
    """The frames that tell most of a wall are those that a model may refuse."""
    scans = scans_for(row)
    wrong, refused = (
        row.score(row.observe(broken.model(calculator), scans, context), scans)
        for calculator in (Softer(), RefusesTheWall())
    )
    scores = [row_score(row.about.metrics, values, row.expects(scans)) for values in (wrong, refused)]
    assert next(value.value for value in refused if value.metric == "not_computed") > 0.0
    assert scores[0] is not None and scores[1] is not None
    assert scores[1] < scores[0]


def scans_for(row: VolumeScan | BindingCurves) -> Dataset:
    return scan_case.data(("binding",), n=3) if isinstance(row, BindingCurves) else scan_case.data()


@pytest.mark.parametrize("row", [VolumeScan(), BindingCurves()])
def test_no_forces_and_a_constant_energy_score_nothing(row: VolumeScan | BindingCurves, context: Context) -> None:
    scans = scans_for(row)
    values = row.score(row.observe(KnownEnergy(energy=lambda atoms: -3.0 * len(atoms)), scans, context), scans)
    assert row_score(row.about.metrics, values, row.expects(scans)) == pytest.approx(0.0, abs=1e-12)
    merits = {metric.name for metric in row.about.metrics if metric.role == "merit"}
    assert {value.metric for value in values if value.zero is not None} == merits
    for value in values:
        if value.zero is not None:
            metric = next(metric for metric in row.about.metrics if metric.name == value.metric)
            assert counted(metric, value).value == pytest.approx(value.zero)


class AlwaysFails(broken.Pairs):
    def calculate(self, *arguments: object, **keywords: object) -> None:
        raise RuntimeError("no")


def test_failing_everywhere_is_the_models_fault(data: Dataset, context: Context) -> None:
    with pytest.raises(ModelFailure):
        VolumeScan().observe(broken.model(AlwaysFails()), data, context)


def test_binding_curves(context: Context) -> None:
    pairs = scan_case.data(("binding",), n=3)
    exact = values(BindingCurves(), broken.Pairs(), pairs, context)
    assert max(exact.values()) < 1e-6
    deeper = values(BindingCurves(), Deeper(), pairs, context)
    seen = BindingCurves().observe(broken.model(broken.Pairs()), pairs, context)
    assert len(seen["scan"]) == len(pairs)
    depth = deeper["well_depth_error"] / 0.1
    assert 30.0 < depth < 1000.0 * broken.DEPTH_EV * 4.0
    assert values(BindingCurves(), broken.NoAttraction(), pairs, context)["not_bound"] == 1.0


def test_binding_curves_need_molecules_alone(context: Context) -> None:
    pairs = replace(scan_case.data(("binding",)), energy_intra=None, forces_intra=None)
    with pytest.raises(NotApplicable, match="no energies of molecules alone"):
        BindingCurves().observe(broken.model(broken.Pairs()), pairs, context)


def test_touching() -> None:
    (one,) = companies(scan_case.data(("cluster",), n=1).take([8]), np.array([0]), lone_elements=())
    radii = np.full(6, 1.06)
    scale = touching_scale(one, nearest=0.9)
    inner, outer = (contact(one.at(s), one.molecule, radii) for s in (scale, scale / 0.97))
    assert inner <= 0.9 < outer


def test_cohesion_refuses_single_atoms_and_odd_numbers(data: Dataset, context: Context) -> None:
    with pytest.raises(BadInput, match="n_points"):
        Cohesion(n_points=3).observe(broken.model(broken.Pairs()), data, context)


def test_a_model_without_a_minimum_is_not_left_out(data: Dataset, context: Context) -> None:
    found = values(VolumeScan(), broken.NoAttraction(), data, context)
    assert found["curvature_error"] == pytest.approx(100.0, abs=1.0)
    assert found["minimum_error"] > 20.0 and found["depth_error"] > 80.0


class Ions(broken.Pairs):
    """Rock salt: screened charges that attract where the wall begins, and Born's wall."""

    def __init__(self) -> None:
        super().__init__()
        self.cutoff_A = 9.0

    def calculate(self, *arguments: object, **keywords: object) -> None:
        from ase.neighborlist import neighbor_list

        Calculator.calculate(self, *arguments, **keywords)  # type: ignore[arg-type]
        i, j, vector, r = neighbor_list("ijDd", self.atoms, self.cutoff_A)
        sign = np.where(self.atoms.numbers[i] == self.atoms.numbers[j], 1.0, -1.0)
        fade = 1.0 - (r / self.cutoff_A) ** 2
        bare = 14.4 * sign / r * np.exp(-0.3 * r) + 1500.0 * np.exp(-r / 0.32)
        slope = 14.4 * sign * np.exp(-0.3 * r) * (-1 / r**2 - 0.3 / r) - 1500.0 / 0.32 * np.exp(-r / 0.32)
        slope = slope * fade**3 - bare * 6 * fade**2 * r / self.cutoff_A**2
        pull = (slope / r)[:, None] * vector
        forces = np.stack([np.bincount(i, pull[:, k], minlength=len(self.atoms)) for k in range(3)], axis=1)
        self.results = {"energy": 0.5 * float((bare * fade**3).sum()), "forces": forces}
        if self.atoms.pbc.all():
            virial = 0.5 * vector.T @ pull / self.atoms.get_volume()
            self.results["stress"] = virial.flat[[0, 4, 8, 5, 2, 1]]


def salt() -> Dataset:
    from ase.build import bulk

    crystal = broken.argon()
    frames = []
    for k in range(2):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.rattle(0.05, seed=k)
        frames.append(atoms)
    n_atoms = sum(len(atoms) for atoms in frames)
    names = ("salt-0", "salt-1")
    return replace(
        crystal, frames=tuple(frames), uid=names, trajectory=names, config_type=("salt", "salt"), energy=np.zeros(2),
        forces=np.zeros((n_atoms, 3)), stress=np.zeros((2, 3, 3)), has_stress=np.zeros(2, dtype=bool),
        molecule=np.concatenate([np.arange(len(atoms)) for atoms in frames]),
    )  # fmt: skip


def test_ions_that_attract_at_contact_are_sound(context: Context) -> None:
    seen = Cohesion(n_frames=2).observe(broken.model(Ions()), salt(), context)
    assert (seen["energy"][:, 0] < 0.0).all(), "the case is about inner ends below zero"
    found = {value.metric: value.value for value in Cohesion().score(seen, salt())}
    assert found["collapse"] == found["no_minimum"] == found["unbound"] == 0.0
    assert found["virial_identity"] < 5e-3


def test_a_slab_is_pushed_and_pulled_without_its_stress(context: Context) -> None:
    data = scan_case.data(("volume",), n=1).take([5])
    slab = data.frames[0].copy()
    slab.set_pbc([True, True, False])
    slab.set_cell([*slab.cell.lengths()[:2], 0.0])
    thin = replace(data, frames=(slab,))
    seen = Cohesion(n_frames=1).observe(broken.model(broken.Pairs()), thin, context)
    assert not seen["virial_known"].any()
    with pytest.raises(NotApplicable, match="a cell in all directions or in none"):
        scans_of(replace(scan_case.data(("volume",), n=1), frames=(slab,) * 12), lone_elements=())


def test_a_trajectory_at_one_volume_is_no_scan(data: Dataset) -> None:
    still = replace(data.take(range(12)), frames=(data.frames[5],) * 12)
    with pytest.raises(NotApplicable, match="holds no scan here"):
        scans_of(still, lone_elements=())


def test_molecules_alone_have_their_own_charges() -> None:
    data = scan_case.data(("cluster",), n=1).take([5])
    data.frames[0].info["charge"] = 0
    charged = replace(data, molecule_charges=((1, -1, 0),))
    (one,) = companies(charged, np.array([0]), lone_elements=())
    assert [part.info for part in one.alone()] == [{"charge": 1}, {"charge": -1}, {}]
    with pytest.raises(BadInput, match="3 molecules but 2 molecule charges"):
        companies(replace(data, molecule_charges=((1, -1),)), np.array([0]), lone_elements=())


class FailsAlone(broken.Pairs):
    def calculate(self, *arguments: object, **keywords: object) -> None:
        super().calculate(*arguments, **keywords)
        if len(self.atoms) == 2:
            raise RuntimeError("SCF not converged")


def test_a_molecule_that_fails_alone_costs_what_needs_it(data: Dataset, context: Context) -> None:
    row = VolumeScan()
    seen = row.observe(broken.model(FailsAlone()), data, context)
    found = {value.metric: value for value in row.score(seen, data)}
    assert "depth_error" not in found and "wall_error" not in found
    assert found["well_rmse"].value < 1e-6 and found["well_rmse"].failed == ()
    assert found["not_computed"].value == 1.0
    assert row_score(METRICS, list(found.values()), row.expects(data)) == pytest.approx(0.6, abs=1e-3)


def test_warm_molecules_at_many_volumes_are_no_scan(data: Dataset) -> None:
    """Frames of dynamics differ in volume too, but their molecules keep no shape."""
    rng = np.random.default_rng(0)
    warm = [atoms.copy() for atoms in data.frames[:12]]
    for atoms in warm:
        atoms.rattle(0.05, rng=rng)
    with pytest.raises(NotApplicable, match="holds no scan here"):
        scans_of(replace(data.take(range(12)), frames=tuple(warm)), lone_elements=())
