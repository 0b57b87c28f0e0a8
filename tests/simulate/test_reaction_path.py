"""Saddles that are known in closed form are found; all images are asked about in one question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import bridge_paths
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.mep import NEB
from ase.mep.neb import ImprovedTangentMethod
from ase.optimize import FIRE
from scipy.optimize import root

from mlipbench.core.model import Float, ModelSpec, Predictions
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models.ase import AseModel
from mlipbench.simulate.reaction_path import ReactionPath, between, climbing_path, superposed

Surface = Callable[[float, float], tuple[float, float, float]]  # energy, and its slopes along x and y
A_EV_A4, B_A, TILT_EV_A3 = 0.8, 0.9, 0.3
# K. Müller & L. D. Brown, Theor. Chim. Acta 53, 75 (1979): energies × 0.01.
HEIGHT = 0.01 * np.array([-200.0, -100.0, -170.0, 15.0])
CURVE = np.array([[-1.0, 0.0, -10.0], [-1.0, 0.0, -10.0], [-6.5, 11.0, -6.5], [0.7, 0.6, 0.7]])
CENTRE = np.array([[1.0, 0.0], [0.0, 0.5], [-0.5, 1.5], [-1.0, 1.0]])


def double_well(x: float, y: float) -> tuple[float, float, float]:
    """a (x² - b²)² and a bent valley: barrier a b⁴ at (0, 0.5 b²)."""
    valley = y - 0.5 * (B_A**2 - x**2)
    energy = A_EV_A4 * (x**2 - B_A**2) ** 2 + 2.0 * valley**2
    return energy, 4.0 * A_EV_A4 * x * (x**2 - B_A**2) + 4.0 * valley * x, 4.0 * valley


def tilted_well(x: float, y: float) -> tuple[float, float, float]:
    """Adds c (3 b² x - x³), which leaves the minima at ±b and moves the saddle to x = 3 c / 4 a."""
    energy, along, across = double_well(x, y)
    return energy + TILT_EV_A3 * (3 * B_A**2 * x - x**3), along + 3 * TILT_EV_A3 * (B_A**2 - x**2), across


def mueller_brown(x: float, y: float) -> tuple[float, float, float]:
    """Three minima in a row, of which the outer two are the end points."""
    dx, dy = x - CENTRE[:, 0], y - CENTRE[:, 1]
    parts = HEIGHT * np.exp(CURVE[:, 0] * dx**2 + CURVE[:, 1] * dx * dy + CURVE[:, 2] * dy**2)
    along = parts * (2 * CURVE[:, 0] * dx + CURVE[:, 1] * dy)
    across = parts * (CURVE[:, 1] * dx + 2 * CURVE[:, 2] * dy)
    return float(parts.sum()), float(along.sum()), float(across.sum())


class OnSurface(Calculator):  # type: ignore[misc]
    """One atom on a surface, its z held at zero by a spring."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, surface: Surface, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.surface = surface

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        (x, y, z) = self.atoms.positions[0]
        energy, along, across = self.surface(float(x), float(y))
        self.results = {"energy": energy + z**2, "forces": np.array([[-along, -across, -2.0 * z]])}


@dataclass(frozen=True)
class Counting(AseModel):
    """Remembers how many images each question was about."""

    calls: list[int] = field(default_factory=list)

    def predict(self, frames: Sequence[Atoms]) -> Predictions:
        self.calls.append(len(frames))
        return AseModel.predict(self, frames)


def on(surface: Surface, *, elements: tuple[str, ...] | None = None) -> Counting:
    return Counting(spec=ModelSpec(name="surface", kind="test", elements=elements), bare=OnSurface(surface))


def straight(first: Sequence[float], last: Sequence[float], n_images: int) -> list[Atoms]:
    """Images on a line, the end points a little off the minima."""
    places = np.linspace([*first, 0.0], [*last, 0.0], n_images)
    places[[0, -1], :2] += 0.05
    return [Atoms("H", [place]) for place in places]


WELL = ((-B_A, 0.0), (B_A, 0.0))
BASINS = ((-0.558, 1.442), (0.623, 0.028))


def found(surface: Surface, ends: tuple[Sequence[float], Sequence[float]], n_images: int, **how: Any) -> ReactionPath:
    return climbing_path(
        on(surface), straight(*ends, n_images), **{"largest_force_eV_A": 2e-3, "superpose": False, **how}
    )


def check_saddle(path: ReactionPath, barrier_eV: float, place: Sequence[float]) -> None:
    assert path.converged and path.ends_rest
    assert path.barrier_eV == pytest.approx(barrier_eV, abs=1e-5)
    np.testing.assert_allclose(path.images[path.saddle].positions[0], [*place, 0.0], atol=1e-3)
    assert np.abs(path.forces_eV_A[path.saddle]).max() < 2e-3


@pytest.mark.parametrize("method", ["improvedtangent", "aseneb"])
@pytest.mark.parametrize("n_images", [7, 8])
def test_symmetric_barrier_is_a_b_to_the_fourth(method: str, n_images: int) -> None:
    """Also where no image starts at the saddle."""
    path = found(double_well, WELL, n_images, method=method)
    check_saddle(path, A_EV_A4 * B_A**4, (0.0, 0.5 * B_A**2))
    assert path.reaction_energy_eV == pytest.approx(0.0, abs=1e-6)


def test_tilted_barrier() -> None:
    path = found(tilted_well, WELL, 8)
    x = 3.0 * TILT_EV_A3 / (4.0 * A_EV_A4)
    saddle = A_EV_A4 * (x**2 - B_A**2) ** 2 + TILT_EV_A3 * (3 * B_A**2 * x - x**3)
    check_saddle(path, saddle + 2.0 * TILT_EV_A3 * B_A**3, (x, 0.5 * (B_A**2 - x**2)))
    assert path.reaction_energy_eV == pytest.approx(4.0 * TILT_EV_A3 * B_A**3, abs=1e-5)


def test_mueller_browns_saddle() -> None:
    """The higher of two saddles, at (-0.822, 0.624) with 106.03 before the scaling; the band bends around a hill."""
    slopes = lambda p: mueller_brown(*p)[1:]  # noqa: E731
    saddle, minimum = (root(slopes, start, tol=1e-12).x for start in ((-0.822, 0.624), BASINS[0]))
    np.testing.assert_allclose(saddle, [-0.822, 0.624], atol=1e-3)
    barrier = mueller_brown(*saddle)[0] - mueller_brown(*minimum)[0]
    assert barrier == pytest.approx(1.0603, abs=1e-3)
    check_saddle(found(mueller_brown, BASINS, 15, n_steps=2000), barrier, saddle)


def test_without_the_climb_the_barrier_is_too_low() -> None:
    """What the check is for: the highest of six images between the ends stays beside the saddle."""
    images = straight(*WELL, 8)
    for image in images:
        image.calc = OnSurface(double_well)
    band = NEB(images, k=1.0, climb=False, method="improvedtangent")
    assert FIRE(band, logfile=None).run(fmax=2e-3, steps=500)
    highest = max(image.get_potential_energy() for image in images)
    assert highest < A_EV_A4 * B_A**4 - 0.01


def test_a_wrong_tangent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tangents across the band let images slide downhill along it, and push the climbing one up a wall."""
    right = ImprovedTangentMethod.get_tangent

    def across(self: Any, *given: Any) -> Float:
        (along,) = right(self, *given)
        return np.array([[-along[1], along[0], along[2]]])

    monkeypatch.setattr(ImprovedTangentMethod, "get_tangent", across)
    with pytest.raises(AssertionError):
        check_saddle(found(double_well, WELL, 7, n_steps=100), A_EV_A4 * B_A**4, (0.0, 0.5 * B_A**2))


def test_a_force_of_the_wrong_sign_is_noticed() -> None:
    def uphill(x: float, y: float) -> tuple[float, float, float]:
        energy, along, across = double_well(x, y)
        return energy, -along, -across

    path = found(uphill, WELL, 7, n_steps=50, n_end_steps=50)
    with pytest.raises(AssertionError):
        check_saddle(path, A_EV_A4 * B_A**4, (0.0, 0.5 * B_A**2))
    assert not path.converged


def test_one_question_a_step_about_all_images() -> None:
    model = on(tilted_well)
    path = climbing_path(model, straight(*WELL, 9), superpose=False)
    assert path.n_steps > 10
    assert model.calls == [9] + [7] * path.n_steps
    assert path.n_calls == len(model.calls) == path.n_steps + 1


def test_the_answers_are_those_of_the_images() -> None:
    path = found(tilted_well, WELL, 7)
    said = on(tilted_well).predict(path.images)
    np.testing.assert_array_equal(path.energy_eV, said.energy)
    np.testing.assert_array_equal(path.forces_eV_A.reshape(-1, 3), said.forces)
    assert all(image.calc is None for image in path.images)


def test_too_few_steps_are_no_error() -> None:
    for n_steps in (1, 5):
        path = found(double_well, WELL, 7, n_steps=n_steps)
        assert not path.converged and path.ends_rest
        assert path.n_steps == n_steps and path.n_calls == n_steps + 1
        assert path.largest_force_eV_A > 2e-3
        assert path.barrier_eV > 0.0


def test_end_points_that_do_not_rest_leave_the_band_alone() -> None:
    images = straight(*WELL, 7)
    path = climbing_path(on(double_well), images, largest_force_eV_A=1e-3, n_end_steps=2, superpose=False)
    assert not path.ends_rest and not path.converged
    assert path.n_steps == 0 and path.n_calls == 1
    assert path.largest_force_eV_A == np.linalg.norm(path.forces_eV_A[[0, -1], 0], axis=1).max() > 1e-3
    assert path.images[0].positions[0, 0] != images[0].positions[0, 0]


@pytest.mark.parametrize("ends", [WELL, ((-0.5, 0.4), (0.7, 0.5))])
def test_no_barrier_is_found_where_there_is_none(ends: tuple[Sequence[float], Sequence[float]]) -> None:
    """Both ends slide to one minimum; an image that climbed would be out of sight."""
    path = found(lambda x, y: (0.2 * x**2 + y**2, 0.4 * x, 2.0 * y), ends, 5)
    assert path.converged
    assert path.barrier_eV == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("barrier_eV", [0.003, 0.03])
def test_low_barriers_are_climbed(barrier_eV: float) -> None:
    scale = barrier_eV / (A_EV_A4 * B_A**4)

    def low(x: float, y: float) -> tuple[float, float, float]:
        energy, along, across = (scale * part for part in double_well(x, y))
        return energy, along, across

    path = found(low, WELL, 8, largest_force_eV_A=1e-4, n_steps=2000, n_end_steps=5000)
    assert path.converged
    assert path.barrier_eV == pytest.approx(barrier_eV, rel=1e-3)


def test_images_are_not_changed_and_move_with_their_ends() -> None:
    images = straight(*WELL, 5)
    before = [image.positions.copy() for image in images]
    found_path = climbing_path(on(double_well), images, n_steps=3, superpose=False)
    assert all(np.array_equal(image.positions, old) for image, old in zip(images, before, strict=True))
    ends = [found_path.images[0], found_path.images[-1]]
    moved = between(ends, images)
    np.testing.assert_allclose(moved[0].positions, ends[0].positions)
    middle = before[2] + 0.5 * (ends[0].positions - before[0] + ends[1].positions - before[-1])
    np.testing.assert_allclose(moved[2].positions, middle)


def test_images_that_are_shifted_and_turned_are_laid_on_each_other() -> None:
    """No force points along a shift or a turn of the whole, so tangents that have one project too little out."""
    rng = np.random.default_rng(1)
    images = list(bridge_paths.data(["F"]).frames)
    for image in images:
        image.rotate(rng.uniform(0.0, 30.0), rng.normal(size=3), center="COP")
        image.translate(rng.normal(scale=0.3, size=3))
    path = climbing_path(bridge_paths.model(), images)
    bridge = bridge_paths.BRIDGES["F"]
    assert path.converged
    assert path.barrier_eV == pytest.approx(bridge.barrier_eV, abs=1e-4)
    loose = climbing_path(bridge_paths.model(), images, superpose=False, n_steps=100)
    assert not loose.converged or abs(loose.barrier_eV - bridge.barrier_eV) > 1e-3


def test_what_is_superposed() -> None:
    rng = np.random.default_rng(2)
    first = Atoms("OCH", rng.normal(size=(3, 3)))
    turned = first.copy()
    turned.rotate(40.0, (1.0, 2.0, 0.0))
    turned.translate((1.0, 0.0, 3.0))
    np.testing.assert_allclose(superposed([first, turned])[1].positions, first.positions, atol=1e-9)
    boxed = [first.copy(), turned.copy()]
    for atoms in boxed:
        atoms.set_cell([20.0] * 3)
        atoms.set_pbc(True)
    moved = superposed(boxed)[1].positions - turned.positions
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], (3, 3)), atol=1e-9)
    np.testing.assert_allclose(superposed(boxed)[1].positions.mean(axis=0), first.positions.mean(axis=0))


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    path = found(double_well, WELL, 7, progress=lambda *given: told.append(given))
    climbing = [done for done, _, remark in told if remark.startswith("climbing")]
    assert climbing == list(range(climbing[-1] + 1))
    assert len(told) == path.n_steps + 2
    assert told[0][2].startswith("band, ") and told[-1][2].startswith("climbing, ")


def test_a_model_that_fails_is_at_fault() -> None:
    def fails(x: float, y: float) -> tuple[float, float, float]:
        if abs(x) < 0.5:
            raise RuntimeError("no convergence")
        return double_well(x, y)

    with pytest.raises(ModelFailure, match="no convergence"):
        found(fails, WELL, 7)
    with pytest.raises(ModelFailure, match="first end point"):
        found(lambda x, y: (np.nan, 0.0, 0.0) if x < 0.0 else double_well(x, y), WELL, 7)


def test_an_element_that_is_not_covered() -> None:
    with pytest.raises(NotApplicable, match="does not cover H"):
        climbing_path(on(double_well, elements=("O",)), straight(*WELL, 5))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"method": "improved"}, "Did you mean 'improvedtangent'"),
        ({"largest_force_eV_A": 0.0}, "must all be positive"),
        ({"n_steps": 0}, "must all be positive"),
        ({"spring_eV_A2": -1.0}, "must all be positive"),
    ],
)
def test_parameters_must_make_sense(how: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        found(double_well, WELL, 5, **how)


def test_images_must_be_a_path() -> None:
    images = straight(*WELL, 4)
    other, boxed = Atoms("He", [[0, 0, 0]]), Atoms("H", [[0, 0, 0]], cell=[9, 9, 9], pbc=True)
    for wrong, told in (
        (images[:2], "three images or more, from end to end; this one has 2"),
        ([*images[:3], other], "image 3 has other atoms"),
        ([images[0], boxed, images[1]], "image 1 has another cell"),
    ):
        with pytest.raises(BadInput, match=told):
            climbing_path(on(double_well), wrong)
