"""What was measured of a network on some data: frozen, and the same again from its JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache

from pydantic import TypeAdapter, ValidationError

from model.errors import EvaluationError
from model.evaluation.series import SeriesEvaluation  # noqa: TC001 - pydantic reads it

FORMAT = 1
OVERALL = "overall"


class Name(StrEnum):
    """What a figure measures; `docs/evaluation.md` defines each."""

    DICE = "dice"
    DICE_POOLED = "dice_pooled"
    SHARE_CALLED_LESION = "share_called_lesion"
    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"
    ACCURACY = "accuracy"
    AUC = "auc"
    AUC_WITHIN_SOURCES = "auc_within_sources"
    AVERAGE_PRECISION = "average_precision"
    CALIBRATION_ERROR = "calibration_error"
    BRIER = "brier"


TITLES: dict[str, str] = {
    Name.AUC: "AUC",
    Name.AUC_WITHIN_SOURCES: "AUC within sources",
    Name.AVERAGE_PRECISION: "Average precision",
    Name.SENSITIVITY: "Sensitivity",
    Name.SPECIFICITY: "Specificity",
    Name.ACCURACY: "Accuracy",
    Name.CALIBRATION_ERROR: "Calibration error (ECE)",
    Name.BRIER: "Brier score",
    Name.DICE: "Dice, mean per image",
    Name.DICE_POOLED: "Dice, pooled",
    Name.SHARE_CALLED_LESION: "Share called lesion without COVID-19",
}


class Level(StrEnum):
    """What an interval resamples."""

    PATIENT = "patient"
    SLICE = "slice"


class ChosenHere(StrEnum):
    """Whether the evaluated data also chose calibration and operating point."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes
    ----------
    name
        One of `Name`.
    source
        Name of the data set, or `OVERALL`.
    count
        Number of images it was measured on.
    value
        The value, finite.
    interval
        95 % bootstrap interval, or None where there is too little to resample.
    level
        What was resampled: patients, or, where the patient of an image is unknown, clusters of
        near duplicates, which makes it a slice-level figure.
    """

    name: str
    source: str
    count: int
    value: float
    interval: tuple[float, float] | None = None
    level: Level = Level.PATIENT


@dataclass(frozen=True, slots=True)
class Absent:
    """A figure that these data cannot give, and why."""

    name: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Operating points of one source, from the strictest threshold to the laxest."""

    source: str
    false_positive_rate: tuple[float, ...]
    sensitivity: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Images whose calibrated probability lies in one of the bins of equal width.

    Attributes
    ----------
    low, high
        Edges of the bin.
    count
        Images in it, at least one.
    predicted
        Mean of their probabilities.
    observed
        Share of them with COVID-19.
    """

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How probabilities compare with what was found, for one source."""

    source: str
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What one source contributes: images by class, images with lesions drawn, patients."""

    source: str
    covid: int
    other: int
    unknown: int
    masks: int
    patients: int
    patients_known: bool


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Which data were evaluated.

    Attributes
    ----------
    manifest, sha256
        Name and SHA-256 of the manifest; both empty where the samples came without one.
    split
        ``train``, ``validation``, ``test`` or ``all``.
    images
        Number of images.
    patients
        Known patients, together with the clusters that stand for unknown ones.
    images_without_patient
        Images whose patient is unknown; if there are any, overall figures are slice-level.
    sources
        What each source contributes.
    images_seen
        Images whose file or patient trained the version or chose its thresholds; None where the
        version does not say what it was made from.
    """

    manifest: str
    sha256: str
    split: str
    images: int
    patients: int
    images_without_patient: int
    sources: tuple[SourceFacts, ...]
    images_seen: int | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which network was evaluated.

    Attributes
    ----------
    title
        Name and version, or the path of a run folder.
    sha256
        SHA-256 of its weights.
    tasks
        Tasks it has a branch for.
    input_size
        Rows and columns of its input.
    licence
        What may be done with the weights; empty for a run.
    """

    title: str
    sha256: str
    tasks: tuple[str, ...]
    input_size: int
    licence: str = ""


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What turned the network's outputs into statements.

    Attributes
    ----------
    calibration, slope, intercept
        Method (``none``, ``temperature``, ``platt``) and its parameters on the logit.
    operating_point
        Threshold on the calibrated probability of a slice.
    lesion_threshold
        Threshold on the pixels of the segmentation.
    chosen_on
        In words, which data chose them.
    chosen_here
        Whether the evaluated data are those: then the figures flatter.
    """

    calibration: str
    slope: float
    intercept: float
    operating_point: float
    lesion_threshold: float
    chosen_on: str
    chosen_here: ChosenHere


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that was measured of one network on one part of some data.

    Attributes
    ----------
    model, data, decision
        What was measured, on what, and with which thresholds.
    figures
        Measured values, by source and overall.
    absent
        Figures the data cannot give, such as an AUC of one class.
    roc, reliability
        Curves of overall and of each source with both classes.
    series
        Whole series that were looked at beside the images.
    code_version
        Version of the program that measured.
    format
        Version of this document's shape; a change of meaning raises it.
    """

    model: ModelFacts
    data: DataFacts
    decision: DecisionFacts
    figures: tuple[Figure, ...]
    absent: tuple[Absent, ...] = ()
    roc: tuple[RocCurve, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    series: tuple[SeriesEvaluation, ...] = ()
    code_version: str = ""
    format: int = FORMAT

    def figure(self, name: str, source: str = OVERALL) -> Figure | None:
        """Return the figure of this name on this source, or None if the data cannot give it."""
        found = (each for each in self.figures if each.name == name and each.source == source)
        return next(found, None)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets, in the order of the report."""
        return tuple(facts.source for facts in self.data.sources)

    def to_json(self) -> str:
        """Return the document `from_json` reads; the names are sorted, so it can be compared."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read `to_json`'s text.

        Raises
        ------
        EvaluationError
            If it is no such document, or one of another format.
        """
        try:
            evaluation = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "document"
            raise EvaluationError(f"no evaluation: {where}: {first['msg']}") from error
        if evaluation.format != FORMAT:
            raise EvaluationError(
                f"an evaluation of format {evaluation.format}, this version reads {FORMAT}: "
                "evaluate again"
            )
        return evaluation


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    return TypeAdapter(Evaluation)
