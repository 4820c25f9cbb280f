"""The use case of the house: a CT series in, a prediction and its DICOM objects out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dicom_node.errors import RefusedError
from dicom_node.objects.provenance import ResultIdentity
from dicom_node.objects.results import encode_result
from dicom_node.reasons import Reason
from model.errors import NoLungError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.objects.results import EncodedObject
    from dicom_node.reading.ct_series import CtSeries
    from model.inference import Predictor
    from model.prediction import Prediction

    Progress = Callable[[str, float], None]


class Stopwatch:
    """Seconds each stage took, by its name.

    Parameters
    ----------
    progress
        Told of each stage and its finished share, 0 to 1.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._last = time.perf_counter()

    def report(self, stage: str, share: float) -> None:
        """Take note of a stage's progress; at 1 the stage is over."""
        if share >= 1.0:
            now = time.perf_counter()
            # A stage may end more than once: whoever does a part of it reports its own end.
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 4)
            self._last = now
        if self._progress is not None:
            self._progress(stage, share)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the screening of one series gave.

    Attributes
    ----------
    series
        What was screened.
    prediction
        What the network says.
    context
        Identity, dates and equipment of the objects.
    objects
        Encoded DICOM objects in the order they are to be delivered.
    timings
        Seconds by stage.
    """

    series: CtSeries
    prediction: Prediction
    context: ResultContext
    objects: tuple[EncodedObject, ...]
    timings: dict[str, float]


def screen(
    read: Callable[[Callable[[float], None]], CtSeries],
    predictor: Predictor,
    context_of: Callable[[ResultIdentity], ResultContext],
    progress: Progress | None = None,
) -> Outcome:
    """Screen one series.

    Parameters
    ----------
    read
        Reads the series and tells its progress; called once, and timed.
    predictor
        The loaded network.
    context_of
        Gives dates, revision and equipment for the result's identity, which is known only once
        the pixels were read.
    progress
        Told the stage and its done share, 0 to 1.

    Raises
    ------
    RefusedError
        If the series cannot be screened, with its coded reason.
    """
    watch = Stopwatch(progress)
    series = read(partial(watch.report, "read"))
    watch.report("read", 1.0)
    identity = ResultIdentity(
        series.digest, predictor.model_version.sha256, predictor.pipeline_digest()
    )
    context = context_of(identity)
    try:
        prediction = predictor.predict(series.volume, watch.report)
    except NoLungError as error:
        raise RefusedError(Reason.NO_LUNG, str(error)) from error
    objects = encode_result(series, prediction, context)
    watch.report("encode", 1.0)
    return Outcome(series, prediction, context, objects, watch.seconds)
