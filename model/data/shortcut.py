"""What the source of an image says about its class: the shortcut a network may take."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.data.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Shortcut:
    """What the source alone says about the class.

    Attributes
    ----------
    one_class_sources
        Sources that hold one class only, with that class: what tells such a source from the
        others tells the class as well.
    accuracy, auc
        Of guessing the class of the validation data from its source, by the training data's share
        of COVID-19 in that source; None where a split lacks a class. 0.5 is an AUC without
        shortcut.
    """

    one_class_sources: tuple[tuple[str, bool], ...]
    accuracy: float | None
    auc: float | None


def find_shortcut(images: Iterable[tuple[str, bool | None, Split]]) -> Shortcut:
    """Find out how far the source alone tells the class.

    Parameters
    ----------
    images
        Source, class (None: unknown) and split of each image.
    """
    tables: dict[Split, Counter[tuple[str, bool]]] = {split: Counter() for split in Split}
    for source, covid, split in images:
        if covid is not None:
            tables[split][source, covid] += 1
    total = sum(tables.values(), Counter[tuple[str, bool]]())
    sources = sorted({source for source, _ in total})
    one_class = tuple(
        (source, bool(total[source, True]))
        for source in sources
        if not (total[source, True] and total[source, False])
    )
    accuracy, auc = _guess(tables[Split.TRAIN], tables[Split.VALIDATION])
    return Shortcut(one_class, accuracy, auc)


def _guess(
    train: Counter[tuple[str, bool]], validation: Counter[tuple[str, bool]]
) -> tuple[float | None, float | None]:
    """Guess the class from the source alone; return accuracy and AUC."""
    sources = sorted({source for source, _ in validation})
    positive = {source: validation[source, True] for source in sources}
    negative = {source: validation[source, False] for source in sources}
    pairs = sum(positive.values()) * sum(negative.values())
    if not pairs or not train:
        return None, None
    overall = sum(count for (_, covid), count in train.items() if covid) / sum(train.values())

    def score(source: str) -> float:
        seen = train[source, True] + train[source, False]
        return train[source, True] / seen if seen else overall

    right = sum(positive[s] if score(s) >= 0.5 else negative[s] for s in sources)
    won = sum(
        positive[a] * negative[b] * (1.0 if score(a) > score(b) else 0.5 * (score(a) == score(b)))
        for a in sources
        for b in sources
    )
    return right / (sum(positive.values()) + sum(negative.values())), won / pairs
