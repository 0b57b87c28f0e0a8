"""On what, with what, and at what cost was a number made?"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mlipbench import __version__
from mlipbench.core.result import Provenance

# Packages that can change a number; absent ones are left out.
PACKAGES: Final = (
    "numpy", "scipy", "numba", "ase", "matscipy", "torch", "e3nn", "mace-torch", "openmm", "tblite", "networkx", "dask",
    "distributed",
)  # fmt: skip


@cache
def packages() -> Mapping[str, str]:
    """Return the installed version of each package that can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def is_installed(package: str) -> bool:
    """Is there a module or distribution of this name? Not for an empty name."""
    if not package:
        return False
    if package.isidentifier() and find_spec(package) is not None:
        return True
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


@cache
def hardware(device: str) -> str:
    """Return the processor's name and cores, and the accelerator's where one is used."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text("utf-8", "replace").splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    text = f"{name}, {os.cpu_count()} cores"
    if device == "cuda":
        import torch

        text += f", {torch.cuda.get_device_name(0)}"
    return text


@dataclass(frozen=True, slots=True)
class Clock:
    """The moment a job began."""

    wall: float
    cpu: float
    started: str

    @staticmethod
    def start() -> Clock:
        """Begin now."""
        return Clock(time.perf_counter(), time.process_time(), datetime.now(UTC).isoformat(timespec="seconds"))

    def stop(self, *, device: str, seed: int) -> Provenance:
        """Return what it took, and on what."""
        # ru_maxrss is in kB on Linux and in bytes on macOS.
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return Provenance(
            started=self.started, seconds=time.perf_counter() - self.wall, cpu_seconds=time.process_time() - self.cpu,
            peak_memory_MB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
            host=platform.node(), hardware=hardware(device), device=device, python=platform.python_version(),
            packages=packages(), mlipbench=__version__, seed=seed,
        )  # fmt: skip
