"""Is the structure of the model's liquid that of the reference?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
from scipy.special import gammaln

from mlipbench.benchmarks.endings import refuse_failed
from mlipbench.benchmarks.lengths import CORRELATION_TIMES, around, excess, refuse_short
from mlipbench.benchmarks.motion import Motion, Moved, compared_ps, moved, named
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
from mlipbench.physics.timeseries import equilibration, mean_over_replicas, statistical_inefficiency

OVER: Final = "mean over pairs of elements; interval over trajectories"
METRICS: Final = (
    Metric(
        name="rdf_excess_inter", title="RDF error between molecules beyond noise", unit="%", better="lower", good=2.0,
        bad=40.0, headline=True, lowest=0.0, highest=100.0,
        says="√(d² - n²), d the RDF error between molecules, n what sampling alone gives a perfect model; interval over"
        " trajectories",
    ),
    Metric(
        name="rdf_excess_intra", title="RDF error within molecules beyond noise", unit="%", better="lower", good=3.0,
        bad=40.0, lowest=0.0, highest=100.0, says="the same of atoms in one molecule; interval over trajectories",
    ),
    Metric(
        name="rdf_error_inter", title="RDF error between molecules", unit="%", better="lower", good=2.0, bad=40.0,
        role="diagnostic", lowest=0.0, highest=100.0,
        says=f"Σ|g - g_ref| / Σ(g + g_ref) of atoms in different molecules; {OVER}; of a perfect model it is the noise",
    ),
    Metric(
        name="rdf_error_intra", title="RDF error within molecules", unit="%", better="lower", good=3.0, bad=40.0,
        role="diagnostic", lowest=0.0, highest=100.0, says=f"the same of atoms in one molecule; {OVER}",
    ),
    Metric(
        name="rdf_noise_inter", title="RDF error from noise", unit="%", better="lower", good=2.0, bad=40.0,
        role="diagnostic", lowest=0.0, highest=100.0,
        says="RDF error between molecules that sampling alone is expected to give, from the spread between the"
        " reference's trajectories, or between blocks of this run where that is less; mean over pairs of elements, no"
        " interval",
    ),
    Metric(
        name="rdf_shift_inter", title="RDF shift between molecules", unit="Å", better="lower", good=0.02, bad=0.5,
        role="diagnostic", lowest=0.0,
        says=f"Wasserstein's distance of r² g(r) of atoms in different molecules; {OVER}",
    ),
    Metric(
        name="first_peak_error", title="First peak error", unit="Å", better="lower", good=0.05, bad=0.5,
        role="diagnostic", lowest=0.0,
        says=f"distance of the first peaks of g(r) between molecules from the reference's; {OVER}",
    ),
    Metric(
        name="coordination_error", title="Coordination error", unit="%", better="lower", good=3.0, bad=40.0,
        role="diagnostic", lowest=0.0,
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
        observe_version=2,
        score_version=2,
        source="C. Schran et al., PNAS 118, e2110077118 (2021), for the error; Wasserstein's distance for shifts",
        seconds=120.0,
    )

    def observe(self, model: Model, data: Dataset, context: Context) -> Observation:
        """Run the dynamics and count pairs.

        Raises:
            ModelFailure: a trajectory went wrong.
            NotApplicable: there are no pair counts of the reference, a cell is too small for them, or the trajectories
                are too short to tell.
        """
        edges = named(data, "rdf_edges")
        found = moved(self, model, data, context)
        refuse_failed(self, found)
        self._refuse_short(data)
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

    def _refuse_short(self, data: Dataset) -> None:
        """Raise when the reference would not forget where it started."""
        cost_ps = _cost_ps(data)
        refuse_short(
            compared_ps(self), 0.5 * CORRELATION_TIMES * cost_ps, what="rdf",
            why=f"the reference forgets in {0.5 * cost_ps:.2g} ps, and {CORRELATION_TIMES:g} times that is the least",
        )  # fmt: skip

    def expects(self, data: Dataset) -> tuple[str, ...]:
        """Return the names of what these data allow."""
        names = [metric.name for metric in METRICS]
        has_molecules = bool(reference_counts(data).counts[:, INTRA].any())
        return tuple(name for name in names if has_molecules or not name.endswith("_intra"))

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
        length_ps = len(replicas) * compared_ps(self)
        inter = _noise(seen, data, pairs, INTER, length_ps=length_ps)
        values.append(MetricValue(metric="rdf_noise_inter", value=inter, n=len(replicas)))
        for value in [one for one in values if one.metric.startswith("rdf_error") and not one.part]:
            is_inter = value.metric == "rdf_error_inter"
            own = [k for k in pairs if is_inter or reference.counts[k, INTRA].any()]
            noise = inter if is_inter else _noise(seen, data, own, INTRA, length_ps=length_ps)
            values.append(_beyond(value, noise))
        return tuple(values)

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
    first, *others = reference_replicas(data)
    return sum(others, first)


def reference_replicas(data: Dataset) -> list[PairCounts]:
    """Return the reference's own pair counts, trajectory by trajectory."""
    return [
        PairCounts(
            edges_A=named(data, "rdf_edges"), counts=counts, n_kind=named(data, "rdf_n_kind").astype(np.int64),
            density=density, n_frames=int(n),
        )
        for counts, density, n in zip(
            named(data, "rdf_counts"), named(data, "rdf_density"), named(data, "rdf_n_frames"), strict=True
        )
    ]  # fmt: skip


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
    return around(together, spread)


def _beyond(error: MetricValue, noise: float) -> MetricValue:
    """Return what of an error is beyond noise; of its interval the lower end alone goes down with it."""
    low = None if error.low is None else excess(error.low, noise)
    name = error.metric.replace("error", "excess")
    return replace(error, metric=name, value=excess(error.value, noise), low=low, samples=None)


def _noise(seen: Observation, data: Dataset, pairs: Sequence[int], which: int, *, length_ps: float) -> float:
    """Return the L1 distance that sampling alone is expected to give, %, mean over pairs of elements.

    The reference's trajectories tell what a perfect model gets; where a run's own blocks differ by less, that less is
    taken, so that no model gains by noise.
    """
    own = [_own_noise(seen, data, k, which) for k in pairs]
    theirs = expected_noise(reference_replicas(data), pairs, which, worth=length_ps / _replica_ps(data))
    return 100.0 * float(np.mean(own if theirs is None else np.minimum(own, theirs)))


def expected_noise(replicas: Sequence[PairCounts], pairs: Sequence[int], which: int, *, worth: float) -> Float | None:
    """Return the L1 distance of a perfect run from the mean of the reference's replicas; None where there is only one.

    Args:
        replicas: of the reference, of equal length.
        pairs: of elements.
        which: `INTER` or `INTRA`.
        worth: length of the whole run, in lengths of one replica.

    Returns:
        Shape (n_pairs,). The standard deviation of few normal numbers is too small on average, which is made up for.
    """
    n = len(replicas)
    if n < 2:
        return None
    bias = float(np.sqrt(2.0 / (n - 1)) * np.exp(gammaln(0.5 * n) - gammaln(0.5 * (n - 1))))
    curves = [one.g()[:, which] for one in replicas]
    found = [noise_floor([curve[k] for curve in curves], n=worth, n_reference=float(n)) for k in pairs]
    return np.array(found) / bias


def _own_noise(seen: Observation, data: Dataset, k: int, which: int) -> float:
    """Return what the spread of the run's own blocks says."""
    every = np.arange(len(seen["replica"]))
    blocks = [_joined(seen, every == b).g()[k, which] for b in every]
    # Frames of one trajectory resemble each other for as long as the volume does, or for a frame at least.
    worth = float(seen["n_frames"].sum()) / float(max(seen["inefficiency"].mean(), 1.0))
    theirs = float(named(data, "rdf_n_frames").sum()) / float(named(data, "rdf_inefficiency").mean())
    return noise_floor(blocks, n=min(float(len(blocks)), worth), n_reference=max(theirs, 2.0))


def _replica_ps(data: Dataset) -> float:
    """Return how long the reference's trajectories were counted, on average."""
    return float(named(data, "rdf_n_frames").mean()) * float(named(data, "rdf_every_ps"))


def _cost_ps(data: Dataset) -> float:
    """Return what an independent frame of the reference costs: by its energy, or by its density if that is slower."""
    cost_ps = float(named(data, "rdf_inefficiency").mean()) * float(named(data, "rdf_every_ps"))
    if f"{data.config_type[0]}/density_series" not in data.observables:
        return cost_ps
    series = np.asarray(named(data, "density_series"), dtype=np.float64)
    return max(cost_ps, mean_over_replicas(list(series)).inefficiency * float(named(data, "density_every_ps")))


def _inefficiency(found: Moved, number: int) -> float:
    """Return how many frames an independent one costs, as the volume tells."""
    track = found.tracks[number]
    if not track.volume_A3.any():
        return 1.0
    per_frame = max(1, len(track.time_ps) // max(1, len(track.frame_time_ps)))
    return max(1.0, statistical_inefficiency(track.volume_A3) / per_frame)
