"""Studies composed of validation slices, and the rule that pools slices into a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.evaluation.metrics import roc_auc
from model.pooling import Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POOLING_SHARES = (0.1, 0.2, 0.35, 0.5, 1.0)
INFECTED_SHARES = (0.2, 0.8)
OTHER_PATIENTS = 5
SLICES_PER_STUDY = 60
STUDIES_PER_CLASS = 400


@dataclass(frozen=True, slots=True, eq=False)
class ComposedStudies:
    """Studies composed of validation slices, since the validation data hold no whole studies.

    Attributes
    ----------
    slices
        Calibrated probabilities of shape (studies, slices).
    covid
        Class of each study.
    """

    slices: NDArray[np.float64]
    covid: NDArray[np.bool_]

    def pooled(self, pooling: Pooling) -> NDArray[np.float64]:
        """Return the probability of each study."""
        return np.array([pooling.pool(study) for study in self.slices])


def compose_studies(
    probabilities: NDArray[np.float64],
    covid: NDArray[np.bool_],
    patients: NDArray[np.str_],
    sources: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> ComposedStudies:
    """Compose studies from single slices, drawn with replacement.

    Parameters
    ----------
    probabilities
        Calibrated probabilities of validation slices.
    covid
        Their classes.
    patients
        Their patients.
    sources
        Their data sets, each of both classes: a study is composed within one, and each composes
        as many. Without it all slices are of one.
    seed
        Seed of the drawing.

    Notes
    -----
    A study of COVID-19 gets a share of infected slices drawn evenly from `INFECTED_SHARES`, all of
    one patient with COVID-19; its other slices, and all of a study without, are those of
    `OTHER_PATIENTS` patients without. A real study is one person's, but its slices vary more than
    the one to three figures that the data hold of a person; slices drawn from everybody would
    make every study an average of all, and the task too easy.
    """
    generator = np.random.default_rng(seed)
    sources = np.zeros(covid.size, np.str_) if sources is None else sources
    composed = []
    for name in np.unique(sources):
        members = sources == name
        composed.append(
            _compose(generator, probabilities[members], covid[members], patients[members])
        )
    diseased = np.concatenate([first for first, _ in composed])
    others = np.concatenate([second for _, second in composed])
    return ComposedStudies(
        np.concatenate([diseased, others]), np.repeat([True, False], [len(diseased), len(others)])
    )


def _compose(
    generator: np.random.Generator,
    probabilities: NDArray[np.float64],
    covid: NDArray[np.bool_],
    patients: NDArray[np.str_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the slices of studies with the disease, and of studies without."""

    def draw(group: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        names = np.unique(patients[group])
        drawn = generator.choice(names, (STUDIES_PER_CLASS, count))
        pools = (probabilities[group & np.isin(patients, chosen)] for chosen in drawn)
        return np.stack([generator.choice(pool, SLICES_PER_STUDY) for pool in pools])

    shares = generator.uniform(*INFECTED_SHARES, (STUDIES_PER_CLASS, 1))
    infected = generator.random((STUDIES_PER_CLASS, SLICES_PER_STUDY)) < shares
    diseased = np.where(infected, draw(covid, 1), draw(~covid, OTHER_PATIENTS))
    return diseased, draw(~covid, OTHER_PATIENTS)


def choose_pooling(
    studies: ComposedStudies, shares: Sequence[float] = POOLING_SHARES
) -> tuple[Pooling, dict[float, float]]:
    """Return the pooling rule with the highest AUC over composed studies, and every share's AUC."""
    aucs = {share: roc_auc(studies.covid, studies.pooled(Pooling(share))) for share in shares}
    return Pooling(max(aucs, key=lambda share: (round(aucs[share], 3), -share))), aucs
