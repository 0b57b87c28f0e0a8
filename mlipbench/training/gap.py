"""Data and a recipe become a Gaussian approximation potential, fitted by gap_fit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np

from mlipbench.core.dataset import Dataset
from mlipbench.core.model import ModelSpec, Progress, Trained
from mlipbench.errors import BadInput, ModelFailure, missing_package
from mlipbench.models.gap import GapModel, load
from mlipbench.models.gap_file import XML, GapFile, write
from mlipbench.training.e0 import baseline
from mlipbench.training.gap_input import FRAMES, arguments, frames_text, gap_terms, read_options

CHECKPOINT: Final = "model.gap"
LOG: Final = "gap_fit.log"
LAST_LINES: Final = 4  # of gap_fit's output, in the sentence about its failure


def train(
    train: Dataset,
    valid: Dataset,
    *,
    options: Mapping[str, Any],
    seed: int,
    device: str,
    out: Path,
    progress: Progress,
) -> Trained:
    """Fit a GAP to energies, forces and, where a frame has one, stress; the file is `out`/model.gap.

    gap_fit runs as a process of its own with one thread, unless OMP_NUM_THREADS says otherwise, and what it prints is
    kept in `out`/gap_fit.log. Each element without a frame of one lone atom gets one whose energy is its E0.

    Args:
        train: frames to fit.
        valid: frames to report errors of; nothing is chosen by them.
        options: fields of `Options`.
        seed: of gap_fit's choice of sparse points.
        device: not used.
        out: folder for the files.
        progress: called with done, total and a remark.

    Raises:
        BadInput: an option is wrong or unknown, a split is empty or holds other elements, or a frame cannot be used.
        NotApplicable: quippy-ase is not installed.
        ModelFailure: gap_fit failed.
    """
    chosen, program = read_options(options), gap_fit_program()
    elements = _elements(train, valid)
    e0 = baseline(train, chosen.e0, elements, is_shifted=False)
    try:
        text = frames_text(train, e0.energies_eV, cutoff_A=max(chosen.cutoff_A, chosen.pair_cutoff_A))
        terms = gap_terms(train, chosen, elements)
    except ModelFailure as error:
        raise BadInput(f"a training frame cannot be used: {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    began = perf_counter()
    with TemporaryDirectory(prefix="gap_fit-", dir=out) as scratch:
        folder = Path(scratch)
        (folder / FRAMES).write_text(text, encoding="utf-8")
        run_gap_fit(
            [str(program), *arguments(terms, chosen, e0.energies_eV, seed=seed)],
            folder=folder, log=out / LOG, n_terms=len(terms), progress=progress,
        )  # fmt: skip
        seconds = perf_counter() - began
        files = collected(folder)
    about = {"options": asdict(chosen), "seed": seed, "quippy_ase": _quippy_version(), "e0_eV": dict(e0.energies_eV)}
    write(
        out / CHECKPOINT,
        GapFile(
            elements=elements, cutoff_A=max(chosen.cutoff_A, chosen.pair_cutoff_A), about=about, files=files
        ),
    )  # fmt: skip
    model = load(ModelSpec(name="trained", kind="gap", checkpoint=str(out / CHECKPOINT)), device="cpu")
    counts = dict(zip(elements, sparse_counts(files[XML])[-len(elements) :], strict=True))
    return Trained(
        kind="gap", checkpoint=CHECKPOINT, elements=elements, notes=e0.notes,
        facts={
            "n_terms": len(terms), **{f"n_sparse_{symbol}": count for symbol, count in counts.items()},
            "fit_seconds": seconds, "file_bytes": (out / CHECKPOINT).stat().st_size, "quippy_ase": _quippy_version(),
            **{f"e0_{symbol}_eV": energy for symbol, energy in e0.energies_eV.items()},
            **errors(model, valid, prefix="valid"),
        },
    )  # fmt: skip


def gap_fit_program() -> Path:
    """Return the program that quippy-ase brings along.

    Raises:
        NotApplicable: it is not there.
    """
    found = find_spec("quippy")
    program = None if found is None or found.origin is None else Path(found.origin).parent / "gap_fit"
    if program is None or not program.is_file():
        raise missing_package("quippy", extra="gap", needed_for="the trainer gap")
    return program


def _quippy_version() -> str:
    try:
        return version("quippy-ase")
    except PackageNotFoundError:
        return "unknown"


def _elements(train: Dataset, valid: Dataset) -> tuple[str, ...]:
    """Return the elements to train for, in the order of the periodic table."""
    from ase.data import chemical_symbols

    if not len(train) or not len(train.numbers):
        raise BadInput("trainer gap: the training split has no frames")
    numbers = sorted({int(number) for number in train.numbers})
    foreign = sorted({chemical_symbols[number] for number in valid.numbers if number not in numbers})
    if foreign:
        raise BadInput(f"the validation split holds {', '.join(foreign)}, which the training split lacks.")
    return tuple(chemical_symbols[number] for number in numbers)


def run_gap_fit(command: Sequence[str], *, folder: Path, log: Path, n_terms: int, progress: Progress) -> None:
    """Run gap_fit in a folder, keep what it prints, and tell how far it is; it is killed when anything goes wrong here.

    Args:
        command: the program and its arguments.
        folder: it works there.
        log: gets all it prints.
        n_terms: of the energy; the kernel of each takes its time.
        progress: called with done, total and a remark.

    Raises:
        ModelFailure: it could not be run, or ended with an error.
    """
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**one_thread, **os.environ, "GFORTRAN_UNBUFFERED_PRECONNECTED": "1"}
    last: list[str] = []
    done = 0
    progress(done, n_terms + 1, "gap_fit: descriptors and sparse points")
    try:
        # It stays in our process group, which whoever stops us stops as a whole.
        process = subprocess.Popen(  # noqa: S603  # an argument list, no shell
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ModelFailure(f"gap_fit cannot be started: {error.strerror}") from error
    with process, log.open("w", encoding="utf-8") as kept:
        try:
            for line in process.stdout or ():
                kept.write(line)
                if line.strip():
                    last = [*last, " ".join(line.split())][-LAST_LINES:]
                if re.match(r"TIMER: gpFull_covarianceMatrix_sparse_Coordinate\d+ ", line):
                    done += 1
                    progress(done, n_terms + 1, f"gap_fit: kernel {done} of {n_terms}")
            code = process.wait()
        finally:
            process.kill()
    if code:
        raise ModelFailure(f"gap_fit {_how_it_ended(code)}; its last lines: {' | '.join(last) or 'none'}")


def _how_it_ended(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    hint = ", perhaps for lack of memory" if -code == Signals.SIGKILL else ""
    return f"was ended by {Signals(-code).name}{hint}"


def collected(folder: Path) -> dict[str, bytes]:
    """Return the files of a potential, with the time of day in its name taken out.

    Raises:
        ModelFailure: gap_fit left none.
    """
    path = folder / XML
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    label = re.search(r"<Potential label=\"(GAP_\w+)\"", text)
    if label is None:
        raise ModelFailure(f"gap_fit ended without an error, and left no potential in {XML}; {LOG} shows what it said")
    files = {one.name.replace(label[1], "GAP_"): one.read_bytes() for one in sorted(folder.glob(f"{XML}.sparseX.*"))}
    return {XML: text.replace(label[1], "GAP_").encode(), **files}


def sparse_counts(xml: bytes) -> list[int]:
    """Return how many sparse points each term got; gap_fit takes fewer where it finds no more.

    >>> sparse_counts(b'<gpCoordinates label="a" n_sparseX="3">... <gpCoordinates label="b" n_sparseX="12">')
    [3, 12]
    """
    return [int(count) for count in re.findall(rb'<gpCoordinates [^>]*n_sparseX="(\d+)"', xml)]


def errors(model: GapModel, data: Dataset, *, prefix: str) -> dict[str, float]:
    """Return root-mean-square errors: energy in meV/atom, forces in meV/Å, stress in meV/Å^3; empty without frames."""
    frames = [i for i, frame in enumerate(data.frames) if len(frame)]
    if not frames:
        return {}
    data = data.take(frames)
    found = model.predict(data.frames)
    apart = {
        "energy_rmse_meV_per_atom": (found.energy - data.energy) / data.n_atoms,
        "forces_rmse_meV_per_A": found.forces - data.forces,
        "stress_rmse_meV_per_A3": (found.stress - data.stress)[found.has_stress & data.has_stress],
    }
    return {
        f"{prefix}_{name}": 1e3 * float(np.sqrt(np.mean(np.square(part)))) for name, part in apart.items() if part.size
    }
