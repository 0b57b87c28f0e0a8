"""Which frames are for training, and which are kept apart?

Whole trajectories are dealt to train, valid and test, because frames of one trajectory resemble each other. The split
`control` breaks that rule on purpose: it is made of frames that lie in time between training frames of the same
trajectories, so that the difference between `test` and `control` shows what the rule is worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DEAL = ("train", "test", "train", "train", "valid", "train", "test", "train", "test", "train")
DEAL_SHORT = ("train", "test", "train", "valid")
SPLITS_OF_TRAJECTORIES = ("train", "valid", "test")
HELD_OUT = ("hotter", "larger_clusters", "composition", "density", "isolated_atoms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What the split needs to know of one trajectory.

    Attributes:
        name: of the trajectory.
        kind: config_type of its frames.
        family: trajectories are dealt family by family, in their order: "molecule", "cluster", "liquid" or "gfn1md".
        n_frames: planned.
        held_out: name of the split all its frames belong to; empty when it is dealt.
    """

    name: str
    kind: str
    family: str
    n_frames: int
    held_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """What train_quick and control take of one training trajectory of a kind.

    Attributes:
        control: frames held out of training, in the middle.
        frames: at most this many frames, spread over the others.
        trajectories: of at most this many trajectories.
    """

    control: tuple[int, ...]
    frames: int
    trajectories: int = 10**6


QUICK: Mapping[str, Quick] = {
    "molecule_EC": Quick(control=(3, 6), frames=8),
    "molecule_EMC": Quick(control=(3, 6), frames=8),
    "cluster_2": Quick(control=(2,), frames=5),
    "cluster_3": Quick(control=(2,), frames=2),
    "cluster_4": Quick(control=(2,), frames=2),
    "liquid_3": Quick(control=(1,), frames=2, trajectories=4),
    "liquid_6": Quick(control=(1,), frames=2, trajectories=2),
    "liquid_12": Quick(control=(), frames=1, trajectories=1),
    "molecule_EC_gfn1md": Quick(control=(1,), frames=3),
    "molecule_EMC_gfn1md": Quick(control=(1,), frames=3),
    "cluster_2_gfn1md": Quick(control=(1,), frames=2),
    "cluster_3_gfn1md": Quick(control=(1,), frames=2),
    "liquid_3_gfn1md": Quick(control=(1,), frames=1),
    "liquid_6_gfn1md": Quick(control=(), frames=1, trajectories=1),
}
VALID_QUICK = {"molecule": 4, "cluster": 2, "liquid": 1, "gfn1md": 1}


def uid(trajectory: str, number: int) -> str:
    """Return the name of a frame.

    >>> uid("liquid_3-a", 2)
    'liquid_3-a:2'
    """
    return f"{trajectory}:{number}"


def deal(planned: Sequence[Planned]) -> dict[str, str]:
    """Return train, valid, test or the held-out split of each trajectory, by its place in its family.

    >>> deal([Planned(name=n, kind="k", family="liquid", n_frames=1) for n in "abc"])
    {'a': 'train', 'b': 'test', 'c': 'train'}
    """
    place: Counter[str] = Counter()
    dealt = {}
    for one in planned:
        if one.held_out:
            dealt[one.name] = one.held_out
            continue
        pattern = DEAL_SHORT if one.family == "gfn1md" else DEAL
        # Trajectories of xTB dynamics are few: they are dealt kind by kind, so that each kind reaches the test set.
        key = one.kind if one.family == "gfn1md" else one.family
        dealt[one.name] = pattern[place[key] % len(pattern)]
        place[key] += 1
    return dealt


def assign(planned: Sequence[Planned]) -> dict[str, tuple[str, ...]]:
    """Return the splits of each frame by its uid; a control frame is in `control` alone.

    >>> plan = [Planned(name="a", kind="liquid_12", family="liquid", n_frames=2)]
    >>> assign(plan)
    {'a:0': ('train', 'train_quick'), 'a:1': ('train',)}
    """
    dealt, used = deal(planned), Counter[str]()
    splits: dict[str, tuple[str, ...]] = {}
    for one in planned:
        home = dealt[one.name]
        rule = QUICK.get(one.kind)
        quick, control = set[int](), set[int]()
        if home == "train" and rule is not None and used[one.kind] < rule.trajectories:
            used[one.kind] += 1
            control = {k for k in rule.control if k < one.n_frames - 1}
            quick = set(_spread([k for k in range(one.n_frames) if k not in control], rule.frames))
        elif home == "valid":
            quick = set(_spread(list(range(one.n_frames)), VALID_QUICK[one.family]))
        for k in range(one.n_frames):
            splits[uid(one.name, k)] = (
                ("control",) if k in control else (home, f"{home}_quick") if k in quick else (home,)
            )
    return splits


def _spread(numbers: list[int], n: int) -> list[int]:
    """Pick at most n of some numbers, first and last included when n > 1."""
    if n >= len(numbers):
        return numbers
    return [numbers[round(i * (len(numbers) - 1) / max(n - 1, 1))] for i in range(n)]
