"""The composition root of all that learns: reviews, reviewed data, retraining.

Beside `worker.bootstrap`, on which it builds, so that no screening process knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker import bootstrap
from worker.errors import SettingsError
from worker.settings import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from worker.db.engine import Database
    from worker.retraining.run import Site
    from worker.review.reviewed_data import ReviewedData
    from worker.review.reviews import Folders, ReviewDesk
    from worker.settings import Settings


def review_desk(settings: Settings) -> ReviewDesk:
    """Build the desk that records reviews."""
    from worker.review.reviews import ReviewDesk

    return ReviewDesk(bootstrap.open_database(settings), review_folders(settings))


def review_folders(settings: Settings) -> Folders:
    """Tell where the files are that a review touches."""
    from worker.review.reviews import Folders

    return Folders(settings.spool_dir, settings.results_dir, settings.reviews_dir)


def reviewed_data(settings: Settings, database: Database) -> ReviewedData:
    """Build the way from reviews to training data."""
    from worker.pseudonyms import Pseudonyms
    from worker.review.reviewed_data import ReviewedData

    pseudonyms = Pseudonyms(settings.pseudonym_key)
    return ReviewedData(database, review_folders(settings), pseudonyms)


def model_dir(settings: Settings) -> Path:
    """Give the folder of this installation's own versions.

    Raises
    ------
    SettingsError
        If none is set.
    """
    if settings.model_dir is None:
        raise SettingsError(
            f"{PREFIX}MODEL_DIR is not set: name the folder that retrained versions go to; workers "
            "need the same one"
        )
    return settings.model_dir


def site(settings: Settings, database: Database) -> Site:
    """Tell a retraining what this installation brings.

    Raises
    ------
    SettingsError
        If there is no folder that a new version could go to.
    """
    from worker.retraining.run import Site
    from worker.training.slices import read_training_slice

    return Site(
        reviewed=reviewed_data(settings, database),
        promotions=bootstrap.promotions(settings, database),
        registry=bootstrap.registry(settings),
        model_dir=model_dir(settings),
        locked_test_set=settings.locked_test_set,
        read_slice=read_training_slice,
    )
