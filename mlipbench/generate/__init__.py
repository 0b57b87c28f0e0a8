"""How were our own data sets made?"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

from mlipbench.errors import unknown

# name → "module:function"; the function keeps the contract of `Generator`.
TABLE: Final[dict[str, str]] = {
    "ecemc_gfn1": "mlipbench.generate.ecemc_gfn1:generate",
    "ecemc_gaff2": "mlipbench.generate.ecemc_gaff2:generate",
    "ecemc_gfn1_md": "mlipbench.generate.ecemc_gfn1_md:generate",
    "ecemc_gaff2_md": "mlipbench.generate.ecemc_gaff2_md:generate",
    "ecemc_frequencies": "mlipbench.generate.ecemc_frequencies:generate",
    "malonaldehyde_gfn2": "mlipbench.generate.malonaldehyde_gfn2:generate",
    "ecemc_scans/gfn1": "mlipbench.generate.ecemc_scans:generate_gfn1",
    "ecemc_scans/gfn2": "mlipbench.generate.ecemc_scans:generate_gfn2",
    "ecemc_scans/gaff2": "mlipbench.generate.ecemc_scans:generate_gaff2",
}


class Generator(Protocol):
    """Makes a data set of ours again."""

    def __call__(self, out: Path, *, scratch: Path, report: Callable[[str], None]) -> None:
        """Write manifest and frames into `out`; finished parts in `scratch` are not made twice.

        Raises:
            NotApplicable: a package or program is not installed.
        """


def generator(name: str) -> Generator:
    """Return the generator of a data set.

    Raises:
        BadInput: there is none.
    """
    if name not in TABLE:
        raise unknown("data set to generate", name, TABLE)
    module, function = TABLE[name].split(":")
    found: Generator = getattr(import_module(module), function)
    return found
