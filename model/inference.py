"""The Predictor: a model version, loaded once, that states what it sees in CT volumes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from model.errors import ConfigError
from model.lungs import Side, find_lungs
from model.postprocessing import LesionRules, label_lesions, lesion_slice, measure_findings
from model.prediction import Prediction
from model.preprocessing import Geometry, apply_window, slice_to_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from model.engines.engine import Engine
    from model.lungs import LungField
    from model.registry import RegistryEntry
    from model.volume import CtVolume

    Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """What a site may set; everything that changes a result is part of the digest.

    Attributes
    ----------
    batch_size
        Slices in each call of the network.
    lesion_threshold, operating_point
        Replace the manifest's, unless None.
    minimum_lesion_ml, maximum_segments
        Smallest lesion and most segments; see `model.postprocessing.LesionRules`.
    """

    batch_size: int = 4
    lesion_threshold: float | None = None
    operating_point: float | None = None
    minimum_lesion_ml: float = 0.1
    maximum_segments: int = 20

    def __post_init__(self) -> None:
        for name in ("lesion_threshold", "operating_point"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], not {value}")
        if not 1 <= self.maximum_segments <= 255:
            raise ConfigError(f"maximum_segments must lie in 1..255, not {self.maximum_segments}")
        if self.batch_size < 1 or self.minimum_lesion_ml < 0:
            raise ConfigError("batch_size must be positive, minimum_lesion_ml not negative")


class Predictor:
    """One model version on one engine. Not to be shared between threads.

    Parameters
    ----------
    entry
        The model version.
    options
        Site's settings.
    engine
        What runs the network.
    """

    def __init__(self, entry: RegistryEntry, options: PredictionOptions, engine: Engine) -> None:
        manifest = entry.manifest
        self.model_version = entry.model_version
        self.operating_point = _first(options.operating_point, manifest.operating_point)
        self.lesion_threshold = _first(options.lesion_threshold, manifest.lesion_threshold)
        self._manifest, self._options, self._engine = manifest, options, engine

    @classmethod
    def load(cls, entry: RegistryEntry, options: PredictionOptions | None = None) -> Predictor:
        """Check and load the weights of a version into the Keras engine.

        Raises
        ------
        RegistryError, ModelIntegrityError
            If the weights are missing, or not the ones the manifest names.
        """
        options = options or PredictionOptions()
        weights = entry.verified_weights()
        # TensorFlow takes seconds to import; only who predicts may pay for it.
        from model.engines.keras_engine import KerasEngine  # noqa: PLC0415

        engine = KerasEngine(entry.manifest.network, weights, options.batch_size)
        return cls(entry, options, engine)

    def pipeline_digest(self) -> str:
        """Return the SHA-256 of all that decides a result beside the volume and the weights.

        Operating point, lesion rules, pooling, engine and code version: together with the
        instances' digest and the model version, the identity of a result.
        """
        identity = asdict(self._options) | {
            # Weights may be shared by versions that use them differently.
            "version": [self._manifest.name, self._manifest.version],
            "network": asdict(self._manifest.network),
            "operating_point": self.operating_point,
            "lesion_threshold": self.lesion_threshold,
            "calibration": asdict(self._manifest.calibration),
            "pooling": asdict(self._manifest.pooling),
            "engine": self._engine.name,
            "code_version": _code_version(),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def predict(self, volume: CtVolume, progress: Progress | None = None) -> Prediction:
        """Screen a volume: find the lungs, run the network on their slices, measure lesions.

        Parameters
        ----------
        volume
            An axial chest CT.
        progress
            Called with a stage (``lungs``, ``network``, ``lesions``) and its finished share.

        Raises
        ------
        NoLungError
            If the volume shows no lung.
        """
        report = progress or (lambda _stage, _share: None)
        report("lungs", 0.0)
        lungs = find_lungs(volume)
        report("lungs", 1.0)
        probabilities, lesions = self._run_network(volume, lungs, report)
        report("lesions", 0.0)
        rules = LesionRules(self._options.minimum_lesion_ml, self._options.maximum_segments)
        mask, components = label_lesions(lesions, volume.voxel_volume_ml, rules)
        findings = measure_findings(mask, components, volume, lungs.sides)
        report("lesions", 1.0)
        calibrated = self._manifest.calibration.apply(probabilities)
        return Prediction(
            model=self.model_version,
            covid_probability=self._manifest.pooling.pool(calibrated),
            operating_point=self.operating_point,
            screened_slices=lungs.screened_slices,
            slice_probabilities=tuple(float(value) for value in calibrated),
            lesion_mask=mask,
            findings=findings,
            lung_volume_ml=lungs.volume_ml,
        )

    def _run_network(
        self, volume: CtVolume, lungs: LungField, report: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return raw probabilities of the screened slices, and the lesions of the volume."""
        size, batch_size = self._manifest.network.input_size, self._options.batch_size
        boxes = dict(zip(lungs.screened_slices, lungs.boxes(), strict=True))
        shape = (volume.shape[1], volume.shape[2])
        lesions = np.zeros(volume.shape, np.bool_)
        probabilities: list[float] = []
        for indices in _batches(lungs.screened_slices, batch_size):
            geometries = [Geometry(shape, boxes[index], size) for index in indices]
            images = np.zeros((batch_size, size, size), np.float32)
            for image, index, geometry in zip(images, indices, geometries, strict=False):
                image[...] = slice_to_input(apply_window(volume.hounsfield[index]), geometry)
            output = self._engine.run(images)
            probabilities.extend(output.covid_probability[: len(indices)])
            maps = output.lesion_probability[: len(indices)]
            for index, geometry, lesion_map in zip(indices, geometries, maps, strict=True):
                lung = lungs.sides[index] != Side.NONE
                lesions[index] = lesion_slice(lesion_map, geometry, lung, self.lesion_threshold)
            report("network", len(probabilities) / len(lungs.screened_slices))
        return np.array(probabilities, np.float32), lesions


def _batches(indices: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _first(override: float | None, default: float) -> float:
    return default if override is None else override


def _code_version() -> str:
    try:
        return version("lungwatch")
    except PackageNotFoundError:
        return "unknown"
