"""Random molecules in random cells, cut by the boundary and shuffled, with the answer known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlipbench.physics.cells import Bool, Float, Int

# Shapes of molecules, Å: an atom, a rod of two, a straight one of three, a bent one, a chain of six.
SHAPES = {
    "atom": np.zeros((1, 3)),
    "rod": np.array([[0.0, 0, 0], [1.1, 0, 0]]),
    "straight": np.array([[-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0]]),
    "bent": np.array([[0.96, 0, 0], [0, 0, 0], [-0.24, 0.93, 0]]),
    "chain": np.array([[0, 0, 0], [1.2, 0.3, 0], [2.3, -0.3, 0.2], [3.5, 0.2, 0], [4.6, -0.2, 0.3], [5.8, 0.2, 0]]),
}
RADIUS_A = 0.55  # bonds up to 1.375 Å; molecules are kept 2 Å apart


@dataclass(frozen=True, kw_only=True)
class Case:
    """Whole molecules, and the same as a file might hold them."""

    whole: Float
    positions: Float
    cell: Float
    pbc: Bool
    molecule: Int
    masses: Float
    forces: Float

    @property
    def radii(self) -> Float:
        return np.full(len(self.positions), RADIUS_A)

    def shuffled(self, order: Int) -> Case:
        return replace(
            self, whole=self.whole[order], positions=self.positions[order], molecule=self.molecule[order],
            masses=self.masses[order], forces=self.forces[order],
        )  # fmt: skip


def random_rotation(rng: np.random.Generator) -> Float:
    """A proper rotation."""
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(matrix * np.sign(np.linalg.det(matrix)))


def random_case(seed: int, *, bend_A: float = 0.0) -> Case:
    """Eight molecules on the sites of a skewed grid, shuffled; periodic, with every atom wrapped on its own.

    Args:
        seed: of everything.
        bend_A: how far the middle of each straight molecule is pushed aside.
    """
    rng = np.random.default_rng(seed)
    site = np.array([[8.0, 0, 0], [2.5, 8.0, 0], [-2.0, 3.0, 8.0]])
    names = list(SHAPES)
    pieces, numbers = [], []
    for k, corner in enumerate(np.ndindex(2, 2, 2)):
        shape = SHAPES[names[k % len(names)]].copy()
        if names[k % len(names)] == "straight":
            shape[1, 1] += bend_A
        # Straight molecules lie along x, so that they are straight to the last bit.
        turn = np.eye(3) if names[k % len(names)] in {"straight", "rod"} and k < len(names) else random_rotation(rng)
        pieces.append((shape - shape.mean(axis=0)) @ turn.T + np.array(corner) @ site)
        numbers += [k] * len(shape)
    whole = np.concatenate(pieces)
    cell = 2.0 * site
    cell[1] += rng.integers(-2, 3) * cell[0]
    # Unwrapped molecules may lie in any image.
    wrapped = whole - np.floor(whole @ np.linalg.inv(cell)) @ cell
    wrapped += rng.integers(-1, 2, size=whole.shape) @ cell
    case = Case(
        whole=whole, positions=wrapped, cell=cell, pbc=np.ones(3, bool), molecule=np.array(numbers),
        masses=rng.uniform(1.0, 40.0, size=len(whole)), forces=rng.normal(size=whole.shape),
    )  # fmt: skip
    return case.shuffled(rng.permutation(len(whole)))
