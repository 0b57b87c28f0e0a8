"""A descriptor as a model: features, no energies, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlipbench.ace.basis import Basis
from mlipbench.ace.features import ace_features, soap_features
from mlipbench.ace.soap import Soap
from mlipbench.core.model import Committee, Model, ModelSpec, SiteEnergies, SiteFeatures
from mlipbench.errors import BadInput, ModelFailure, NotApplicable
from mlipbench.models import load
from mlipbench.models.descriptor import Descriptor
from mlipbench.models.entries import read_model

SOAP = ModelSpec(
    name="soap",
    kind="descriptor",
    elements=("O", "H", "C"),
    options={"descriptor": "soap", "cutoff_A": 3.0, "n_max": 3, "l_max": 2},
)
ACE = replace(SOAP, name="ace", options={"descriptor": "ace", "cutoff_A": 3.0, "degrees": [3, 2.5], "l_max": 2})


@pytest.fixture
def frames() -> list[Atoms]:
    cell = molecule("H2O")
    cell.set_cell([3.0, 4.0, 5.0])
    cell.pbc = True
    return [molecule("CH3CH2OH"), cell]


@pytest.mark.parametrize("spec", [SOAP, ACE], ids=["soap", "ace"])
def test_it_has_features_and_nothing_else(spec: ModelSpec, frames: list[Atoms]) -> None:
    model = load(spec, device="cpu")
    assert isinstance(model, Model)
    assert isinstance(model, SiteFeatures)
    assert not isinstance(model, (SiteEnergies, Committee))
    assert model.spec.elements == ("H", "C", "O")
    for call in (lambda: model.predict(frames), model.calculator):
        with pytest.raises(NotApplicable, match=f"{spec.name} is a descriptor"):
            call()


@pytest.mark.parametrize("spec", [SOAP, ACE], ids=["soap", "ace"])
def test_features_run_frame_after_frame(spec: ModelSpec, frames: list[Atoms]) -> None:
    model = load(spec, device="cpu")
    assert isinstance(model, Descriptor)
    before = [frame.copy() for frame in frames]
    found = model.site_features(frames)
    if spec is SOAP:
        soap = Soap(numbers=(1, 6, 8), cutoff_A=3.0, n_max=3, l_max=2)
        wanted = [soap_features(frame, soap) for frame in frames]
    else:
        basis = Basis(numbers=(1, 6, 8), cutoff_A=3.0, degrees=(3.0, 2.5), l_max=2)
        wanted = [ace_features(frame, basis) for frame in frames]
    np.testing.assert_array_equal(found, np.concatenate(wanted))
    assert np.abs(found[:9] - found[:9][::-1]).max() > 1e-3 * np.abs(found).max()
    assert frames == before
    assert model.site_features([]).shape == (0, found.shape[1])


def test_what_it_cannot_describe_names_the_frame(frames: list[Atoms]) -> None:
    model = load(SOAP, device="cpu")
    assert isinstance(model, Descriptor)
    with pytest.raises(NotApplicable, match=r"frame 2: .* Li"):
        model.site_features([*frames, Atoms("Li")])
    with pytest.raises(ModelFailure, match="frame 0: atoms 0 and 1 are"):
        model.site_features([Atoms("H2", [[0, 0, 0], [0, 0, 0]])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": None}, "needs spec.elements"),
        ({"elements": ("H", "Cx")}, "unknown element 'Cx'"),
        ({"options": {}}, "unknown descriptor 'None'"),
        ({"options": {"descriptor": "sope"}}, "Did you mean 'soap'"),
        ({"options": {"descriptor": "soap", "sigma": 0.5}}, "unknown option 'sigma'. Did you mean 'sigma_A'"),
        ({"options": {"descriptor": "soap", "degrees": [1, 2]}}, "unknown option 'degrees'"),
        ({"options": {"descriptor": "soap", "numbers": [1]}}, "unknown option 'numbers'"),
        ({"options": {"descriptor": "soap", "n_max": "many"}}, "n_max"),
        ({"options": {"descriptor": "soap", "sigma_A": -1.0}}, "sigma_A is -1.0"),
        ({"options": {"descriptor": "ace", "l_max": 20}}, "l_max is 20"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(replace(SOAP, **change), device="cpu")


@pytest.mark.parametrize(
    ("name", "n_features"), [("soap", 1500), ("ace-nu2", 186), ("ace-nu3", 639), ("ace-nu4", 1989)]
)
def test_the_descriptors_that_come_along(name: str, n_features: int, frames: list[Atoms]) -> None:
    model = load(read_model(name).spec, device="cpu")
    assert isinstance(model, Descriptor)
    assert model.site_features(frames).shape == (12, n_features)
