"""A support vector machine on a network's features, after the system of Sethy et al.

Fitted by scikit-learn and kept as plain arrays; deciding needs numpy alone.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.svm import SVC

from model.errors import DatasetError, RegistryError
from model.files import replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

PENALTIES = (0.1, 1.0, 10.0)


@dataclass(frozen=True, eq=False)
class SupportVectorMachine:
    """A fitted machine with a radial kernel.

    Attributes
    ----------
    mean, deviation
        Of each feature over the training samples; features are standardised by them.
    vectors, coefficients
        Support vectors, (vectors, features), and the weight of each.
    intercept, gamma
        Of the decision function and of the kernel; arrays without dimensions.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    vectors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    gamma: NDArray[np.float64]

    def decide(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the signed distance of samples (samples, features); above 0 is COVID-19."""
        scaled = (features - self.mean) / self.deviation
        square = (
            np.square(scaled).sum(axis=1)[:, None]
            + np.square(self.vectors).sum(axis=1)[None, :]
            - 2 * scaled @ self.vectors.T
        )
        kernel = np.exp(-self.gamma * np.maximum(square, 0.0))
        decision: NDArray[np.float64] = kernel @ self.coefficients + self.intercept
        return decision

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return decisions as numbers in 0..1 with 0.5 for 0; uncalibrated, (samples, 1)."""
        share: NDArray[np.float64] = 1 / (1 + np.exp(-self.decide(features)))
        return share[:, None]

    def save(self, path: Path) -> None:
        """Write the arrays to an npz file, whole or not at all."""
        with replaced(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> SupportVectorMachine:
        """Read what `save` wrote.

        Raises
        ------
        RegistryError
            If the file is no such machine.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in arrays.files})
        except (AttributeError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise RegistryError(f"{path}: not a support vector machine: {error}") from error


def fit_machine(
    features: NDArray[np.floating],
    covid: NDArray[np.bool_],
    selection_features: NDArray[np.floating],
    selection_covid: NDArray[np.bool_],
    score: Callable[[NDArray[np.bool_], NDArray[np.float64]], float],
) -> SupportVectorMachine:
    """Fit machines of several penalties and take the one that scores best on other samples.

    Parameters
    ----------
    features, covid
        Training samples, (samples, features) and (samples,).
    selection_features, selection_covid
        Samples that choose the penalty.
    score
        From classes and decisions to the number that is to be high, for instance the AUC.

    Raises
    ------
    DatasetError
        If either part holds one class only.
    """
    if np.unique(covid).size < 2 or np.unique(selection_covid).size < 2:
        raise DatasetError("a support vector machine needs both classes to fit and to select")
    mean = features.mean(axis=0).astype(np.float64)
    deviation = np.maximum(features.std(axis=0), 1e-6).astype(np.float64)
    scaled = (features - mean) / deviation
    gamma = 1.0 / (scaled.shape[1] * max(float(scaled.var()), 1e-12))
    best: tuple[float, SupportVectorMachine] | None = None
    for penalty in PENALTIES:
        fitted = SVC(C=penalty, gamma=gamma, class_weight="balanced").fit(scaled, covid)
        machine = SupportVectorMachine(
            mean,
            deviation,
            np.asarray(fitted.support_vectors_, np.float64),
            np.asarray(fitted.dual_coef_[0], np.float64),
            np.asarray(fitted.intercept_[0], np.float64),
            np.asarray(gamma, np.float64),
        )
        reached = score(selection_covid, machine.decide(selection_features))
        if best is None or reached > best[0]:
            best = (reached, machine)
    if best is None:
        raise DatasetError("no penalty to choose from")
    return best[1]
