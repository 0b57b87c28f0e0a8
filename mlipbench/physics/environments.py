"""Which different surroundings of an atom look the same to a descriptor of low body order?

A k-body descriptor of an atom is a sum over all sets of k - 1 neighbours of functions that no rotation or reflection of
the set changes. The pairs here have the same sets up to a size, rotated or reflected, and yet no rotation or reflection
turns one whole into the other; so no descriptor up to that body order can tell them apart, whatever its functions.

name        neighbours  same up to   built from
two_body    2           2-body       one angle, 53° against 180°
three_body  4           3-body       a neighbour that changes sides: its angles to the other three are swapped
four_body   7           4-body       two like scalene triangles, twisted by 36°, and a cap on the axis, up or down

All neighbours are of one element; the atom in the middle is at the origin and is compared alone.

Sources: S. N. Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020), figures 1 and 2; C. K. Joshi et al., On the
Expressive Power of Geometric Graph Neural Networks, arXiv:2301.09308 (2023). The latter's two pairs that should need
five bodies have isosceles triangles, which makes each a rotated copy of itself: they serve as controls here, and a
scalene triangle takes their place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlipbench.errors import BadInput

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Two arrangements of neighbours around an atom at the origin.

    Attributes:
        name: as in "three_body"; for two that differ, the highest body order in which they do not.
        first: shape (n_neighbours, 3), any unit.
        second: likewise.
        source: where they come from.
    """

    name: str
    first: Float
    second: Float
    source: str


def scaled(twins: Twins, *, radius: float) -> Twins:
    """Return both arrangements with the farthest neighbour at this distance from the origin.

    Raises:
        BadInput: the radius is not positive.

    >>> float(np.abs(scaled(TWO_BODY, radius=3.5).first).max())
    3.5
    """
    if not 0.0 < radius < np.inf:
        raise BadInput(f"the radius is {radius}; a positive distance is needed")
    farthest = float(np.linalg.norm(twins.first, axis=1).max())
    factor = radius / farthest
    return replace(twins, first=factor * twins.first, second=factor * twins.second)


def _turned_about_y(points: Float, angle: float) -> Float:
    """Return points turned about the y axis, x towards z."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]]))


def _capped(triangle: Float, *, twist: float | None) -> tuple[Float, Float]:
    """Return a triangle about the y axis with a cap above it, and with the cap below.

    With a twist the triangle stands at y = +2, and again, turned by that angle, at y = -2.
    """
    up = np.array([[0.0, 1.0, 0.0]])
    rings = triangle if twist is None else np.vstack([triangle + 2.0 * up, _turned_about_y(triangle, twist) - 2.0 * up])
    return np.vstack([rings, 5.0 * up]), np.vstack([rings, -5.0 * up])


_SCALENE: Final = np.array([[3.0, 0.0, -4.0], [0.0, 0.0, 5.0], [-4.0, 0.0, -3.0]])
_ISOSCELES: Final = np.array([[3.0, 0.0, -4.0], [0.0, 0.0, 5.0], [-3.0, 0.0, -4.0]])
_TWIST: Final = np.pi / 5.0
_POZDNYAKOV: Final = "Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020)"
_JOSHI: Final = "Joshi et al., arXiv:2301.09308 (2023)"


def _twins(name: str, arrangements: tuple[Float, Float], source: str) -> Twins:
    return Twins(name=name, first=arrangements[0], second=arrangements[1], source=source)


TWO_BODY: Final = Twins(
    name="two_body",
    first=np.array([[5.0, 0.0, 0.0], [3.0, 0.0, 4.0]]),
    second=np.array([[5.0, 0.0, 0.0], [-5.0, 0.0, 0.0]]),
    source=_JOSHI,
)
THREE_BODY: Final = Twins(
    name="three_body",
    first=np.array([[5.0, 0.0, 5.0], [5.0, 5.0, 5.0], [-5.0, -5.0, 5.0], [0.0, 5.0, 5.0]]),
    second=np.array([[5.0, 0.0, 5.0], [5.0, 5.0, 5.0], [-5.0, -5.0, 5.0], [0.0, -5.0, 5.0]]),
    source=f"{_POZDNYAKOV}, figure 1(b); {_JOSHI}",
)
FOUR_BODY: Final = _twins(
    "four_body", _capped(_SCALENE, twist=_TWIST), f"after {_POZDNYAKOV}, figure 2(f), with a scalene triangle"
)
DIFFERENT: Final = (TWO_BODY, THREE_BODY, FOUR_BODY)

# Equal by a rotation or reflection, so that whatever tells them apart is wrong.
SAME: Final = (
    _twins("rotated_7", _capped(_ISOSCELES, twist=_TWIST), f"{_JOSHI}, there called a 4-body pair"),
    _twins("rotated_4", _capped(_ISOSCELES, twist=None), f"{_JOSHI}, there called a chiral 4-body pair"),
    _twins("mirrored_4", _capped(_SCALENE, twist=None), "a scalene triangle with a cap on either side"),
)
