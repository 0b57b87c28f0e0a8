"""What may one type? `verbs` does it, and is imported late so that `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from mlipbench import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD_INPUT: Final = 3
STOPPED: Final = 130  # as shells report an interrupt
SITE: Final = Path("reports") / "site"
EPILOG: Final = """\
exit codes: 0 well, 1 the candidate is worse (gate), 2 cannot tell (something did not run), 3 bad input or usage

examples:
  mlipbench run electrolyte                              train and compare the reference models
  mlipbench run smoke --model my_model.py:calculator     any ASE calculator, in under a minute
  mlipbench run smoke --model my.model --data my.xyz     your MACE checkpoint on your own frames
  mlipbench gate smoke --candidate my_model.py:calculator
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose usage errors end with our exit code and one sentence."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is."""
        sys.stderr.write(f"{self.prog}: {message}. Try `{self.prog} --help`.\n")
        raise SystemExit(BAD_INPUT)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = _Parser(
        prog="mlipbench", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Is your interatomic potential safe for your system? With error bars, offline, on a laptop.",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"mlipbench {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    _run_parser(verbs.add_parser("run", help="run a suite on models and write the leaderboard"))
    _suite_parser(verbs.add_parser("score", help="score stored observations again, without running a model"))
    report = verbs.add_parser("report", help="write the leaderboard from what is stored")
    _suite_parser(report)
    _failures(report)
    report.add_argument(
        "--out", type=Path, default=SITE, metavar="DIR", help="folder of the page (default %(default)s)"
    )
    _gate_parser(verbs.add_parser("gate", help="is a candidate good enough to merge? Reads what `run` stored"))
    verbs.add_parser("list", help="suites, models, benchmarks and data sets that are there")
    check = verbs.add_parser("check", help="validate a suite, model or data set without running it")
    check.add_argument("what", nargs="+", metavar="NAME", help="name or file of a suite, model or data set")
    train = verbs.add_parser("train", help="train a model's recipe")
    train.add_argument("model", help="name or TOML file of a model with a recipe")
    _where_parser(train)
    _data_parser(verbs.add_parser("data", help="make or check data sets"))
    return top


def _where_parser(verb: argparse.ArgumentParser) -> None:
    """Add what says where and how jobs run."""
    verb.add_argument("--tier", choices=("quick", "standard", "full"), help="default: quick, or standard with a GPU")
    verb.add_argument(
        "--executor", default="local", metavar="KIND", help="serial, local or tcp://host:port (default %(default)s)"
    )
    verb.add_argument("--workers", type=_positive, metavar="N", help="processes of the local executor (default: cores)")
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument("--store", type=Path, metavar="DIR", help="folder of finished jobs (default reports/store)")
    verb.add_argument("--fresh", action="store_true", help="run again what is finished")


def _run_parser(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("suite", help="name or TOML file")
    verb.add_argument(
        "--model", action="append", default=[], metavar="M",
        help="name, TOML file, checkpoint, package.module:factory or file.py:factory; may be repeated",
    )  # fmt: skip
    verb.add_argument("--data", metavar="D", help="run every row on this data set instead: name, manifest or file")
    verb.add_argument("--out", type=Path, default=SITE, metavar="DIR", help="folder of the page (default %(default)s)")
    _seeds_parser(verb)
    _where_parser(verb)


def _seeds_parser(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--training-seeds", type=int, metavar="N",
        help="train every recipe with N seeds and show them as one model (default: as the suite says)",
    )  # fmt: skip


def _failures(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--failures", choices=("worst", "exclude", "penalty"),
        help="what a system counts that a model covers and gives no answer for (default: the suite's, worst)",
    )  # fmt: skip


def _suite_parser(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("suite", help="name or TOML file")
    verb.add_argument("--data", metavar="D", help="as given to `run`")
    verb.add_argument("--tier", choices=("quick", "standard", "full"), help="as given to `run`")
    verb.add_argument("--store", type=Path, metavar="DIR", help="folder of finished jobs (default reports/store)")


def _gate_parser(verb: argparse.ArgumentParser) -> None:
    _suite_parser(verb)
    _seeds_parser(verb)
    verb.add_argument("--candidate", required=True, metavar="MODEL", help="as given to `run --model`, or its name")
    verb.add_argument(
        "--baseline", type=Path, metavar="FILE", help="default reports/baseline/SUITE.json where it exists"
    )
    verb.add_argument(
        "--against", metavar="NAME", help="model of the baseline to compare with (default: the candidate's name)"
    )
    verb.add_argument("--write-baseline", action="store_true", help="make the stored results the new baseline")
    verb.add_argument(
        "--accept-failed", metavar="WHY", default="",
        help="with --write-baseline: accept failed checks, with the reason; it stands in every later verdict",
    )  # fmt: skip
    verb.add_argument(
        "--error-rate", type=float, metavar="A",
        help="share of suites in which an equally good model may be called worse (default: the suite's, 0.01)",
    )  # fmt: skip
    verb.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts for programs too")


def _data_parser(verb: argparse.ArgumentParser) -> None:
    kinds = verb.add_subparsers(dest="data_verb", metavar="VERB", required=True, parser_class=_Parser)
    generate = kinds.add_parser("generate", help="make a data set of ours again")
    generate.add_argument("name")
    generate.add_argument("--out", type=Path, metavar="DIR", help="default: reference_data/NAME of this installation")
    generate.add_argument("--scratch", type=Path, metavar="DIR", help="finished trajectories, kept for resuming")
    vacuum = kinds.add_parser(
        "vacuum", help="add vacuum labels: each molecule alone, evaluated by what made the labels"
    )
    vacuum.add_argument("name", help="name, manifest or file")
    vacuum.add_argument(
        "--reference", required=True, metavar="MODEL", help="what made the labels; as given to `run --model`"
    )
    vacuum.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the new data set")
    lint = kinds.add_parser("lint", help="read a data set and say what a careful reader should know")
    lint.add_argument("name", help="name, manifest or file")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit code; every error of ours is one sentence on standard error."""
    given = parser().parse_args(arguments)
    # Linear algebra in the parent must not fight the workers for cores; children set their own.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from mlipbench import verbs

        return verbs.attempted(given)
    except KeyboardInterrupt:
        sys.stderr.write("\nmlipbench: stopped. What is finished is kept; run the same command to go on.\n")
        return STOPPED


if __name__ == "__main__":
    raise SystemExit(main())
