"""The parts of the data an experiment fits, selects and reports on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model.data.dataset import Split, hash_share
from model.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.data.dataset import Sample

SELECTION_SHARE = 0.2


@dataclass(frozen=True)
class Parts:
    """Samples by their use.

    Attributes
    ----------
    fitted
        Samples that train and, by their split, those that choose the epoch.
    reported
        Samples that only the table's figures are taken from.
    how
        What was done, for the table's text.
    """

    fitted: tuple[Sample, ...]
    reported: tuple[Sample, ...]
    how: str


def parts_of(samples: Sequence[Sample]) -> Parts:
    """Part samples so that no reported figure was used to choose anything.

    Where the manifest names a test split, that is reported on. Otherwise its validation split is,
    and a fifth of the training patients, fixed by hash, chooses the epoch instead.

    Raises
    ------
    DatasetError
        If nothing is left to report on.
    """
    reported = tuple(sample for sample in samples if sample.split == "test")
    if reported:
        fitted = tuple(sample for sample in samples if sample.split != "test")
        return Parts(fitted, reported, "epoch chosen on the validation split, reported on test")
    reported = tuple(sample for sample in samples if sample.split == Split.VALIDATION)
    if not reported:
        raise DatasetError("experiments report on a test or validation split; there is neither")
    fitted = tuple(
        replace(sample, split=_inner(sample)) for sample in samples if sample.split == Split.TRAIN
    )
    how = (
        f"epoch chosen on {SELECTION_SHARE:.0%} of the training patients (by hash), reported on "
        "the manifest's validation split"
    )
    return Parts(fitted, reported, how)


def _inner(sample: Sample) -> Split:
    chooses = hash_share(f"experiments:{sample.patient}") < SELECTION_SHARE
    return Split.VALIDATION if chooses else Split.TRAIN


def shares(samples: Sequence[Sample], masked_share: float) -> tuple[tuple[str, float], ...]:
    """Return how often each group is drawn: groups with masks together a share, others as they are.

    Parameters
    ----------
    samples
        All samples that are fitted; those of the training split count.
    masked_share
        Share of the groups with lesion masks; 0 leaves the data as they are.
    """
    training = [sample for sample in samples if sample.split == Split.TRAIN]
    counts: dict[str, int] = {}
    for sample in training:
        counts[sample.group] = counts.get(sample.group, 0) + 1
    masked = {sample.group for sample in training if sample.mask is not None}
    total = {
        kind: sum(count for group, count in counts.items() if (group in masked) is kind)
        for kind in (True, False)
    }
    if not masked_share or not total[True] or not total[False]:
        return ()
    share = {True: masked_share, False: 1 - masked_share}
    return tuple(
        (group, share[group in masked] * count / total[group in masked])
        for group, count in sorted(counts.items())
    )
