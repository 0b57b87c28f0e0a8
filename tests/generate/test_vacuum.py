"""Are vacuum labels those of each molecule alone, and only from what made the other labels?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from made import labelled

from mlipbench.data import manifest
from mlipbench.errors import BadInput
from mlipbench.generate.vacuum import add_vacuum_labels
from mlipbench.models import load
from mlipbench.models.entries import read_model
from mlipbench.models.toy import Springs


def test_each_molecule_is_asked_alone_and_the_data_set_is_kept(tiny: Path, tmp_path: Path) -> None:
    data = manifest.load(manifest.source(str(tiny)))
    reference = load(read_model("mlipbench.models.toy:Springs").spec, device="cpu")
    add_vacuum_labels(data, reference, out=tmp_path / "out", report=lambda _: None)
    made = manifest.load(manifest.source(str(tmp_path / "out")))
    assert made.splits == data.splits
    assert made.trajectory == data.trajectory
    np.testing.assert_allclose(made.forces, data.forces, atol=1e-7)
    np.testing.assert_allclose(made.stress, data.stress, atol=1e-9)
    assert made.energy_intra is not None
    assert made.forces_intra is not None
    for number, atoms in enumerate(labelled()):
        energy = 0.0
        for part in (slice(0, 3), slice(3, 6)):
            alone = Atoms(atoms.numbers[part], atoms.positions[part])
            alone.calc = Springs()
            energy += alone.get_potential_energy()
            rows = slice(made.offsets[number] + part.start, made.offsets[number] + part.stop)
            np.testing.assert_allclose(made.forces_intra[rows], alone.get_forces(), atol=1e-7)
        assert made.energy_intra[number] == pytest.approx(energy, abs=1e-7)
        assert abs(made.energy_intra[number] - made.energy[number]) > 1e-3, "the molecules do feel each other"


def test_another_reference_is_refused(tiny: Path, tmp_path: Path) -> None:
    data = manifest.load(manifest.source(str(tiny)))
    other = load(read_model("ase.calculators.emt:EMT").spec, device="cpu")
    with pytest.raises(BadInput, match=r"EMT does not reproduce the forces of data set tiny: they differ by up to"):
        add_vacuum_labels(data, other, out=tmp_path / "out", report=lambda _: None)
    assert not (tmp_path / "out").exists()
