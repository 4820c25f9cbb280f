"""A network that needs no TensorFlow: one lesion on the second slice of whatever it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.prediction import Finding, Laterality, LesionMask, ModelVersion, Prediction

if TYPE_CHECKING:
    from model.volume import CtVolume


class QuickPredictor:
    """As `model.inference.Predictor`."""

    model_version = ModelVersion("quick", "1", "5" * 64)

    def pipeline_digest(self) -> str:
        """As `model.inference.Predictor`."""
        return "pipeline"

    def predict(self, volume: CtVolume, _progress: object = None) -> Prediction:
        """As `model.inference.Predictor`."""
        labels = np.zeros(volume.shape, np.uint8)
        labels[1, 4:8, 4:8] = 1
        lesion = Finding(1, 16, 1.0, (1,), 1, Laterality.LEFT, -300.0, 8.0)
        mask = LesionMask(labels)
        return Prediction(self.model_version, 0.9, 0.5, (1,), (0.9,), mask, (lesion,), 4000.0)
