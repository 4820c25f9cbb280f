"""Training settings of a retraining: those of the version in use, made gentle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import Schedule, TrainingConfig
from model.data.dataset import Split
from model.release import TRAINING_FILE
from worker.review.reviewed_data import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.data.dataset import Sample
    from model.registry import RegistryEntry
    from worker.retraining.request import RetrainingRequest

EPOCHS, PATIENCE = 20, 6
# A network that has learned keeps more of it at a lower rate than it was first trained with.
_GENTLER = 0.3
_CHECKPOINT_STEPS = 50


def retraining_config(
    request: RetrainingRequest, current: RegistryEntry, samples: Sequence[Sample]
) -> TrainingConfig:
    """Decide the settings of a retraining; the same for the same version, request and samples.

    Parameters
    ----------
    request
        What it sets wins over all else.
    current
        The version in use: its network is trained, by the settings it was trained with.
    samples
        All samples, for the shares.

    Raises
    ------
    ConfigError
        If settings cannot work.
    """
    stored = current.folder / TRAINING_FILE
    if request.config:
        base = TrainingConfig.from_file(Path(request.config))
        rate = base.learning_rate
    else:
        known = TrainingConfig.from_file(stored) if stored.is_file() else None
        base = replace(
            known or TrainingConfig(),
            epochs=EPOCHS,
            patience=PATIENCE,
            schedule=Schedule.CONSTANT,
            segmentation_warm_up_steps=0,
        )
        rate = base.learning_rate * _GENTLER
    return replace(
        base,
        # Weights come from the version, whatever its network once started from.
        network=replace(current.manifest.network, imagenet_weights=""),
        epochs=request.epochs or base.epochs,
        patience=request.patience or base.patience,
        learning_rate=request.learning_rate or rate,
        steps_per_epoch=(
            base.steps_per_epoch if request.steps_per_epoch is None else request.steps_per_epoch
        ),
        source_shares=_shares(base, samples, request.reviewed_share),
        checkpoint_steps=base.checkpoint_steps or _CHECKPOINT_STEPS,
    )


def _shares(
    config: TrainingConfig, samples: Sequence[Sample], reviewed: float
) -> tuple[tuple[str, float], ...]:
    """Make room for the reviewed groups and for those that the settings do not know.

    A group that is not known is drawn as often, image by image, as the known ones on average.
    Groups that this data lack are left out.
    """
    if not config.source_shares:
        return ()
    counts = Counter(sample.group for sample in samples if sample.split is Split.TRAIN)
    own = {group: n for group, n in sorted(counts.items()) if group.startswith(f"{SOURCE}/")}
    others = {
        group: share
        for group, share in config.source_shares
        if group in counts and group not in own
    }
    total, known = sum(others.values()), sum(counts[each] for each in others if others[each])
    if not total:
        # Nothing to balance: everything is drawn once.
        return ()
    new = sorted(set(counts) - set(own) - set(others))
    others |= {group: total * counts[group] / known for group in new}
    total, room = sum(others.values()), 1 - reviewed if own else 1
    return (
        *((group, room * share / total) for group, share in others.items()),
        *((group, reviewed * count / sum(own.values())) for group, count in own.items()),
    )
