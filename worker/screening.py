"""The use case of the house: a CT series in, a prediction and its DICOM objects out."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dicom_node.errors import RefusedError
from dicom_node.provenance import ResultIdentity
from dicom_node.reasons import Reason
from dicom_node.results import encode_result
from model.errors import NoLungError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.inference import Predictor

    from dicom_node.ct_series import CtSeries
    from dicom_node.provenance import ResultContext
    from dicom_node.results import EncodedObject
    from model.prediction import Prediction


@dataclass(slots=True)
class Stopwatch:
    """Seconds each stage took, by its name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage; measured again, it adds up."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begun
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 4)


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
    read: Callable[[], CtSeries],
    predictor: Predictor,
    context_of: Callable[[ResultIdentity], ResultContext],
    progress: Callable[[str, float], None] | None = None,
) -> Outcome:
    """Screen one series.

    Parameters
    ----------
    read
        Reads the series; called once, and timed.
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
    watch = Stopwatch()
    with watch.stage("read"):
        series = read()
    identity = ResultIdentity(series.digest, predictor.model.sha256, predictor.pipeline_digest)
    context = context_of(identity)
    with watch.stage("predict"):
        try:
            prediction = predictor.predict(series.volume, progress)
        except NoLungError as error:
            raise RefusedError(Reason.NO_LUNG, str(error)) from error
    with watch.stage("encode"):
        objects = encode_result(series, prediction, context)
    return Outcome(series, prediction, context, objects, watch.seconds)
