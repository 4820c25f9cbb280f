"""Whole series for evaluation: read from DICOM, shown to a network, compared with slice labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dicom_node.errors import RefusedError
from dicom_node.reading.reader import read_ct_series, read_headers
from model.config import Task
from model.errors import DatasetError, EvaluationError
from model.evaluation.series import evaluate_series
from model.inference import PredictionOptions, Predictor
from model.registry import RegistryEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from dicom_node.reading.ct_series import CtSeries
    from model.evaluation.decision import StudyDecision
    from model.evaluation.series import SeriesEvaluation
    from model.evaluation.subject import Subject

LABEL_COLUMN = "infected"


@dataclass(frozen=True, slots=True)
class SliceLabels:
    """A file that says which slices of a series are infected.

    Attributes
    ----------
    path
        CSV with a column ``infected`` (1 or 0) and one row for each slice, in the order of
        SliceLocation (0020,1041).
    descending
        Whether the rows begin with the highest SliceLocation instead of the lowest.
    """

    path: Path
    descending: bool = False

    def of(self, series: CtSeries) -> NDArray[np.bool_]:
        """Return the labels in the order of a series' volume.

        Raises
        ------
        DatasetError
            If the file cannot be read, or does not fit the series.
        """
        values = self._values()
        if len(values) != len(series.sources):
            raise DatasetError(
                f"{self.path}: {len(values)} labels, but the series has {len(series.sources)} "
                "slices"
            )
        try:
            locations = [float(source.SliceLocation) for source in series.sources]
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{self.path}: the labels are in the order of SliceLocation, which the series lacks"
            ) from error
        labels = np.empty(len(values), bool)
        order = np.argsort(locations)
        labels[order[::-1] if self.descending else order] = [value == "1" for value in values]
        return labels

    def _values(self) -> list[str]:
        try:
            with self.path.open(newline="") as file:
                values = [row[LABEL_COLUMN] for row in csv.DictReader(file)]
        except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(
                f"{self.path}: no slice labels, which are CSV with a column {LABEL_COLUMN}: {error}"
            ) from error
        if not set(values) <= {"0", "1"}:
            raise DatasetError(f"{self.path}: the column {LABEL_COLUMN} may hold 0 and 1 only")
        return values


def series_predictor(subject: Subject, decision: StudyDecision | None = None) -> Predictor:
    """Load a version or a run to screen whole series with.

    Parameters
    ----------
    subject
        A version brings its calibration, pooling and operating point.
    decision
        Those of a run; without it raw probabilities are pooled and judged at 0.5.

    Raises
    ------
    EvaluationError
        If the network lacks a task that screening needs.
    """
    lacking = {Task.SEGMENTATION, Task.CLASSIFICATION} - set(subject.network.tasks)
    if lacking:
        raise EvaluationError(
            f"{subject.title} has no {' and no '.join(sorted(lacking))}: whole series are screened "
            "by networks with both; leave out --series"
        )
    if subject.entry is not None:
        return Predictor.load(subject.entry)
    # TensorFlow takes seconds to import; only who predicts may pay for it.
    from model.engines.keras_engine import KerasEngine  # noqa: PLC0415

    options = PredictionOptions()
    entry = RegistryEntry(subject.manifest(decision), subject.weights.parent)
    engine = KerasEngine(subject.network, subject.weights, options.batch_size)
    return Predictor(entry, options, engine)


def look_at_series(
    predictor: Predictor,
    folder: Path,
    labels: SliceLabels | None = None,
    report: Callable[[str, float], None] | None = None,
) -> SeriesEvaluation:
    """Screen the series in a folder, and compare its slices with their labels.

    Parameters
    ----------
    predictor
        The network.
    folder
        Holds the instances of one CT series, also in folders of its own.
    labels
        Which of its slices are infected.
    report
        Called with a stage and its finished share.

    Raises
    ------
    DatasetError
        If the folder holds no such series, or the labels do not fit it.
    NoLungError
        If it shows no lung.
    """
    content = read_headers([folder])
    files = [path for path, header in content.instances if header.modality == "CT"]
    if not files:
        raise DatasetError(f"{folder}: no CT images in it")
    try:
        series = read_ct_series(files)
    except RefusedError as error:
        raise DatasetError(f"{folder}: no CT series that can be screened: {error}") from error
    infected = None if labels is None else labels.of(series)
    prediction = predictor.predict(series.volume, report)
    evaluation = evaluate_series(folder.resolve().name, series.volume, prediction, infected)
    if labels is not None and not evaluation.all_slices:
        raise DatasetError(f"{labels.path}: all slices are of one class: there is nothing to order")
    return evaluation
