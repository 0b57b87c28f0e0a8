"""One tiny basis and a potential with random coefficients, shared so that kernels are compiled once."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlipbench.ace.basis import Basis, functions
from mlipbench.ace.potential import LinearAce


@pytest.fixture(scope="session")
def basis() -> Basis:
    return Basis(
        numbers=(1, 6, 8),
        cutoff_A=4.0,
        degrees=(5.0, 4.0, 4.0, 2.0),
        l_max=2,
        pair_cutoffs_A=((1, 1, 3.2), (1, 8, 3.7)),
    )


@pytest.fixture(scope="session")
def potential(basis: Basis) -> LinearAce:
    table = functions(basis)
    weights = np.random.default_rng(0).normal(size=(3, table.n_functions)) / table.degree**2
    return LinearAce(
        basis=basis, e0_eV=np.array([-1.0, -2.0, -3.0]), weights=weights, wall_reach_A=np.full((3, 3), 1.3)
    )


@pytest.fixture
def ethanol() -> Atoms:
    frame = molecule("CH3CH2OH")
    frame.rattle(0.05, seed=1)
    return frame


@pytest.fixture
def crystal(ethanol: Atoms) -> Atoms:
    """A periodic cell shorter than the cutoff in one direction, and skewed."""
    frame = ethanol.copy()
    frame.set_cell([[3.5, 0.2, 0.1], [0.3, 5.0, -0.4], [0.0, 0.5, 6.0]])
    frame.pbc = True
    return frame
