"""`python -m mlipbench.speed [PART ...]`: measure, print and write."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from mlipbench.errors import MlipbenchError
from mlipbench.speed.accuracy import accuracy
from mlipbench.speed.box import box
from mlipbench.speed.comparison import Absent, Comparison, Found
from mlipbench.speed.farm import farm
from mlipbench.speed.fitting import fitting
from mlipbench.speed.floor import floor
from mlipbench.speed.growth import growth
from mlipbench.speed.motion import motion
from mlipbench.speed.page import write
from mlipbench.speed.settings import Settings, say

PARTS: Final[dict[str, Callable[[Settings], Iterator[Found]]]] = {
    "farm": farm,
    "box": box,
    "fitting": fitting,
    "accuracy": accuracy,
    "floor": floor,
    "growth": growth,
    "motion": motion,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts asked for, print and write them, and return 0 when every bar is met.

    A bar whose comparison could not be made, such as for a peer that is not installed, is not met.
    """
    chosen = _parser().parse_args(arguments)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        say("OMP_NUM_THREADS is not 1: models may use more than one thread, and the comparison is not fair")
    settings = _settings(chosen)
    found: list[Found] = []
    for part in chosen.parts or PARTS:
        for one in PARTS[part](settings):
            found.append(one)
            say(one.text)
    for path in write(found, chosen.out):
        say(f"written to {path}")
    missed = [one for one in found if isinstance(one, Comparison) and not one.is_met]
    absent = [one for one in found if isinstance(one, Absent) and one.bar]
    return 1 if missed or absent else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlipbench.speed", description="How fast is it, beside what?")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}; or all")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for speed.json and speed.html")
    parser.add_argument("--ace-jax-python", default=sys.executable, help="interpreter that has ace-jax")
    parser.add_argument(
        "--trial", action="store_true", help="tiny sizes, to see that it works; the figures mean nothing"
    )
    return parser


def _settings(chosen: argparse.Namespace) -> Settings:
    if not chosen.trial:
        return Settings(ace_jax_python=chosen.ace_jax_python)
    return Settings(
        n_calls=2, n_steps=2, n_repeats=1, train_frames=12, test_frames=8, assembly_frames=2, farm_frames=8,
        degrees=(5,), is_whole=False, ace_jax_python=chosen.ace_jax_python,
    )  # fmt: skip


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except MlipbenchError as error:
        say(str(error))
        raise SystemExit(2) from None
