"""What can go wrong, and whose fault it is."""

import difflib
from collections.abc import Iterable


class MlipbenchError(Exception):
    """Base of all errors that mlipbench raises on purpose; its text is one clear sentence."""


class BadInput(MlipbenchError):
    """The user gave something we cannot use: a file, a name, a number. Exit code 3."""


class ModelFailure(MlipbenchError):
    """The model is at fault: it raised, returned NaN, changed its atoms or ran past its time limit."""


class NotApplicable(MlipbenchError):
    """The question does not apply: an element the model lacks, no molecules, a package that is not installed."""


class MissingPackage(NotApplicable):
    """A package is not installed.

    Attributes:
        package: its name.
    """

    def __init__(self, message: str, *, package: str) -> None:
        """Keep the sentence and the package's name."""
        super().__init__(message)
        self.package = package


def unknown(what: str, given: str, known: Iterable[str], *, where: str = "") -> BadInput:
    """Return the error for a name that is not in a list, with the nearest name and the whole list.

    Args:
        what: the kind of thing, as in "benchmark".
        given: the name that was not found.
        known: all names that would do.
        where: file and row, put in front.

    >>> str(unknown("benchmark", "forse", ["force", "speed"], where="suite.toml, row 'a'"))
    "suite.toml, row 'a': unknown benchmark 'forse'. Did you mean 'force'? Known: force, speed."
    """
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1)
    return BadInput(
        (f"{where}: " if where else "")
        + f"unknown {what} '{given}'."
        + (f" Did you mean '{near[0]}'?" if near else "")
        + (f" Known: {', '.join(names)}." if names else " There are none.")
    )


def missing_package(package: str, *, extra: str, needed_for: str) -> MissingPackage:
    """Return the error for an optional package that is not installed.

    >>> str(missing_package("openmm", extra="mm", needed_for="the GAFF2 row"))
    "openmm is not installed, and the GAFF2 row needs it: pip install 'mlipbench[mm]'"
    """
    return MissingPackage(
        f"{package} is not installed, and {needed_for} needs it: pip install 'mlipbench[{extra}]'", package=package
    )
