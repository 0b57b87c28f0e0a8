"""A model that breaks one symmetry is caught at it, and at nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from pair_model import CUTOFF_A, PairModel

from mlipbench.benchmarks.operations import OPERATIONS, can_be_moved, frames_to_move, random_rotation
from mlipbench.benchmarks.symmetry import Symmetry
from mlipbench.core.benchmark import Context
from mlipbench.core.dataset import Dataset
from mlipbench.core.metric import MetricValue
from mlipbench.core.model import Model, Predictions
from mlipbench.core.view import Bars
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

MADE = Symmetry(n_frames=6)


def measured(model: Model, data: Dataset, context: Context) -> dict[str, MetricValue]:
    return {v.metric: v for v in MADE.score(MADE.observe(model, data, context), data)}


def test_model_that_obeys_is_found_to(data: Dataset, context: Context) -> None:
    found = measured(PairModel(), data, context)
    assert set(found) == {metric.name for metric in MADE.about.metrics}
    # Energies are of order -1000 eV, so that round-off alone is 1e-10 meV/atom and more.
    assert max(value.value for value in found.values()) < 1e-6


def test_periodic_operations_are_left_out_without_periodic_frames(data: Dataset, context: Context) -> None:
    free = data.take([i for i, atoms in enumerate(data.frames) if not atoms.pbc.any()])
    found = measured(PairModel(), free, context)
    assert {name.split("_")[0] for name in found} - {"round"} == set(OPERATIONS) - {"wrap", "supercell"}
    assert not [name for name in found if name.endswith("stress")]


def test_half_of_the_frames_are_periodic(data: Dataset, context: Context) -> None:
    seen = MADE.observe(PairModel(), data, context)
    assert len(seen["rotation_own"]) == len(seen["frame"]) == 6
    assert len(seen["wrap_own"]) == 3
    assert all(data.frames[i].pbc.all() for i in seen["frame"][seen["wrap_own"]])


def test_what_cannot_be_asked_is_said(data: Dataset, context: Context) -> None:
    atoms = data.take([i for i, frame in enumerate(data.frames) if len(frame) == 1])
    with pytest.raises(NotApplicable, match="no frame of two atoms or more"):
        MADE.observe(PairModel(), atoms, context)
    with pytest.raises(BadInput, match="n_frames is 0"):
        Symmetry(n_frames=0).observe(PairModel(), data, context)


def test_the_smallest_frames_of_each_kind_are_taken_where_all_are_large(data: Dataset, context: Context) -> None:
    seen = Symmetry(n_frames=4, max_atoms=2).observe(PairModel(), data, context)
    chosen = [data.frames[i] for i in seen["frame"]]
    for own in ([a for a in data.frames if a.pbc.any()], [a for a in data.frames if not a.pbc.any() and len(a) > 1]):
        smallest = min(len(atoms) for atoms in own)
        assert [len(a) for a in chosen if a.pbc.any() == own[0].pbc.any()] == [smallest]


def test_a_doubled_cell_has_twice_the_charge(data: Dataset) -> None:
    crystal = next(atoms for atoms in data.frames if atoms.pbc.all()).copy()
    crystal.info |= {"charge": -1, "spin": 1}
    for name, apply in OPERATIONS.items():
        moved = apply(crystal, np.random.default_rng(0)).atoms
        assert moved.info["charge"] == (-2 if name == "supercell" else -1)
        assert can_be_moved(name, crystal)
    crystal.info["spin"] = 2
    assert [name for name in OPERATIONS if not can_be_moved(name, crystal)] == ["supercell"]


def unlike_neighbours_in_the_list(atoms: Atoms) -> float:
    return float((atoms.numbers != np.roll(atoms.numbers, 1)).sum())


def pairs_along_z(atoms: Atoms) -> float:
    r, vector = neighbor_list("dD", atoms, CUTOFF_A)
    return float((vector[:, 2] ** 2 * (1.0 - (r / CUTOFF_A) ** 2) ** 3).sum())


def handedness(atoms: Atoms) -> float:
    """Sum over atoms of a·(b × c), three weighted sums of the vectors to the neighbours."""
    i, r, vector = neighbor_list("idD", atoms, CUTOFF_A)
    z = atoms.numbers[neighbor_list("j", atoms, CUTOFF_A)]
    sums = np.zeros((3, len(atoms), 3))
    for k, weight in enumerate((np.exp(-r), np.exp(-(r**2)) * z, r * np.exp(-r) * z**2)):
        np.add.at(sums[k], i, (weight * (1.0 - (r / CUTOFF_A) ** 2) ** 3)[:, None] * vector)
    return float(np.einsum("ij,ij->", sums[0], np.cross(sums[1], sums[2])))


def distance_from_origin(atoms: Atoms) -> float:
    return 0.0 if atoms.pbc.any() else float((atoms.positions**2).sum())


def spread_as_stored(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.positions - atoms.positions.mean(axis=0))) if atoms.pbc.any() else 0.0


def square_of_size(atoms: Atoms) -> float:
    return float(len(atoms) ** 2)


@dataclass(frozen=True)
class Breaks(PairModel):
    """The pair model with an energy that should not be there."""

    term: Callable[[Atoms], float] | None = None

    def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress = super().answer(atoms)
        assert self.term is not None
        return energy + 0.1 * self.term(atoms), forces, stress


@dataclass(frozen=True)
class PullsAlongX(PairModel):
    """A force and a stress that do not turn with the frame."""

    def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress = super().answer(atoms)
        return energy, forces + np.array([0.1, 0.0, 0.0]), stress + np.diag([0.01, 0.0, 0.0])


@pytest.mark.parametrize(
    ("term", "caught"),
    [
        (unlike_neighbours_in_the_list, {"permutation"}),
        (pairs_along_z, {"rotation", "reflection"}),
        (handedness, {"reflection"}),
        (distance_from_origin, {"translation"}),
        (spread_as_stored, {"wrap", "supercell"}),
        (square_of_size, {"supercell"}),
    ],
)
def test_each_broken_symmetry_is_caught_alone(
    term: Callable[[Atoms], float], caught: set[str], data: Dataset, context: Context
) -> None:
    found = measured(Breaks(term=term), data, context)
    for operation in OPERATIONS:
        error = found[f"{operation}_energy"].value
        assert error > 0.01 if operation in caught else error < 1e-6, operation


def test_vectors_that_do_not_turn_are_caught(data: Dataset, context: Context) -> None:
    found = measured(PullsAlongX(), data, context)
    for operation in ("rotation", "reflection"):
        assert found[f"{operation}_force"].value > 1.0
        assert found[f"{operation}_stress"].value > 0.01
        assert found[f"{operation}_energy"].value < 1e-6
    for operation in ("permutation", "translation", "wrap", "supercell"):
        assert found[f"{operation}_force"].value < 1e-6


@dataclass(frozen=True)
class Single(PairModel):
    """Energies of 1000 eV per atom in single precision, as of all electrons."""

    def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress = super().answer(atoms)
        rng = np.random.default_rng(int.from_bytes(atoms.positions.tobytes()[:16], "little"))
        sites = energy / len(atoms) + rng.normal(size=len(atoms))
        sites += energy / len(atoms) - sites.mean()
        total = np.float32(0.0)
        for site in sites.astype(np.float32):
            total = np.float32(total + site)
        return float(total), forces.astype(np.float32).astype(np.float64), stress


@dataclass(frozen=True)
class AlmostTurned(PairModel):
    """A network that learnt rotations from examples: 3 meV/Å are left, smoothly."""

    def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress = super().answer(atoms)
        near = np.array([(pairs := neighbor_list("iD", atoms, CUTOFF_A))[1][pairs[0] == k].sum(axis=0)
                         for k in range(len(atoms))])  # fmt: skip
        return energy, forces + 0.003 * np.sin(near[:, ::-1]), stress


def test_single_precision_is_no_broken_symmetry(data: Dataset, context: Context) -> None:
    found = measured(Single(), data, context)
    definition = {metric.name: metric for metric in MADE.about.metrics}
    assert found["round_off_energy"].value > 1e-3
    for name, value in found.items():
        assert value.value < definition[name].bad, name


def test_what_was_learnt_from_examples_is_not_equivariant(data: Dataset, context: Context) -> None:
    found = measured(AlmostTurned(), data, context)
    assert found["rotation_force"].value > 1.0
    assert found["permutation_force"].value < 1e-6


def test_a_frame_without_an_answer_costs_itself(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class NoBox(PairModel):
        """It does not answer for doubled cells, and for no first frame."""

        def predict(self, frames: Sequence[Atoms]) -> Predictions:
            if any(len(atoms) > largest for atoms in frames) or any(first == atoms for atoms in frames):
                raise ModelFailure("out of memory")
            return super().predict(frames)

    largest = max(len(atoms) for atoms in data.frames)
    first = data.frames[frames_to_move(data, n_frames=6, max_atoms=150)[0]]
    found = measured(NoBox(), data, context)
    assert "supercell_energy" not in found
    assert found["rotation_energy"].value < 1e-6
    seen = MADE.observe(NoBox(), data, context)
    assert len(seen["frame"]) == 5 and len(seen["supercell_failed"]) == 3
    told = " ".join(label for view in MADE.views(seen, data) if isinstance(view, Bars) for label in view.labels)
    assert "supercell of" in told and "out of memory" in told
    assert "supercell_energy" in MADE.expects(data)


def test_forces_that_keep_the_old_order_are_caught(data: Dataset, context: Context) -> None:
    @dataclass(frozen=True)
    class SortsAtoms(PairModel):
        def answer(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
            order = np.argsort(atoms.numbers, kind="stable")
            return super().answer(atoms[order])

    found = measured(SortsAtoms(), data, context)
    assert found["permutation_force"].value > 1.0
    assert found["permutation_energy"].value < 1e-6


def test_other_seed_other_operations(data: Dataset, context: Context) -> None:
    models = Breaks(term=pairs_along_z)
    one, other = (measured(models, data, replace(context, seed=seed))["rotation_energy"].value for seed in (0, 1))
    assert one != pytest.approx(other)


def test_rotations_are_proper_and_cover_all_directions() -> None:
    rng = np.random.default_rng(0)
    turns = np.array([random_rotation(rng) for _ in range(2000)])
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    # For uniform rotations every matrix element has mean 0 and variance 1/3.
    np.testing.assert_allclose(turns.mean(axis=0), 0.0, atol=0.06)
    np.testing.assert_allclose(turns.var(axis=0), 1 / 3, atol=0.04)
