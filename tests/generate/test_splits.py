"""Do the splits keep apart what must be kept apart?"""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlipbench.generate.ecemc_gfn1 import plan
from mlipbench.generate.splits import HELD_OUT, QUICK, SPLITS_OF_TRAJECTORIES, Planned, assign, deal, uid

PLANNED = [trajectory.planned for trajectory in plan()]
SIZE = {t.name: sum({"EC": 10, "EMC": 15}[m] * n for m, n in t.composition.items()) for t in plan()}
FAMILY = {one.name: one.family for one in PLANNED}


def trajectories_of(splits: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    """Return the trajectories with a frame in each split."""
    found = defaultdict(set)
    for name, members in splits.items():
        for member in members:
            found[member].add(name.rsplit(":", 1)[0])
    return found


def leaks(splits: dict[str, tuple[str, ...]]) -> bool:
    """Does a trajectory lie in two of the splits that must be apart?"""
    found = trajectories_of(splits)
    apart = [found[name] for name in (*SPLITS_OF_TRAJECTORIES, *HELD_OUT)]
    return sum(len(one) for one in apart) != len(set().union(*apart))


def test_no_trajectory_is_in_two_splits() -> None:
    assert not leaks(assign(PLANNED))


def test_a_split_by_frames_would_be_noticed() -> None:
    wrong = {name: (("train", "test")[k % 2],) for k, name in enumerate(assign(PLANNED))}
    assert leaks(wrong)


def test_every_frame_has_a_split() -> None:
    assert set(assign(PLANNED)) == {uid(one.name, k) for one in PLANNED for k in range(one.n_frames)}


def test_the_test_split_has_enough_independent_trajectories() -> None:
    kinds = Counter(FAMILY[name] for name in trajectories_of(assign(PLANNED))["test"])
    assert kinds.total() >= 10
    assert all(kinds[family] >= 3 for family in ("molecule", "cluster", "liquid", "gfn1md"))


@pytest.mark.parametrize("split", ["train", "valid", "test", "train_quick"])
def test_every_family_is_everywhere(split: str) -> None:
    assert {FAMILY[name] for name in trajectories_of(assign(PLANNED))[split]} == set(FAMILY.values())


def test_shares_are_about_six_one_three() -> None:
    dealt = Counter(value for value in deal(PLANNED).values() if value in SPLITS_OF_TRAJECTORIES)
    share = {name: n / dealt.total() for name, n in dealt.items()}
    assert 0.5 < share["train"] < 0.7
    assert 0.05 < share["valid"] < 0.2
    assert 0.2 < share["test"] < 0.4


def test_control_lies_between_quick_training_frames_and_outside_train() -> None:
    splits = assign(PLANNED)
    quick = defaultdict(list)
    for name, members in splits.items():
        if "train_quick" in members:
            trajectory, number = name.rsplit(":", 1)
            quick[trajectory].append(int(number))
    control = [name for name, members in splits.items() if "control" in members]
    assert 40 <= len(control) <= 80
    for name in control:
        trajectory, number = name.rsplit(":", 1)
        assert splits[name] == ("control",)
        assert min(quick[trajectory]) < int(number)
    between = [c for c in control if int(c.rsplit(":", 1)[1]) < max(quick[c.rsplit(":", 1)[0]])]
    assert len(between) >= 0.9 * len(control)


def test_train_quick_is_quick() -> None:
    splits = assign(PLANNED)
    chosen = [name.rsplit(":", 1)[0] for name, members in splits.items() if "train_quick" in members]
    sizes = Counter(SIZE[name] for name in chosen)
    assert 180 <= len(chosen) <= 220
    assert sum(size * n for size, n in sizes.items()) <= 4500
    assert sizes[160] in {1, 2}
    assert all("train" in members for name, members in splits.items() if "train_quick" in members)


def test_valid_quick_is_part_of_valid() -> None:
    chosen = [members for members in assign(PLANNED).values() if "valid_quick" in members]
    assert 15 <= len(chosen) <= 25
    assert all("valid" in members for members in chosen)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(QUICK)),
            st.sampled_from(["molecule", "cluster", "liquid", "gfn1md"]),
            st.integers(1, 12),
            st.sampled_from(["", "hotter"]),
        ),
        max_size=40,
    )
)
def test_any_plan_is_split_without_leaks(rows: list[tuple[str, str, int, str]]) -> None:
    planned = [
        Planned(name=f"t{k}", kind=kind, family=family, n_frames=n, held_out=held)
        for k, (kind, family, n, held) in enumerate(rows)
    ]
    splits = assign(planned)
    assert len(splits) == sum(one.n_frames for one in planned)
    assert not leaks(splits)
    home = deal(planned)
    assert all(home[name.rsplit(":", 1)[0]] == "train" for name, members in splits.items() if "control" in members)


def test_seeds_do_not_depend_on_the_others() -> None:
    seeds = [trajectory.seed(purpose) for trajectory in plan() for purpose in ("packing", "gaff2", "gfn1")]
    assert len(set(seeds)) == len(seeds)
    first = plan()[0]
    assert first.name == "molecule_EC-300K-0"
    assert first.seed("gaff2") == 133625419  # golden: moves only with the base seed
