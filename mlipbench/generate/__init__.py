"""How were our own data sets made?"""

from typing import Final

TABLE: Final[dict[str, str]] = {
    "ecemc_gfn1": "mlipbench.generate.ecemc_gfn1:generate",
}
