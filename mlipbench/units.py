"""eV, Å, fs, u and K inside; the only file with conversion factors.

CODATA 2018 values, as tabulated by NIST (https://physics.nist.gov/cuu/Constants/).
"""

import math
from typing import Final

EV_PER_HARTREE: Final = 27.211386245988
ANGSTROM_PER_BOHR: Final = 0.529177210903
EV_PER_KJ_PER_MOL: Final = 0.010364269656262175  # 1000 / (N_A · e)
ANGSTROM_PER_NM: Final = 10.0
GPA_PER_EV_PER_CUBIC_ANGSTROM: Final = 160.2176634
GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM: Final = 1.66053906660
BOLTZMANN_EV_PER_K: Final = 8.617333262e-5
EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS: Final = 103.64269652680505  # u · (1e5 m/s)² / e
BAR_PER_EV_PER_CUBIC_ANGSTROM: Final = 1602176.634
PASCAL_PER_EV_PER_CUBIC_ANGSTROM: Final = 160217663400.0
INVERSE_CM_PER_INVERSE_FS: Final = 33356.40951981521  # 1e15 / (100 c)
INVERSE_CM_PER_ROOT_EV_PER_U_SQUARE_ANGSTROM: Final = INVERSE_CM_PER_INVERSE_FS / (
    2.0 * math.pi * EV_PER_U_SQUARE_ANGSTROM_PER_SQUARE_FS**0.5
)  # 521.471; the root of eV/Å^2/u is an angular frequency
EV_PER_INVERSE_CM: Final = 1.2398419843320026e-4  # 100 h c / e
MEV_PER_EV: Final = 1000.0


def density_g_per_cm3(mass_u: float, volume_A3: float) -> float:
    """Return the mass density in g/cm³ of `mass_u` in `volume_A3`.

    One gram of 12 u particles in one cm³, per definition of the mole:

    >>> round(density_g_per_cm3(18.015, 29.915), 3)
    1.0
    """
    return mass_u / volume_A3 * GRAM_PER_CUBIC_CM_PER_U_PER_CUBIC_ANGSTROM
