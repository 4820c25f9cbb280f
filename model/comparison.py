"""Two versions on the same images: figure by figure, with the difference and what the gate says.

The rule is in docs/decisions/0045-promotion-gate.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import ConfigError, EvaluationError
from model.evaluation.bootstrap import FEWEST_CLUSTERS, Resampler
from model.evaluation.evaluation import OVERALL, Name
from model.evaluation.figures import statistic_of
from model.evaluation.judged import judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from model.evaluation.evaluation import DataFacts, ModelFacts
    from model.evaluation.judged import Judged
    from model.evaluation.metrics import Statistic
    from model.evaluation.subject import Evaluated

# Of fewer images a source's figure moves by a whole margin with a single one of them.
FEWEST_IMAGES = 20
# A drop of so many margins is no chance even there, if one image alone cannot make it.
FAR_BEYOND = 2
_ROUNDING = 1e-9
_AUCS = frozenset({Name.AUC, Name.AUC_WITHIN_SOURCES})


class Verdict(StrEnum):
    """What the gate says of one figure of the candidate."""

    NOT_WORSE = "not worse"
    UNCERTAIN = "uncertain"
    WORSE = "worse"
    SHOWN = "shown"


@dataclass(frozen=True, slots=True)
class Margins:
    """How much lower a figure of the candidate may be.

    Attributes
    ----------
    by_metric
        Margin by ``auc``, ``dice``, ``sensitivity`` and ``specificity``.
    by_source
        Margin by ``source/metric``, instead of the metric's own.
    """

    by_metric: dict[str, float]
    by_source: dict[str, float]

    def of(self, name: str, source: str) -> float | None:
        """Return the margin of a figure, None if the gate does not look at it."""
        metric = "auc" if name in _AUCS else name
        return self.by_source.get(f"{source}/{metric}", self.by_metric.get(metric))


METRICS = ("auc", "dice", "sensitivity", "specificity")


def parse_margins(entries: Iterable[str]) -> Margins:
    """Read margins as a site sets them: ``metric=number`` or ``source/metric=number``.

    Raises
    ------
    ConfigError
        If an entry is none, or a metric of `METRICS` has no margin.
    """
    by_metric: dict[str, float] = {}
    by_source: dict[str, float] = {}
    for entry in entries:
        key, _, text = entry.partition("=")
        source, slash, metric = key.strip().rpartition("/")
        try:
            margin = float(text)
        except ValueError:
            margin = -1.0
        if metric not in METRICS or not 0 <= margin < 1 or (slash and not source):
            raise ConfigError(
                f"promotion margin {entry!r}: write metric=number or source/metric=number, with "
                f"one of {', '.join(METRICS)} and a number from 0 to below 1"
            )
        (by_source if slash else by_metric)[key.strip()] = margin
    missing = [metric for metric in METRICS if metric not in by_metric]
    if missing:
        raise ConfigError(f"promotion margins: none for {', '.join(missing)}")
    return Margins(by_metric, by_source)


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both versions.

    Attributes
    ----------
    name, source
        What was measured, and on which data set or overall.
    count
        Images that decide it: for an AUC those of the smaller class.
    current, candidate
        Its values; None where a version has no such figure.
    difference, interval
        Candidate minus current, with its paired 95 % bootstrap interval: both versions are
        measured on the same resampled patients. None where there is too little to resample.
    margin
        How much lower the candidate may be; None where the gate does not look.
    verdict
        What the gate says.
    """

    name: str
    source: str
    count: int
    current: float | None
    candidate: float | None
    difference: float | None
    interval: tuple[float, float] | None
    margin: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate beside the version it wants to replace.

    Attributes
    ----------
    current, candidate
        The versions.
    data
        What both were measured on.
    differences
        Every figure that one of them has, overall first.
    objections
        Why the gate refuses whatever the figures are.
    notes
        What else should be known.
    """

    current: ModelFacts
    candidate: ModelFacts
    data: DataFacts
    differences: tuple[Difference, ...]
    objections: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the gate refuses; empty if the candidate may pass."""
        worse = tuple(_told(each) for each in self.differences if each.verdict is Verdict.WORSE)
        judged = [d for d in self.differences if d.margin is not None and d.source == OVERALL]
        if not judged:
            worse += (
                "the test set shows neither class nor lesions: no overall figure to judge by",
            )
        return self.objections + worse

    @property
    def passed(self) -> bool:
        """Whether the gate lets the candidate pass."""
        return not self.reasons

    def document(self) -> dict[str, Any]:
        """Return everything as JSON types, with the verdict."""
        return {**asdict(self), "passed": self.passed, "reasons": list(self.reasons)}


def compare(
    current: Evaluated,
    candidate: Evaluated,
    margins: Margins,
    objections: Iterable[str] = (),
    notes: Iterable[str] = (),
) -> Comparison:
    """Compare two versions that were evaluated on the same samples.

    Parameters
    ----------
    current, candidate
        What was measured of each; the samples may differ in size only.
    margins
        The site's margins.
    objections, notes
        For `Comparison`.

    Raises
    ------
    EvaluationError
        If they were evaluated on different images.
    """
    ours = [sample.path for sample in current.samples]
    if ours != [sample.path for sample in candidate.samples]:
        raise EvaluationError("versions evaluated on different images cannot be compared")
    before = judge(current.samples, current.outputs, current.decision)
    after = judge(candidate.samples, candidate.outputs, candidate.decision)
    groups = {OVERALL: np.ones(len(ours), bool)}
    groups |= {str(name): before.sources == name for name in np.unique(before.sources)}
    mixed = any(
        before.only(chosen).of_both_classes for name, chosen in groups.items() if name != OVERALL
    )
    differences = [
        difference
        for source, chosen in groups.items()
        for name in Name
        if (
            difference := _difference(
                name,
                source,
                (before.only(chosen), after.only(chosen)),
                _margin(margins, name, source, mixed=mixed),
            )
        )
    ]
    return Comparison(
        current=current.evaluation.model,
        candidate=candidate.evaluation.model,
        data=candidate.evaluation.data,
        differences=tuple(differences),
        objections=(*objections, *_unjudged(before, after), *_hardly_judged(differences)),
        notes=tuple(notes),
    )


def _unjudged(before: Judged, after: Judged) -> Iterator[str]:
    """Object to a test set that lacks what a task is judged by.

    Else calling everything ill, or the whole image a lesion, would be a way in.
    """
    if not before.labelled.any() and not before.drawn.any():
        return  # a test set that shows nothing refuses by itself
    if before.lesion_share is not None and not before.outlined.any():
        yield f"{Name.DICE} cannot be judged overall: no lesions are drawn in the test set"
    if before.probability is None or after.probability is None:
        return  # so does a task that was lost
    for covid, name, figure in (
        (True, "with", Name.SENSITIVITY),
        (False, "without", Name.SPECIFICITY),
    ):
        if not (before.labelled & (before.covid == covid)).any():
            yield (
                f"{Name.AUC} and {figure} cannot be judged overall: the test set holds no image "
                f"{name} COVID-19"
            )


def _hardly_judged(differences: Iterable[Difference]) -> Iterator[str]:
    """Object to overall figures of so few images or patients that they say nothing."""
    few = [
        f"{each.name} ({each.count})"
        for each in differences
        if each.source == OVERALL
        and each.margin is not None
        and each.difference is not None  # a task that was lost refuses by itself
        and (each.count < FEWEST_IMAGES or each.interval is None)
    ]
    if few:
        yield (
            f"too few images to judge by overall: {', '.join(few)}; at least {FEWEST_IMAGES} "
            f"images must decide a figure, of {FEWEST_CLUSTERS} patients or more"
        )


def _margin(margins: Margins, name: Name, source: str, *, mixed: bool) -> float | None:
    """Return a figure's margin; across sources an AUC counts pairs of one source, if it can.

    Where the classes come from different sources, telling the sources apart looks like skill.
    """
    if source == OVERALL and mixed and name is Name.AUC:
        return None
    if source != OVERALL and name is Name.AUC_WITHIN_SOURCES:
        return None
    return margins.of(name, source)


def _difference(
    name: Name, source: str, judged: tuple[Judged, Judged], margin: float | None
) -> Difference | None:
    if name is Name.AUC_WITHIN_SOURCES and source != OVERALL:
        return None
    before, after = (statistic_of(each, name) for each in judged)
    old, new = _value(before), _value(after)
    if old is None and new is None:
        return None
    count = _count(name, judged[0] if isinstance(before, str) else judged[0].only(before[0]))
    if isinstance(before, str) or isinstance(after, str):
        lost = isinstance(after, str) and margin is not None
        verdict = Verdict.WORSE if lost else Verdict.SHOWN
        return Difference(name, source, count, old, new, None, None, margin, verdict)
    (chosen, of_current), (_, of_candidate) = before, after
    change, interval = Resampler(judged[0].patients[chosen]).measure(
        lambda weights: of_candidate(weights) - of_current(weights)
    )
    small = source != OVERALL and (count < FEWEST_IMAGES or interval is None)
    verdict = _verdict(change, interval, margin, one_image=1 / count if small else 0.0)
    return Difference(name, source, count, old, new, change, interval, margin, verdict)


def _value(measured: tuple[NDArray[np.bool_], Statistic] | str) -> float | None:
    if isinstance(measured, str):
        return None
    chosen, statistic = measured
    return float(statistic(np.ones((1, int(chosen.sum()))))[0])


def _verdict(
    change: float,
    interval: tuple[float, float] | None,
    margin: float | None,
    *,
    one_image: float,
) -> Verdict:
    """Apply the rule; `one_image` is what one image can change in a small source, else 0."""
    if margin is None:
        return Verdict.SHOWN
    proved = not one_image or (interval is not None and interval[1] < 0)
    far = change < -FAR_BEYOND * margin and change < -one_image - _ROUNDING
    if change < -margin and (proved or far):
        return Verdict.WORSE
    if interval is None or interval[0] < -margin or change < -margin:
        return Verdict.UNCERTAIN
    return Verdict.NOT_WORSE


def _count(name: Name, judged: Judged) -> int:
    ill = int((judged.labelled & judged.covid).sum())
    healthy = int((judged.labelled & ~judged.covid).sum())
    if name in {Name.DICE, Name.DICE_POOLED}:
        return int(judged.drawn.sum())
    if name is Name.SENSITIVITY:
        return ill
    if name in {Name.SPECIFICITY, Name.SHARE_CALLED_LESION}:
        return healthy
    return min(ill, healthy)


def _told(difference: Difference) -> str:
    where = f"{difference.name} of {difference.source}"
    if difference.difference is None:
        return f"{where}: the candidate has no such figure, the current version has"
    return (
        f"{where}: {difference.candidate:.3f} instead of {difference.current:.3f}, lower by more "
        f"than {difference.margin:g}"
    )
