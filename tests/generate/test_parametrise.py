"""Are the shipped GAFF2 templates what the programs make today?"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openmm")
pytest.importorskip("rdkit")

from mlipbench.errors import NotApplicable
from mlipbench.generate.parametrise import SMILES, TYPES, parametrise, program
from mlipbench.models.gaff2 import NAMES, one_molecule, openmm, template


def test_a_missing_program_is_named() -> None:
    with pytest.raises(NotApplicable, match="no-such-program is not installed"):
        program("no-such-program", extra="generate")


def test_every_molecule_has_a_recipe() -> None:
    assert set(SMILES) == set(TYPES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_template_is_reproduced(tmp_path: Path, name: str) -> None:
    try:
        parametrise(name, tmp_path)
    except NotApplicable as error:
        pytest.skip(str(error))
    mm = openmm()
    fresh = mm.XmlSerializer.deserialize((tmp_path / f"{name}.xml").read_text(encoding="utf-8"))
    energies = []
    for system in (fresh, one_molecule(name)):
        context = mm.Context(system, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
        context.setPositions(template(name).positions / 10.0)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    assert energies[0] == pytest.approx(energies[1], abs=0.5)  # kJ/mol; AM1-BCC charges move in the third digit


@pytest.mark.parametrize("name", NAMES)
def test_like_atoms_may_change_places(name: str) -> None:
    """Swapping two hydrogens of one carbon, geometry unchanged, must not change the energy."""
    mm, known = openmm(), template(name)
    context = mm.Context(one_molecule(name), mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName("Reference"))
    positions = known.positions + np.random.default_rng(1).normal(0.0, 0.05, known.positions.shape)
    hydrogens = [k for k, symbol in enumerate(known.symbols) if symbol == "H"]
    bonded = {h: next(i if j == h else j for i, j in known.bonds if h in {i, j}) for h in hydrogens}
    first = hydrogens[0]
    twin = next(h for h in hydrogens[1:] if bonded[h] == bonded[first])
    stranger = next(h for h in hydrogens if bonded[h] != bonded[first])
    energies = []
    for other in (first, twin, stranger):
        order = list(range(len(positions)))
        order[first], order[other] = order[other], order[first]
        context.setPositions(positions[order] / 10.0)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    assert energies[1] == pytest.approx(energies[0], abs=1e-9)
    assert abs(energies[2] - energies[0]) > 1.0  # a hydrogen of another carbon is not a like atom
