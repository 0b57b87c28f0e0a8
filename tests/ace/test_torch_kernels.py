"""The tensors against the compiled loops, on every device there is; and against closed forms and autograd."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.ace import kernels
from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.kernels import design
from mlipbench.ace.neighbours import Neighbours, neighbours
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.ace.torch_batch import Chunk, chunks, join
from mlipbench.ace.torch_features import features, gradient, pair_features, pulled_back, torch_pair_tables
from mlipbench.ace.torch_kernels import TorchAce, design_rows, repulsion, triangle
from mlipbench.core.model import Float
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

torch = pytest.importorskip("torch")

HAS_GPU = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not HAS_GPU, reason="needs a GPU"))]
on_each_device = pytest.mark.parametrize("device", DEVICES)


def cluster(symbols: Sequence[str], seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    sites = np.argwhere(np.ones((3, 3, 3)))[rng.permutation(27)[: len(symbols)]]
    return Atoms(symbols, 1.6 * sites + rng.uniform(-0.3, 0.3, size=(len(symbols), 3)))


def mixes() -> list[Atoms]:
    """Clusters of every mix of elements."""
    chosen = chain.from_iterable(combinations("HCO", n) for n in (1, 2, 3))
    return [cluster(list(one) * 4, seed) for seed, one in enumerate(chosen)]


@pytest.fixture
def frames(ethanol: Atoms, crystal: Atoms) -> list[Atoms]:
    """A cluster, a skewed cell smaller than the cutoff, a slab, lone atoms, no atoms, a repelling pair, mixes."""
    slab = crystal.copy()
    slab.pbc = (True, True, False)
    lone = [Atoms("C"), Atoms(), Atoms("O", cell=[20, 20, 20], pbc=True), Atoms("HC", [[0, 0, 0], [0, 0, 9.0]])]
    close = Atoms("OH", [[0, 0, 0], [0, 0, 0.4]])
    return [ethanol, crystal, *lone, slab, close, Atoms("H", cell=np.eye(3) * 2.1, pbc=True), *mixes()]


def off(found: Float | float, wanted: Float | float) -> float:
    """Return the largest difference in units of the largest number, or of 1."""
    wanted = np.asarray(wanted)
    return float(np.abs(np.asarray(found) - wanted).max(initial=0.0) / max(1.0, np.abs(wanted).max(initial=0.0)))


def evaluation_error(ace: TorchAce, frames: Sequence[Atoms]) -> float:
    """Return the largest relative difference to the compiled loops."""
    worst = 0.0
    for frame, found in zip(frames, ace.evaluate_many(frames), strict=True):
        wanted = ace.potential.evaluate(frame)
        assert (found.stress is None) == (wanted.stress is None)
        for name in ("energy", "site_energies", "forces", "virial", "stress"):
            if getattr(wanted, name) is not None:
                worst = max(worst, off(getattr(found, name), getattr(wanted, name)))
    return worst


def compiled_rows(basis: Basis, frames: Sequence[Atoms]) -> tuple[Float, Float, Float]:
    columns = len(basis.numbers) * functions(basis).n_functions
    energy, forces, virial = np.zeros((len(frames), columns)), [np.zeros((0, columns))], []
    for frame, row in zip(frames, energy, strict=True):
        pairs = neighbours(frame, basis.cutoff_A)
        forces.append(np.zeros((3 * len(frame), columns)))
        virial.append(np.zeros((6, columns)))
        design(
            pair_tables(basis), product_tables(basis), pairs.start, pairs.index, pairs.vector,
            species_of(frame, basis.numbers), row, forces[-1], virial[-1],
        )  # fmt: skip
    return energy, np.concatenate(forces), np.array(virial)


def rows_error(basis: Basis, frames: Sequence[Atoms], device: str, voigt: Sequence[int] = (0, 1, 2, 3, 4, 5)) -> float:
    found = design_rows(basis, frames, device=device)
    energy, forces, virial = compiled_rows(basis, frames)
    assert found.energy.device.type == device.partition(":")[0]
    return max(
        off(found.energy.cpu().numpy(), energy),
        off(found.forces.cpu().numpy(), forces),
        off(found.virial.cpu().numpy()[:, list(voigt)], virial),
    )


def random_potential(basis: Basis) -> LinearAce:
    n, table = len(basis.numbers), functions(basis)
    weights = np.random.default_rng(1).normal(size=(n, table.n_functions)) / table.degree**2
    return LinearAce(basis=basis, e0_eV=np.arange(n) - 1.0, weights=weights, wall_reach_A=np.full((n, n), 1.1))


@on_each_device
def test_a_dimer_of_one_function_is_known_on_paper(device: str) -> None:
    """One function, R_0 Y_00 = (1 - (r / rc)²)³ / √(4π), seen by both atoms."""
    basis = Basis(numbers=(1,), cutoff_A=4.0, degrees=(0.0,))
    bare = LinearAce(basis=basis, e0_eV=np.array([-1.0]), weights=np.array([[0.7]]), wall_reach_A=np.zeros((1, 1)))
    r = 1.3
    found = TorchAce(bare, device=device).evaluate_many([Atoms("H2", [[0, 0, 0], [0, 0, r]])])[0]
    u, size = 1.0 - (r / 4.0) ** 2, 0.7 / np.sqrt(4 * np.pi)
    assert found.energy == pytest.approx(-2.0 + 2 * size * u**3, abs=1e-14)
    assert found.forces[1] == pytest.approx([0.0, 0.0, 2 * size * 6 * u**2 * r / 16.0], abs=1e-14)
    assert found.virial[2, 2] == pytest.approx(-found.forces[1, 2] * r, abs=1e-14)


@on_each_device
def test_energies_forces_and_stresses_are_those_of_the_compiled_loops(
    potential: LinearAce, frames: list[Atoms], device: str
) -> None:
    assert evaluation_error(TorchAce(potential, device=device), frames) < 1e-10


@on_each_device
def test_rows_are_those_of_the_compiled_loops(basis: Basis, frames: list[Atoms], device: str) -> None:
    assert rows_error(basis, frames, device) < 1e-10
    assert rows_error(basis, frames, device, voigt=(0, 1, 2, 5, 4, 3)) > 1e-3


@pytest.mark.parametrize(
    "basis",
    [
        Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(3.0,)),
        Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(3.0, -1.0, 4.0), l_max=2),
        Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(2.0, 4.0, -1.0, 2.0), l_max=1, l_weight=0.5),
        Basis(
            numbers=(1, 6, 8),
            cutoff_A=3.5,
            degrees=(0.0, 5.0, 5.0),
            l_max=5,
            l_weight=0.5,
            envelope=4,
            pair_envelope=5,
            decay=1.5,
        ),
    ],
    ids=["pairs", "no second order", "fourth order", "high harmonics"],
)
def test_every_order_agrees(basis: Basis, crystal: Atoms) -> None:
    frames = [crystal, *mixes()]
    assert evaluation_error(TorchAce(random_potential(basis), device="cpu"), frames) < 1e-10
    assert rows_error(basis, frames, "cpu") < 1e-10


@given(symbols=st.lists(st.sampled_from("HCO"), max_size=12), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_any_cluster_agrees(potential: LinearAce, symbols: list[str], seed: int) -> None:
    assert evaluation_error(TorchAce(potential, device="cpu"), [cluster(symbols, seed)]) < 1e-10


@on_each_device
def test_rows_times_weights_are_the_prediction(potential: LinearAce, frames: list[Atoms], device: str) -> None:
    bare = replace(potential, e0_eV=np.zeros(3), wall_reach_A=np.zeros((3, 3)))
    rows = design_rows(potential.basis, frames, device=device)
    weights = torch.from_numpy(potential.weights.reshape(-1)).to(device)
    found = TorchAce(bare, device=device).evaluate_many(frames)
    assert off((rows.energy @ weights).cpu().numpy(), np.array([one.energy for one in found])) < 1e-12
    assert off((rows.forces @ weights).cpu().numpy(), np.concatenate([one.forces.reshape(-1) for one in found])) < 1e-12
    voigt = np.array([one.virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] for one in found])
    assert off((rows.virial @ weights).cpu().numpy(), voigt) < 1e-12


def cut(basis: Basis, frames: Sequence[Atoms], limit: int) -> list[Chunk]:
    """Return chunks of `limit` centres at most."""
    like = torch.zeros((), dtype=torch.float64)
    return list(chunks(join(basis, frames, None), like, centre_bytes=1, pair_bytes=0, limit=limit))


def test_gradients_are_those_of_autograd(crystal: Atoms) -> None:
    basis = Basis(numbers=(1, 6, 8), cutoff_A=3.5, degrees=(4.0, 6.0), l_max=4, l_weight=0.5)
    tables = torch_pair_tables(basis, torch.zeros((), dtype=torch.float64))
    assert len(tables.radial_counts) == 5
    chunk = cut(basis, [crystal], 99)[0]
    adjoint = torch.randn((tables.n_features, len(chunk.vector)), dtype=torch.float64, generator=torch.manual_seed(0))
    vector = chunk.vector.clone().requires_grad_()
    energy = (features(tables, pair_features(tables, chunk._replace(vector=vector))) * adjoint).sum()
    (wanted,) = torch.autograd.grad(energy, vector)
    pairs = pair_features(tables, chunk)
    found = pulled_back(tables, pairs, adjoint).T
    assert wanted.abs().max() > 1.0
    assert (found - wanted).abs().max() < 1e-12
    assert ((gradient(tables, pairs) * adjoint).sum(dim=1).T - wanted).abs().max() < 1e-12
    turned = tables._replace(gradients=tables.gradients.transpose(1, 2))
    assert (pulled_back(turned, pairs, adjoint).T - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["harmonics", "gradients", "cutoffs", "decay", "envelope"])
def test_a_wrong_table_is_noticed(potential: LinearAce, ethanol: Atoms, name: str) -> None:
    ace = TorchAce(potential, device="cpu")
    tables = ace._pairs
    wrong = {
        "harmonics": tables._replace(harmonics=tables.harmonics * torch.linspace(1, 1 + 1e-6, 4)[:, None].double()),
        "gradients": tables._replace(gradients=tables.gradients * (1 + 1e-6)),
        "cutoffs": tables._replace(cutoffs=torch.full_like(tables.cutoffs, potential.basis.cutoff_A)),
        "decay": tables._replace(decay=tables.decay * (1 + 1e-6)),
        "envelope": tables._replace(envelopes=(tables.envelopes[0] + 1, tables.envelopes[1])),
    }
    broken = copy(ace)
    object.__setattr__(broken, "_pairs", wrong[name])
    assert evaluation_error(ace, [ethanol]) < 1e-10
    assert evaluation_error(broken, [ethanol]) > 1e-9


def test_the_wall_is_that_of_the_compiled_loops() -> None:
    r = np.array([0.01, 0.3, 0.9, 1.1999])
    found = repulsion(*(torch.as_tensor(x, dtype=torch.float64) for x in (r, 6.0, 8.0, np.full(4, 1.2))))
    wanted = np.array([kernels.repulsion(x, 6.0, 8.0, 1.2) for x in r]).T
    for one, other in zip(found, wanted, strict=True):
        assert one.numpy() == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize("chunk_bytes", [1, 200_000])
def test_chunks_change_nothing(potential: LinearAce, frames: list[Atoms], chunk_bytes: int) -> None:
    basis = potential.basis
    assert evaluation_error(TorchAce(potential, device="cpu", chunk_bytes=chunk_bytes), frames) < 1e-10
    whole = design_rows(basis, frames, device="cpu")
    parts = design_rows(basis, frames, device="cpu", chunk_bytes=chunk_bytes)
    for name in ("energy", "forces", "virial"):
        assert off(getattr(parts, name).numpy(), getattr(whole, name).numpy()) < 1e-12


def test_a_chunk_has_one_element_and_stays_within_its_limit(basis: Basis, frames: list[Atoms]) -> None:
    parts = cut(basis, frames, 7)
    numbers = np.concatenate([frame.numbers for frame in frames])
    seen = np.concatenate([part.centre.numpy() for part in parts])
    assert sorted(seen) == list(range(len(numbers)))
    for part in parts:
        assert set(numbers[part.centre.numpy()]) == {basis.numbers[part.element]}
        assert 1 <= len(part.centre) <= 7
        assert (numbers[part.index.numpy()] == np.array(basis.numbers)[part.neighbour_element.numpy()]).all()
    assert len(cut(basis, frames, 0)) == len(numbers)


def test_a_frame_does_not_depend_on_its_company_and_a_call_repeats(potential: LinearAce, frames: list[Atoms]) -> None:
    ace = TorchAce(potential, device="cpu")
    together, again = ace.evaluate_many(frames), ace.evaluate_many(frames)
    alone = [ace.evaluate_many([frame])[0] for frame in frames]
    for one, two, three in zip(together, again, alone, strict=True):
        assert np.array_equal(one.forces, two.forces)
        assert np.array_equal(one.site_energies, two.site_energies)
        assert off(three.forces, one.forces) < 1e-13
    first, second = (design_rows(potential.basis, frames, device="cpu").forces for _ in range(2))
    assert torch.equal(first, second)


def test_lists_with_a_skin_change_nothing(potential: LinearAce, frames: list[Atoms]) -> None:
    ace = TorchAce(potential, device="cpu")
    wide = [neighbours(frame, potential.basis.cutoff_A + 0.7) for frame in frames]
    for one, two in zip(ace.evaluate_many(frames), ace.evaluate_many(frames, wide), strict=True):
        assert off(two.forces, one.forces) < 1e-12
        assert off(two.energy, one.energy) < 1e-12


def test_no_frames_no_atoms_and_lone_atoms(potential: LinearAce) -> None:
    ace = TorchAce(potential, device="cpu")
    assert ace.evaluate_many([]) == []
    nothing, lone = ace.evaluate_many([Atoms(), Atoms("C")])
    assert (nothing.energy, lone.energy) == (0.0, -2.0)
    assert nothing.forces.shape == (0, 3)
    assert not lone.forces.any()
    rows = design_rows(potential.basis, [], device="cpu")
    columns = potential.weights.size
    assert [tuple(x.shape) for x in (rows.energy, rows.forces, rows.virial)] == [
        (0, columns),
        (0, columns),
        (0, 6, columns),
    ]
    assert not design_rows(potential.basis, [Atoms("C")], device="cpu").forces.any()


def test_single_precision_has_about_seven_digits(potential: LinearAce, ethanol: Atoms) -> None:
    error = evaluation_error(TorchAce(potential, device="cpu", dtype="float32"), [ethanol])
    assert 1e-10 < error < 1e-5


def test_triangles_of_pieces_merge(basis: Basis, frames: list[Atoms]) -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(60, 12)) * 10.0 ** rng.uniform(-3, 3, size=12))
    pieces = torch.split(rows, [7, 30, 0, 23])
    found = triangle(pieces)
    merged = triangle([triangle(pieces[:2]), triangle(pieces[2:])])
    for one in (found, merged):
        assert one.shape == (12, 12)
        assert torch.equal(one, one.triu())
        assert off(one.abs().numpy(), torch.linalg.qr(rows).R.abs().numpy()) < 1e-13
    few = design_rows(basis, frames[:1], device="cpu").forces  # fewer rows than columns
    assert off((triangle([few]).T @ triangle([few])).numpy(), (few.T @ few).numpy()) < 1e-13
    with pytest.raises(BadInput, match="one piece"):
        triangle([])


def test_what_makes_no_sense_is_refused_with_its_frame(potential: LinearAce, ethanol: Atoms) -> None:
    ace = TorchAce(potential, device="cpu")
    with pytest.raises(NotApplicable, match=r"frame 1: .*does not cover Li, F; it covers H, C, O"):
        ace.evaluate_many([ethanol, Atoms("LiFH", [[0, 0, 0], [0, 0, 2], [0, 2, 0]])])
    with pytest.raises(ModelFailure, match=r"frame 0: atoms 0 and 1 are"):
        design_rows(potential.basis, [Atoms("OH", [[0, 0, 0], [0, 0, 0]])], device="cpu")
    lists: list[Neighbours] = []
    with pytest.raises(BadInput, match="0 neighbour lists for 1 frames"):
        ace.evaluate_many([ethanol], lists)


def test_wrong_devices_and_options_are_refused(potential: LinearAce, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"ACE: unknown device 'cdua'\. Did you mean 'cuda'"):
        TorchAce(potential, device="cdua")
    with pytest.raises(BadInput, match="unknown device 'cuda:one'"):
        design_rows(potential.basis, [], device="cuda:one")
    with pytest.raises(BadInput, match=r"unknown dtype 'float16'.*float32, float64"):
        TorchAce(potential, device="cpu", dtype="float16")
    with pytest.raises(BadInput, match="chunk_bytes is 0"):
        TorchAce(potential, device="cpu", chunk_bytes=0)
    with pytest.raises(NotApplicable, match="'cuda:99' was asked for, and torch finds"):
        TorchAce(potential, device="cuda:99")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(NotApplicable, match=r"torch is not installed, .* pip install 'mlipbench\[mace\]'"):
        TorchAce(potential, device="cuda")
    with pytest.raises(NotApplicable, match="torch is not installed"):
        design_rows(potential.basis, [], device="cpu")


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_a_missing_gpu_is_named(potential: LinearAce) -> None:
    with pytest.raises(NotApplicable, match="the device 'cuda' was asked for, and torch finds no GPU"):
        TorchAce(potential, device="cuda")


def test_frames_are_not_changed(potential: LinearAce, ethanol: Atoms) -> None:
    before = ethanol.copy()
    TorchAce(potential, device="cpu").evaluate_many([ethanol])
    design_rows(potential.basis, [ethanol], device="cpu")
    assert ethanol == before
