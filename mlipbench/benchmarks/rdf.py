"""Is the structure of the model's liquid that of the reference?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np

from mlipbench.benchmarks.motion import Motion, Moved, moved, named, refuse_failed
from mlipbench.core.benchmark import About, Context, Observation
from mlipbench.core.dataset import Dataset
from mlipbench.core.measure import measure
from mlipbench.core.metric import Metric, MetricValue
from mlipbench.core.model import Bool, Float, Int, Model
from mlipbench.core.view import Axis, Lines, View
from mlipbench.errors import BadInput, NotApplicable
from mlipbench.physics.rdf import (
    INTER,
    INTRA,
    PairCounts,
    count_pairs,
    first_peak,
    first_valley,
    kind_pairs,
    l1_distance,
    noise_floor,
    wasserstein,
)
from mlipbench.physics.timeseries import equilibration, statistical_inefficiency

OVER: Final = "mean over pairs of elements; interval over trajectories"
METRICS: Final = (
    Metric(
        name="rdf_error_inter", title="RDF error between molecules", unit="%", better="lower", good=2.0, bad=40.0,
        headline=True,
        says=f"Σ|g - g_ref| / Σ(g + g_ref) of atoms in different molecules; {OVER}; of a perfect model it is the noise",
    ),
    Metric(
        name="rdf_error_intra", title="RDF error within molecules", unit="%", better="lower", good=3.0, bad=40.0,
        says=f"the same of atoms in one molecule; {OVER}",
    ),
    Metric(
        name="rdf_noise_inter", title="RDF error from noise", unit="%", better="lower", good=2.0, bad=40.0,
        says="RDF error between molecules that sampling alone is expected to give, from the spread of blocks; the"
        " smallest error that this run can resolve; mean over pairs of elements, no interval",
    ),
    Metric(
        name="rdf_shift_inter", title="RDF shift between molecules", unit="Å", better="lower", good=0.02, bad=0.5,
        says=f"Wasserstein's distance of r² g(r) of atoms in different molecules; {OVER}",
    ),
    Metric(
        name="first_peak_error", title="First peak error", unit="Å", better="lower", good=0.05, bad=0.5,
        says=f"distance of the first peaks of g(r) between molecules from the reference's; {OVER}",
    ),
    Metric(
        name="coordination_error", title="Coordination error", unit="%", better="lower", good=3.0, bad=40.0,
        says="deviation of the number of atoms of other molecules closer than the reference's first valley, relative to"
        f" the reference's; {OVER}",
    ),
)  # fmt: skip
DEFINED: Final = {metric.name: metric for metric in METRICS}
N_BLOCKS: Final = 4  # of each trajectory, for the noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Rdf(Motion):
    """Radial distribution functions of each pair of elements, within molecules and between them.

    From the same dynamics as `density`, without the approach to equilibrium, which the volume tells. Needs data with
    the reference's own pair counts, such as `ecemc_gaff2_md`.
    """

    about: ClassVar[About] = About(
        name="rdf",
        title="Structure (RDF)",
        question="Is the structure of the model's liquid that of the reference?",
        metrics=METRICS,
        observe_version=1,
        score_version=1,
        source="C. Schran et al., PNAS 118, e2110077118 (2021), for the error; Wasserstein's distance for shifts",
        seconds=120.0,
    )

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and count pairs.

        Raises:
            ModelFailure: a trajectory ended early.
            NotApplicable: there are no pair counts of the reference, or a cell is too small for them.
        """
        edges = named(data, "rdf_edges")
        found = moved(self, model, data, context)
        refuse_failed(found)
        blocks = [counts_of(found, k, edges) for k in range(len(found.tracks))]
        every = [block for own in blocks for block in own]
        return {
            "edges": edges,
            "counts": np.array([block.counts for block in every]),
            "density": np.array([block.density for block in every]),
            "n_frames": np.array([block.n_frames for block in every]),
            "n_kind": every[0].n_kind,
            "replica": np.repeat(np.arange(len(blocks)), [len(own) for own in blocks]),
            "inefficiency": np.array([_inefficiency(found, k) for k in range(len(blocks))]),
        }

    def score(self, seen: Observation, data: Dataset) -> tuple[MetricValue, ...]:
        """Compare pair by pair and trajectory by trajectory."""
        reference, whole = reference_counts(data), _joined(seen, seen["replica"] >= 0)
        replicas = [_joined(seen, seen["replica"] == k) for k in np.unique(seen["replica"]).tolist()]
        pairs = _pairs(reference)
        values: list[MetricValue] = []
        measures: tuple[tuple[str, Callable[[PairCounts, int], float]], ...] = (
            ("rdf_error_inter", lambda one, k: 100.0 * l1_distance(one.g()[k, INTER], reference.g()[k, INTER])),
            ("rdf_error_intra", lambda one, k: 100.0 * l1_distance(one.g()[k, INTRA], reference.g()[k, INTRA])),
            ("rdf_shift_inter", lambda one, k: wasserstein(one.g()[k, INTER], reference.g()[k, INTER], one.middle_A)),
            ("first_peak_error", lambda one, k: abs(_peak(one, k) - _peak(reference, k))),
            ("coordination_error", lambda one, k: 100.0 * abs(_coordination(one, reference, k) - 1.0)),
        )
        for name, of in measures:
            kept = [k for k in pairs if name != "rdf_error_intra" or reference.counts[k, INTRA].any()]
            if not kept:  # no molecules
                continue
            together = float(np.mean([of(whole, k) for k in kept]))
            values.append(_value(name, together, [float(np.mean([of(one, k) for k in kept])) for one in replicas]))
            values += [
                MetricValue(metric=name, part=f"pair={_names(data)[k]}", value=of(whole, k), n=len(replicas))
                for k in kept
            ]
        noise = 100.0 * float(np.mean([_noise(seen, data, k) for k in pairs]))
        return (*values, MetricValue(metric="rdf_noise_inter", value=noise, n=len(replicas)))

    def views(self, seen: Observation, data: Dataset) -> tuple[View, ...]:
        """Show each pair between molecules, and those within."""
        reference, whole = reference_counts(data), _joined(seen, seen["replica"] >= 0)
        shown: list[View] = []
        for which, where in ((INTER, "between molecules"), (INTRA, "within molecules")):
            for k in _pairs(reference):
                if not reference.counts[k, which].any():
                    continue
                shown.append(
                    Lines(
                        title=f"RDF {_names(data)[k]} {where}",
                        x_axis=Axis(quantity="distance", unit="Å"),
                        y_axis=Axis(quantity="g(r)"),
                        names=("model", "reference"),
                        x=reference.middle_A,
                        y=np.array([whole.g()[k, which], reference.g()[k, which]]),
                    )
                )
        return tuple(shown)


def counts_of(found: Moved, number: int, edges_A: Float) -> list[PairCounts]:
    """Return the pair counts of a trajectory's equilibrated part, block by block."""
    replica, track = found.replicas[number], found.tracks[number]
    kinds = element_kinds(replica.atoms.numbers)
    begin = track.time_ps[equilibration(track.volume_A3)] if track.volume_A3.any() else 0.0
    chosen = np.flatnonzero(track.frame_time_ps >= begin)
    if len(chosen) < 2:
        raise BadInput(f"rdf: {len(chosen)} frames are left of a trajectory; make duration_ps longer")
    return [
        count_pairs(
            track.positions[part], track.cells[part], kinds, found.molecules[number],
            r_max_A=float(edges_A[-1]), n_bins=len(edges_A) - 1,
        )
        for part in np.array_split(chosen, min(N_BLOCKS, len(chosen)))
    ]  # fmt: skip


def element_kinds(numbers: Int) -> Int:
    """Return the place of each atom's element among the elements, in the order of their numbers."""
    return np.searchsorted(np.unique(numbers), numbers)


def reference_counts(data: Dataset) -> PairCounts:
    """Return the reference's own pair counts, all trajectories together."""
    return PairCounts(
        edges_A=named(data, "rdf_edges"),
        counts=named(data, "rdf_counts").sum(axis=0),
        n_kind=named(data, "rdf_n_kind").astype(np.int64),
        density=named(data, "rdf_density").sum(axis=0),
        n_frames=int(named(data, "rdf_n_frames").sum()),
    )


def _joined(seen: Observation, chosen: Bool) -> PairCounts:
    """Return the counts of some blocks together, shape (n_blocks,)."""
    return PairCounts(
        edges_A=seen["edges"], counts=seen["counts"][chosen].sum(axis=0), n_kind=seen["n_kind"],
        density=seen["density"][chosen].sum(axis=0), n_frames=int(seen["n_frames"][chosen].sum()),
    )  # fmt: skip


def _pairs(reference: PairCounts) -> list[int]:
    """Return the pairs of elements that molecules show each other."""
    found = [k for k in range(len(reference.counts)) if reference.counts[k, INTER].any()]
    if not found:
        raise NotApplicable("the reference's pair counts hold no pair of atoms in different molecules")
    return found


def _names(data: Dataset) -> list[str]:
    """Return what people call the pairs of elements."""
    from ase.data import chemical_symbols

    elements = [chemical_symbols[number] for number in np.unique(data.frames[0].numbers)]
    return [f"{elements[a]}–{elements[b]}" for a, b in kind_pairs(len(elements))]


def _peak(counts: PairCounts, k: int) -> float:
    return first_peak(counts.middle_A, counts.g()[k, INTER])[0]


def _coordination(counts: PairCounts, reference: PairCounts, k: int) -> float:
    """Return the number of neighbours within the reference's first valley, relative to the reference's."""
    within_A = first_valley(reference.middle_A, reference.g()[k, INTER])[0]
    theirs = reference.coordination(pair=k, within_A=within_A)
    return counts.coordination(pair=k, within_A=within_A) / theirs if theirs > 0.0 else 1.0


def _value(name: str, together: float, each: Sequence[float]) -> MetricValue:
    """Return the value of all trajectories together, with the spread of those of each."""
    rows = np.column_stack([each, np.ones(len(each))])
    spread = measure(DEFINED[name], rows, [f"trajectory {k}" for k in range(len(each))], "mean")
    if spread.low is None or spread.high is None:
        return MetricValue(metric=name, value=together, n=len(each))
    # Single trajectories are noisier, and so farther away: only the width of their interval is taken.
    low, high = max(0.0, together - (spread.value - spread.low)), together + (spread.high - spread.value)
    return replace(spread, value=together, low=low, high=high, samples=None)


def _noise(seen: Observation, data: Dataset, k: int) -> float:
    """Return the L1 distance that sampling alone is expected to give."""
    every = np.arange(len(seen["replica"]))
    blocks = [_joined(seen, every == b).g()[k, INTER] for b in every]
    # Frames of one trajectory resemble each other for as long as the volume does, or for a frame at least.
    worth = float(seen["n_frames"].sum()) / float(max(seen["inefficiency"].mean(), 1.0))
    theirs = float(named(data, "rdf_n_frames").sum()) / float(named(data, "rdf_inefficiency").mean())
    return noise_floor(blocks, n=min(float(len(blocks)), worth), n_reference=max(theirs, 2.0))


def _inefficiency(found: Moved, number: int) -> float:
    """Return how many frames an independent one costs, as the volume tells."""
    track = found.tracks[number]
    if not track.volume_A3.any():
        return 1.0
    per_frame = max(1, len(track.time_ps) // max(1, len(track.frame_time_ps)))
    return max(1.0, statistical_inefficiency(track.volume_A3) / per_frame)
