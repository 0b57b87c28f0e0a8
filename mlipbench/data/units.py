"""Which frames belong together when nobody says?

Frames of one trajectory err together. Where a file names no trajectories, consecutive frames of one kind are taken
together in blocks, so that intervals are rather too wide than too narrow; a block's name says that it is a guess.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Final

FRAMES_OF_BLOCK: Final = 80
FEWEST_BLOCKS, MOST_BLOCKS = 4, 8  # of each kind of frame
ENOUGH_KINDS: Final = 6  # with so many, each kind of frame may be a unit of its own
GUESSED: Final = "no trajectories are named: intervals are taken over blocks of frames that were guessed"
_NAME: Final = re.compile(r"frames \d+–\d+")


def blocks(kinds: Sequence[Hashable]) -> list[str]:
    """Return the guessed unit of each frame.

    Frames of one kind, in their order, are cut into blocks of 80 frames or more, at most eight; with fewer than six
    kinds each is cut into four at least. Errors stay alike for a while along a trajectory, but nobody knows how long: a
    block should be longer than that, and Student's t pays for their small number.

    Args:
        kinds: of each frame, such as its composition and periodicity; those of one kind may belong together.

    >>> blocks(["a", "a", "a", "a", "a", "b"])
    ['frames 1–2', 'frames 1–2', 'frames 3–3', 'frames 4–4', 'frames 5–5', 'frames 6–6']
    """
    of_kind: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(kinds):
        of_kind.setdefault(kind, []).append(number)
    fewest = FEWEST_BLOCKS if len(of_kind) < ENOUGH_KINDS else 1
    names = [""] * len(kinds)
    for numbers in of_kind.values():
        n_blocks = min(len(numbers), max(fewest, min(MOST_BLOCKS, len(numbers) // FRAMES_OF_BLOCK)))
        for block in range(n_blocks):
            # The first blocks are one frame longer where the number does not divide.
            size, rest = divmod(len(numbers), n_blocks)
            start = block * size + min(block, rest)
            own = numbers[start : start + size + (block < rest)]
            for number in own:
                names[number] = f"frames {own[0] + 1}–{own[-1] + 1}"
    return names


def is_guessed(trajectory: str) -> bool:
    """Is this the name of a block that was guessed?

    >>> is_guessed("frames 1–25"), is_guessed("liquid-3")
    (True, False)
    """
    return _NAME.fullmatch(trajectory) is not None
