"""Generated images, and a rule that looks at them: what an evaluation is tested on."""

from dataclasses import replace

import numpy as np

from model.config import NetworkConfig
from model.data.dataset import Sample, Split
from model.evaluation.decision import Decision
from model.evaluation.evaluate import evaluate
from model.evaluation.evaluation import ModelFacts
from model.evaluation.slice_model import BatchOutput
from model.evaluation.subject import Subject
from model.pooling import Calibration, Pooling
from model.registry import Manifest, RegistryEntry

SIZE = 32
FACTS = ModelFacts("rule-1.0.0", "ab" * 32, ("segmentation", "classification"), SIZE)
HALF = Decision(Calibration(), 0.5, 0.5)


class BrightRule:
    """Calls bright pixels lesion, and the brightest pixel's value the probability."""

    title = "bright rule"

    def __init__(self, *, classifies=True, segments=True):
        self.classifies, self.segments, self.images = classifies, segments, 0

    def run(self, images):
        self.images += len(images)
        probability = images.max(axis=(1, 2)) if self.classifies else None
        return BatchOutput(probability, images if self.segments else None)


def sample(name, peak, *, covid, source="mixed", split=Split.TEST, patient=None, drawn=False):
    """Return an image with one square of this brightness, drawn as lesion if wished."""
    image = np.zeros((SIZE, SIZE), np.float32)
    image[8:16, 8:16] = peak
    mask = image > 0 if drawn else None
    known = f"{source}:{name}" if patient is None else patient
    return Sample(f"{name}.png", source, split, known, covid, image, mask)


def bright_samples():
    """Return a source with both classes, and one of four clusters with its lesions drawn."""
    generator = np.random.default_rng(0)
    drawn = []
    for number in range(40):
        covid = number % 2 == 0
        peak = float(np.clip(generator.normal(0.7 if covid else 0.35, 0.2), 0.01, 0.99))
        split = Split.TEST if number < 20 else Split.VALIDATION
        drawn.append(sample(f"mixed-{number}", peak, covid=covid, split=split))
    for number in range(8):
        patient = f"drawn:cluster {number // 2}"
        drawn.append(
            sample(f"drawn-{number}", 0.9, covid=True, source="drawn", patient=patient, drawn=True)
        )
    return tuple(drawn)


def measured(samples, rule=None, decision=HALF):
    return evaluate(rule or BrightRule(), samples, decision, model=FACTS)


def version_subject(tmp_path, **values):
    manifest = Manifest(
        name="rule",
        version="1.0.0",
        sha256="cd" * 32,
        network=NetworkConfig(input_size=SIZE),
        calibration=Calibration(2.0, 0.1),
        pooling=Pooling(),
        operating_point=0.7,
        lesion_threshold=0.5,
        licence="",
        data="",
    )
    manifest = replace(manifest, **values)
    entry = RegistryEntry(manifest, tmp_path)
    return Subject("rule-1.0.0", manifest.network, tmp_path / "weights.npz", "cd" * 32, entry)
