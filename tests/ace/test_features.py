"""ACE functions and the SOAP power spectrum of each atom: closed forms, symmetries, and another program's kernels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.couplings import solid_harmonics
from mlipbench.ace.features import ace_features, power_spectrum, soap_features
from mlipbench.ace.kernels import design
from mlipbench.ace.neighbours import neighbours
from mlipbench.ace.potential import LinearAce, species_of
from mlipbench.ace.soap import Soap, _functions, _quadrature, expansion, smeared
from mlipbench.ace.tables import pair_tables, product_tables
from mlipbench.core.model import Float, Int
from mlipbench.errors import BadInput, ModelFailure, NotApplicable

SOAPS = {
    "polynomial": Soap(numbers=(1, 6, 8), cutoff_A=3.5, n_max=4, l_max=4, sigma_A=0.4),
    "gto": Soap(numbers=(1, 6, 8), cutoff_A=3.5, n_max=4, l_max=4, sigma_A=0.4, radial="gto"),
    "faded": Soap(numbers=(1, 6, 8), cutoff_A=4.0, n_max=3, l_max=3, sigma_A=0.5, transition_A=1.0, overlap=True),
}


def orders(basis: Basis) -> Int:
    """How many features each function multiplies."""
    table = functions(basis)
    found = np.zeros(table.n_functions, dtype=np.int64)
    found[table.term_function] = (table.term_features < len(basis.numbers) * table.n_features).sum(axis=1)
    return found


def normalised(features: Float) -> Float:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


# Radial functions


@pytest.mark.parametrize("radial", ["polynomial", "gto"])
@pytest.mark.parametrize("angular", [0, 3])
def test_radial_functions_are_orthonormal_and_nearest_to_the_primitives(radial: Any, angular: int) -> None:
    soap = Soap(numbers=(1,), cutoff_A=4.5, n_max=6, sigma_A=0.5, radial=radial)
    radii, weights = _quadrature(soap)
    found = _functions(soap, angular)
    np.testing.assert_allclose((found * weights * radii**2) @ found.T, np.eye(6), atol=1e-12)
    if radial == "polynomial":
        primitives = (4.5 - radii) ** np.arange(3, 9)[:, None]
    else:
        ends = np.linspace(1.0, 4.5, 6)[:, None]
        primitives = radii**angular * np.exp(np.log(1e-3 / ends**angular) * (radii / ends) ** 2)
        np.testing.assert_allclose(ends**angular * np.exp(np.log(1e-3 / ends**angular)), 1e-3)
    # Löwdin's choice among all orthonormal sets is the one whose overlap with the primitives is symmetric and positive.
    overlap = (found * weights * radii**2) @ primitives.T
    np.testing.assert_allclose(overlap, overlap.T, atol=1e-12 * np.abs(overlap).max())
    assert np.linalg.eigvalsh(overlap).min() > 0


def test_one_polynomial_is_normalised_on_paper() -> None:
    """∫ (c - r)^6 r² dr from 0 to c is 2 c^9 / (7 · 8 · 9)."""
    soap = Soap(numbers=(1,), cutoff_A=3.0, n_max=1, sigma_A=0.5)
    radii, _ = _quadrature(soap)
    np.testing.assert_allclose(_functions(soap, 2)[0], (3.0 - radii) ** 3 / np.sqrt(3.0**9 / 252), rtol=1e-12)


def smeared_gto(soap: Soap, angular: int, distances: Float) -> Float:
    """∫ r^l e^(-α r²) Y_lm e^(-η |r - r_j|²) d³r, from the product of two Gaussians; shape (n, n_max)."""
    ends = np.linspace(1.0, soap.cutoff_A, soap.n_max)
    alpha, eta = -np.log(1e-3 / ends**angular) / ends**2, 0.5 / soap.sigma_A**2
    from scipy.special import gamma

    overlap = 0.5 * gamma(angular + 1.5) * (alpha[:, None] + alpha) ** (-angular - 1.5)
    values, vectors = np.linalg.eigh(overlap)
    r = distances[:, None]
    primitive = (np.pi / (alpha + eta)) ** 1.5 * (eta / (alpha + eta) * r) ** angular
    return primitive * np.exp(-alpha * eta / (alpha + eta) * r**2) @ (vectors / np.sqrt(values)) @ vectors.T


@pytest.mark.parametrize("angular", [0, 1, 4])
def test_a_smeared_gaussian_orbital_has_a_closed_form(angular: int) -> None:
    soap = SOAPS["gto"]
    distances = np.linspace(0.0, soap.reach_A, 40)
    found = expansion(soap, distances)[:, angular * soap.n_max : (angular + 1) * soap.n_max]
    wanted = smeared_gto(soap, angular, distances)
    np.testing.assert_allclose(found, wanted, atol=1e-11)
    assert np.abs(found - smeared_gto(replace(soap, sigma_A=0.401), angular, distances)).max() > 1e-4


# Power spectra


@pytest.mark.parametrize("distance", [0.7, 1.9, 3.4])
def test_one_neighbour_has_a_closed_form(distance: float) -> None:
    """By the addition theorem Σ_m Y_lm² = (2l + 1) / 4π, wherever the neighbour stands."""
    soap = replace(SOAPS["gto"], central=0.0)
    direction = np.array([2.0, -1.0, 2.0]) / 3.0
    found = soap_features(Atoms("HC", [[0, 0, 0], distance * direction]), soap)[0]
    wanted = []
    for angular in range(soap.l_max + 1):
        f = np.zeros(12)
        f[4:8] = smeared_gto(soap, angular, np.array([distance]))[0]  # the channels of carbon
        wanted.append((np.sqrt(2 * angular + 1) / (4 * np.pi) * np.outer(f, f))[np.triu_indices(12)])
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-11)


def overlap_error(soap: Soap) -> float:
    """How far p · p' is from the squared overlap of two densities averaged over rotations, relative.

    Each density is one Gaussian at r or r': ∫ρρ' = (πσ²)^(3/2) exp(-|r - r'|² / 4σ²), and the mean of its square over
    the angle between them is (πσ²)³ exp(-(r² + r'²) / 2σ²) sinh(x) / x with x = r r' / σ².
    """
    a, b, s = 1.3, 1.7, soap.sigma_A
    p, q = (soap_features(Atoms("H2", [[0, 0, 0], [0, 0, r]]), soap)[0] for r in (a, b))
    x = a * b / s**2
    wanted = (np.pi * s**2) ** 3 * np.exp(-(a**2 + b**2) / (2 * s**2)) * np.sinh(x) / x
    return abs(float(p @ q) / wanted - 1.0)


def test_the_dot_product_is_the_squared_overlap_averaged_over_rotations() -> None:
    soap = Soap(numbers=(1,), cutoff_A=6.0, n_max=12, l_max=10, sigma_A=0.8, central=0.0, overlap=True)
    assert overlap_error(soap) < 1e-6
    assert overlap_error(replace(soap, overlap=False)) > 0.1
    assert overlap_error(replace(soap, l_max=2)) > 1e-3  # an incomplete expansion shows


def delta_spectrum(frame: Atoms, basis: Basis) -> Float:
    """Power spectrum of densities that are sharp points: SOAP's product over the radial functions of the ACE."""
    listed = neighbours(frame, basis.cutoff_A)
    species = species_of(frame, basis.numbers)
    tables = solid_harmonics(basis.l_max)
    n_max = int(basis.degrees[1]) + 1
    soap = Soap(numbers=basis.numbers, n_max=n_max, l_max=basis.l_max)
    result = np.zeros((len(frame), soap.n_features))
    for i in range(len(frame)):
        a = np.zeros(((basis.l_max + 1) ** 2, len(basis.numbers) * n_max))
        for p in range(listed.start[i], listed.start[i + 1]):
            r = float(np.linalg.norm(listed.vector[p]))
            harmonics = np.zeros(len(a))
            for (k, *powers), c in zip(tables.powers, tables.coefficients, strict=True):
                harmonics[k] += c * np.prod((listed.vector[p] / r) ** powers)
            t, end = np.exp(-basis.decay * r / basis.cutoff_A), np.exp(-basis.decay)
            x = 1 - 2 * (t - end) / (1 - end)
            radial = np.cos(np.arange(n_max) * np.arccos(x)) * (1 - (r / basis.cutoff_A) ** 2) ** basis.envelope
            z = species[listed.index[p]] * n_max
            a[:, z : z + n_max] += np.outer(harmonics, radial)
        power_spectrum(smeared(soap), a, result[i])
    return result


def test_ace_pairs_of_features_are_the_power_spectrum_of_point_densities(crystal: Atoms) -> None:
    basis = Basis(numbers=(1, 6, 8), cutoff_A=3.0, degrees=(0.0, 3.0), l_max=2, l_weight=1e-6)
    found = ace_features(crystal, basis)[:, orders(basis) == 2]
    wanted = delta_spectrum(crystal, basis)
    # The ACE keeps n + n' up to 3 and orders its functions otherwise.
    difference = np.abs(found[0][:, None] - wanted[0]).min(axis=1)
    assert difference.max() < 1e-13 * np.abs(wanted[0]).max()
    match = np.abs(found[0][:, None] - wanted[0]).argmin(axis=1)
    assert len(set(match.tolist())) == found.shape[1] == 108
    np.testing.assert_allclose(found, wanted[:, match], atol=1e-12 * np.abs(wanted).max())


# ACE functions


def test_the_features_of_one_element_sum_to_its_part_of_the_energy_row(basis: Basis, crystal: Atoms) -> None:
    listed, species = neighbours(crystal, basis.cutoff_A), species_of(crystal, basis.numbers)
    n_columns = 3 * functions(basis).n_functions
    energy = np.zeros(n_columns)
    forces, virial = np.zeros((3 * len(crystal), n_columns)), np.zeros((6, n_columns))
    design(
        pair_tables(basis), product_tables(basis), listed.start, listed.index, listed.vector, species,
        energy, forces, virial,
    )  # fmt: skip
    features = ace_features(crystal, basis)
    sums = np.array([features[species == z].sum(axis=0) for z in range(3)])
    np.testing.assert_allclose(sums, energy.reshape(3, -1), atol=1e-12 * np.abs(energy).max())
    assert np.abs(features - features.mean(axis=0)).max() > 1e-3 * np.abs(energy).max()  # atoms do differ


@pytest.mark.parametrize("periodic", [False, True])
def test_weights_times_features_are_the_site_energies(
    potential: LinearAce, ethanol: Atoms, crystal: Atoms, periodic: bool
) -> None:
    frame = crystal if periodic else ethanol
    bare = LinearAce(
        basis=potential.basis, e0_eV=potential.e0_eV, weights=potential.weights, wall_reach_A=np.zeros((3, 3))
    )
    species = species_of(frame, potential.basis.numbers)
    features = ace_features(frame, potential.basis)
    found = potential.e0_eV[species] + np.einsum("ib,ib->i", features, potential.weights[species])
    wanted = bare.evaluate(frame).site_energies
    np.testing.assert_allclose(found, wanted, atol=1e-11)
    assert np.abs(found - potential.evaluate(frame).site_energies).max() > 1e-6  # the wall is no feature


# Symmetries and limits


@pytest.mark.parametrize("name", [*SOAPS, "ace"])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), improper=st.booleans())
def test_features_do_not_change_under_rotation_reflection_order_and_images(
    name: str, seed: int, improper: bool
) -> None:
    rng = np.random.default_rng(seed)
    frame = Atoms("OCCHHH", rng.normal(0.0, 1.0, (6, 3)) + 1.7 * np.eye(6, 3), cell=[4.0, 4.5, 5.0], pbc=True)
    assume(frame.get_all_distances(mic=True)[np.triu_indices(6, 1)].min() > 0.3)
    basis = Basis(numbers=(1, 6, 8), cutoff_A=4.0, degrees=(4.0, 4.0, 3.0), l_max=3)

    def features(one: Atoms) -> Float:
        return ace_features(one, basis) if name == "ace" else soap_features(one, SOAPS[name])

    turn = Rotation.random(random_state=seed).as_matrix() * (-1.0 if improper else 1.0)
    order = rng.permutation(6)
    other = frame[order]
    other.set_cell(frame.cell.array @ turn.T, scale_atoms=False)
    other.positions = frame.positions[order] @ turn.T + rng.normal(size=3)
    other.positions += rng.integers(-2, 3, (6, 3)) @ other.cell.array
    before = features(frame)
    np.testing.assert_allclose(features(other), before[order], atol=1e-10 * np.abs(before).max())
    np.testing.assert_allclose(features(frame.repeat((2, 1, 1)))[:6], before, atol=1e-10 * np.abs(before).max())
    assert np.abs(features(other) - before[np.roll(order, 1)]).max() > 1e-6 * np.abs(before).max()


def test_pairs_beyond_the_reach_change_nothing(ethanol: Atoms) -> None:
    basis = Basis(numbers=(1, 6, 8), cutoff_A=2.5, degrees=(4.0, 3.0), l_max=2)
    wide = neighbours(ethanol, 8.0)
    calls = [lambda *given: ace_features(ethanol, basis, *given)]
    calls += [lambda *given, soap=soap: soap_features(ethanol, soap, *given) for soap in SOAPS.values()]
    for call in calls:
        np.testing.assert_allclose(call(wide), call(), rtol=0, atol=1e-13 * np.abs(call()).max())  # in another order


def test_lone_atoms_and_no_atoms() -> None:
    soap, basis = SOAPS["polynomial"], Basis(numbers=(1, 6, 8), degrees=(4.0, 3.0), l_max=2)
    lone = soap_features(Atoms("C"), soap)
    assert np.count_nonzero(lone) == 10  # l = 0 of carbon with carbon: 4 · 5 / 2 products
    assert not soap_features(Atoms("C"), replace(soap, central=0.0)).any()
    assert not ace_features(Atoms("C"), basis).any()
    assert soap_features(Atoms(), soap).shape == (0, soap.n_features)
    assert ace_features(Atoms(), basis).shape == (0, functions(basis).n_functions)


def jumps(soap: Soap) -> list[float]:
    """Value, slope and curvature of the features, relative, for a neighbour just inside the reach."""
    h = 2e-3
    at = [
        soap_features(Atoms("CHO", [[0, 0, 0], [0, 0, soap.reach_A - k * h], [1.1, 0, 0]]), soap)[0] for k in range(4)
    ]
    scale = np.abs(at[0]).max()
    derivatives = (at[1], (at[1] - at[0]) / h, (2 * at[0] - 5 * at[1] + 4 * at[2] - at[3]) / h**2)
    derivatives = (at[1] - at[0], *derivatives[1:])
    return [float(np.abs(one).max() / scale) for one in derivatives]


def test_with_a_transition_neighbours_come_and_go_smoothly() -> None:
    value, slope, curvature = jumps(SOAPS["faded"])
    assert value < 1e-7
    assert slope < 1e-4
    assert curvature < 5e-2
    alone = soap_features(Atoms("CO", [[0, 0, 0], [1.1, 0, 0]]), SOAPS["faded"])[0]
    far = soap_features(Atoms("CHO", [[0, 0, 0], [0, 0, 3.9999], [1.1, 0, 0]]), SOAPS["faded"])[0]
    np.testing.assert_allclose(far, alone, atol=1e-9 * np.abs(alone).max())
    cut = replace(SOAPS["faded"], transition_A=0.0, tail=1.0)  # the same cutoff as a sharp edge
    far = soap_features(Atoms("CHO", [[0, 0, 0], [0, 0, 3.9999], [1.1, 0, 0]]), cut)[0]
    assert np.abs(far - soap_features(Atoms("CO", [[0, 0, 0], [1.1, 0, 0]]), cut)[0]).max() > 1e-3 * np.abs(far).max()


def test_the_known_degenerate_environments() -> None:
    """Two sets of four neighbours with the same distances and angles, Pozdnyakov et al., PRL 125, 166001 (2020)."""
    first = [[0, 0, 0], [2.5, 0, 2.5], [2.5, 2.5, 2.5], [-2.5, -2.5, 2.5], [0, 2.5, 2.5]]
    second = [*first[:4], [0, -2.5, 2.5]]
    frames = [Atoms("C5", first), Atoms("C5", second)]
    by_soap = [soap_features(frame, replace(SOAPS["polynomial"], cutoff_A=5.0))[0] for frame in frames]
    np.testing.assert_allclose(by_soap[0], by_soap[1], atol=1e-14 * np.abs(by_soap[0]).max())
    three = Basis(numbers=(6,), degrees=(4.0, 4.0, 4.0), l_max=3, l_weight=0.5)
    by_ace = [ace_features(frame, three)[0] for frame in frames]
    same = orders(three) <= 2
    np.testing.assert_allclose(by_ace[0][same], by_ace[1][same], atol=1e-13 * np.abs(by_ace[0]).max())
    assert np.abs(by_ace[0] - by_ace[1]).max() > 1e-7 * np.abs(by_ace[0]).max()


# Another program


RECORDED = json.loads((Path(__file__).parent / "dscribe_soap.json").read_text(encoding="utf-8"))
# dscribe orthonormalises by inverting the overlap of the functions, whose condition number is 3e15 for eight
# polynomials; with its radial functions in place of ours, all kernels agree to 1e-12.
TOLERANCE = {("gto", 8): 1e-9, ("gto", 4): 2e-11, ("gto", 6): 2e-11, ("polynomial", 6): 2e-8, ("polynomial", 8): 1e-5}


def kernels(soap: Soap) -> Float:
    frames = [Atoms(one["symbols"], one["positions"], cell=one["cell"], pbc=one["pbc"]) for one in RECORDED["frames"]]
    p = normalised(np.concatenate([soap_features(frame, soap) for frame in frames]))
    return (p @ p.T)[np.triu_indices(len(p), 1)]


def of_dscribe(setting: dict[str, Any]) -> Soap:
    return Soap(
        numbers=(1, 6, 8),
        cutoff_A=setting["r_cut"],
        n_max=setting["n_max"],
        l_max=setting["l_max"],
        sigma_A=setting["sigma"],
        radial=setting["rbf"],
        central=setting["w0"],
    )


@pytest.mark.parametrize("setting", RECORDED["settings"], ids=lambda one: f"{one['rbf']}-{one['n_max']}-{one['w0']}")
def test_kernels_agree_with_dscribe(setting: dict[str, Any]) -> None:
    soap, tolerance = of_dscribe(setting), TOLERANCE[setting["rbf"], setting["n_max"]]
    np.testing.assert_allclose(kernels(soap), setting["kernels"], rtol=0, atol=tolerance)
    wrong = {
        "centre": replace(soap, central=1.0 - soap.central),
        "width": replace(soap, sigma_A=1.01 * soap.sigma_A),
        "reach": replace(soap, tail=1.0),
        "products counted twice": replace(soap, overlap=True),
        "radial functions": replace(soap, radial="gto" if soap.radial == "polynomial" else "polynomial"),
    }
    for name, one in wrong.items():
        assert np.abs(kernels(one) - setting["kernels"]).max() > 2 * tolerance, name


def test_kernels_agree_with_the_dscribe_that_is_installed() -> None:
    dscribe = pytest.importorskip("dscribe.descriptors")
    for setting in RECORDED["settings"]:
        weighting = None if setting["w0"] == 1.0 else {"w0": setting["w0"]}
        p = [
            dscribe.SOAP(
                species=RECORDED["species"], r_cut=setting["r_cut"], n_max=setting["n_max"], l_max=setting["l_max"],
                sigma=setting["sigma"], rbf=setting["rbf"], weighting=weighting, periodic=any(one["pbc"]),
            ).create(Atoms(one["symbols"], one["positions"], cell=one["cell"], pbc=one["pbc"]))
            for one in RECORDED["frames"]
        ]  # fmt: skip
        theirs = normalised(np.concatenate(p))
        found = (theirs @ theirs.T)[np.triu_indices(len(theirs), 1)]
        np.testing.assert_allclose(
            kernels(of_dscribe(setting)), found, rtol=0, atol=TOLERANCE[setting["rbf"], setting["n_max"]]
        )


# Refusals


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numbers", (6, 1)),
        ("cutoff_A", 0.9),
        ("n_max", 0),
        ("l_max", 13),
        ("sigma_A", 0.04),
        ("radial", "bessel"),
        ("transition_A", 5.0),
        ("tail", 0.0),
        ("central", -1.0),
        ("cutoff_A", float("nan")),
        ("central", float("nan")),
    ],
)
def test_values_without_meaning_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"SOAP: {name} is"):
        Soap(**{"numbers": (1, 6), "cutoff_A": 4.5, name: value})


def test_frames_without_an_answer_are_refused() -> None:
    basis = Basis(numbers=(1, 6, 8), degrees=(4.0, 3.0), l_max=2)
    for call in (lambda one: soap_features(one, SOAPS["gto"]), lambda one: ace_features(one, basis)):
        with pytest.raises(NotApplicable, match="Li"):
            call(Atoms("Li"))
        with pytest.raises(ModelFailure, match="apart"):
            call(Atoms("H2", [[0, 0, 0], [0, 0, 0]]))
        with pytest.raises(BadInput, match="not finite"):
            call(Atoms("H2", [[0, 0, 0], [0, 0, np.inf]]))
