"""Batches for a training step, drawn and augmented reproducibly from samples in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from model.errors import DatasetError
from model.training.augmentation import augment
from model.training.lesion_pasting import paste_lesions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.config import TrainingConfig
    from model.data.dataset import Sample

    Batch = tuple[NDArray[np.float32], ...]

PARALLEL_BATCHES = 4


def epoch_steps(samples: Sequence[Sample], config: TrainingConfig) -> int:
    """Return the number of batches of an epoch; by default each sample is drawn once."""
    return config.steps_per_epoch or -(-len(samples) // config.batch_size)


def draw_epoch(
    samples: Sequence[Sample], config: TrainingConfig, epoch: int
) -> list[NDArray[np.intp]]:
    """Choose the samples of each batch of one epoch, the same on every machine.

    Parameters
    ----------
    samples
        The training samples.
    config
        Gives seed, batch size and shares of the groups.
    epoch
        Number of the epoch; a resumed run draws what an unbroken one would have drawn.

    Returns
    -------
    list of NDArray[np.intp]
        Indices into `samples` for each batch.

    Raises
    ------
    DatasetError
        If a group with a share has no sample.
    """
    generator = np.random.default_rng((config.seed, epoch))
    total = epoch_steps(samples, config) * config.batch_size
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group if config.source_shares else "all", []).append(index)
    shares = dict(config.source_shares) or {"all": 1.0}
    missing = sorted(group for group, share in shares.items() if share and group not in groups)
    if missing:
        raise DatasetError(f"source_shares: no training sample of {', '.join(missing)}")
    probability = np.array(list(shares.values())) / sum(shares.values())
    names = np.array(list(shares))
    # Each group's quota is spread evenly over the epoch, so that no batch lacks a mask by chance.
    quotas = np.floor(probability * total).astype(int)
    quotas[np.argmax(probability)] += total - quotas.sum()
    positions = np.concatenate([(np.arange(q) + generator.random(q)) / max(q, 1) for q in quotas])
    labels = np.repeat(np.arange(len(names)), quotas)[np.argsort(positions)]
    chosen = np.empty(total, np.intp)
    for number, name in enumerate(names):
        slots = np.flatnonzero(labels == number)
        if slots.size:
            members = np.array(groups[name])
            rounds = -(-slots.size // members.size)
            order = np.concatenate([generator.permutation(members) for _ in range(rounds)])
            chosen[slots] = order[: slots.size]
    return list(chosen.reshape(-1, config.batch_size))


def require_shares(samples: Sequence[Sample], config: TrainingConfig) -> None:
    """Check that every group of training samples is drawn, or left out on purpose.

    Raises
    ------
    DatasetError
        If `TrainingConfig.source_shares` does not name a group that there is: none of it would
        ever be drawn.
    """
    if not config.source_shares:
        return
    counts = Counter(sample.group for sample in samples)
    unnamed = sorted(set(counts) - {group for group, _ in config.source_shares})
    if unnamed:
        listed = ", ".join(f"{group} ({counts[group]} samples)" for group in unnamed)
        raise DatasetError(
            f"source_shares: no share for {listed}, so nothing of it would be drawn; give each "
            "group a share, 0 to leave it out"
        )


def make_batch(
    samples: Sequence[Sample],
    config: TrainingConfig,
    generators: Sequence[np.random.Generator] = (),
    donors: Sequence[Sample] = (),
) -> Batch:
    """Stack samples into image, mask, has_mask, covid, has_class: the fields of `Targets`.

    Parameters
    ----------
    samples
        The samples of the batch.
    config
        Gives the augmentation and the sources whose non-COVID images have an empty mask.
    generators
        Source of randomness for the augmentation of each sample; none leaves the images as they
        are.
    donors
        Samples with lesions, which `TrainingConfig.paste_shares` lays into other images.
    """
    paste_shares = dict(config.paste_shares) if generators and donors else {}
    images, masks, has_mask, covid = [], [], [], []
    for number, sample in enumerate(samples):
        generator = generators[number] if generators else None
        image, mask, infected = sample.image, sample.mask, bool(sample.covid)
        if mask is None and sample.covid is False and sample.source in config.empty_mask_sources:
            mask = np.zeros(image.shape, np.bool_)
        # An image with lesions of its own, of another disease, must not lose them.
        plain = sample.covid is False and (mask is None or not mask.any())
        share = paste_shares.get(sample.source, 0.0) if plain else 0.0
        if generator is not None and share and generator.random() < share:
            pasted = paste_lesions(image, list(donors), generator)
            if pasted is not None:
                image, mask = pasted
                infected = True
        if generator is not None:
            image, mask = augment(image, mask, config.augmentation, generator)
        images.append(image)
        covid.append(infected)
        has_mask.append(mask is not None)
        masks.append(np.zeros(image.shape, np.bool_) if mask is None else mask)
    return (
        np.stack(images)[..., None].astype(np.float32),
        np.stack(masks)[..., None].astype(np.float32),
        np.array(has_mask, np.float32),
        np.array(covid, np.float32),
        np.array([sample.covid is not None for sample in samples], np.float32),
    )


def training_batches(
    samples: Sequence[Sample], config: TrainingConfig, epoch: int, first: int = 0
) -> tf.data.Dataset:
    """Return the augmented batches of one epoch, several of them made ahead of the training step.

    Parameters
    ----------
    samples, config
        As for `draw_epoch`.
    epoch
        Number of the epoch.
    first
        Batches to leave out at the beginning, which a resumed run has seen already.

    Notes
    -----
    Each image has a generator of its own, seeded by seed, epoch and position in the epoch. So
    neither the number of threads nor the place where a run was resumed changes an image.
    """
    donors = [sample for sample in samples if _is_donor(sample)]
    drawn = draw_epoch(samples, config, epoch)

    def make(number: np.int64) -> Batch:
        positions = range(int(number) * config.batch_size, (int(number) + 1) * config.batch_size)
        generators = [np.random.default_rng((config.seed, epoch, 1, each)) for each in positions]
        return make_batch([samples[index] for index in drawn[number]], config, generators, donors)

    size = config.network.input_size
    shapes = [(config.batch_size, size, size, 1)] * 2 + [(config.batch_size,)] * 3

    def read(number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Stateless, or deterministic mode would make one batch at a time.
        parts = tf.numpy_function(make, [number], [tf.float32] * len(shapes), stateful=False)
        return tuple(
            tf.ensure_shape(part, shape) for part, shape in zip(parts, shapes, strict=True)
        )

    return (
        tf.data.Dataset.range(first, len(drawn))
        .map(read, num_parallel_calls=PARALLEL_BATCHES, deterministic=True)
        .prefetch(PARALLEL_BATCHES)
    )


def _is_donor(sample: Sample) -> bool:
    """Whether lesions are drawn that may be COVID-19's: what they are pasted into is called so."""
    return sample.covid is not False and sample.mask is not None and bool(sample.mask.any())
