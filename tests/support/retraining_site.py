"""An installation that can be retrained: a tiny network in use, drawn data, reviewed studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from support.installation import Installation
from support.networks import draw_manifest, write_version
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor, draw
from support.synthetic_result import TINY_LESIONS, predict, tiny_series

from worker import bootstrap, learning
from worker.db.tables import Study
from worker.judgement import RejectReason
from worker.reviews import Reviewer

if TYPE_CHECKING:
    from pathlib import Path

MASK = predict(tiny_series(), TINY_LESIONS).lesion_mask.labels > 0
READER = Reviewer("Dr. Roe")


class RetrainingSite:
    """Five reviewed studies of patients 1 to 5, a base manifest and a locked test set.

    The network in use is tiny, promoted against the gate's advice, as its weights are random.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.base = draw_manifest(folder / "base" / "base.csv", split=None, count=10, patient="b")
        self.test = draw_manifest(folder / "test" / "test.csv", count=10, patient="t")
        models = folder / "models"
        write_version(models, "1.0.0", trained_on=self.base)
        self.given = {
            "data_dir": folder / "site" / "data",
            "model_dir": models,
            "locked_test_set": self.test,
            **SMALL,
            **settings,
        }
        own = {name: value for name, value in self.given.items() if name != "data_dir"}
        self.installation = Installation(folder / "site" / "data", **own)
        self.settings, self.database = self.installation.settings, self.installation.database
        self.promotions = bootstrap.promotions(self.settings, self.database)
        self.promotions.promote("tiny-1.0.0", lambda *_: None, "the test begins with it")

    def review(self, numbers: str = "12345") -> None:
        """Screen and review: accepted, cleared, corrected, class alone, unusable; or only "1"."""
        installation, files = self.installation, {}
        for number in numbers:
            files[number] = write_small_ct(self.folder / f"ct-{number}", number)
            installation.receive(files[number])
            installation.screen(StatedPredictor())
        with self.database.transaction() as session:
            for study in session.query(Study):
                study.patient_id = f"patient {study.id}"
        desk = learning.review_desk(self.settings)
        desk.accept("1", READER)
        if numbers == "1":
            return
        empty = draw(self.folder / "empty.dcm", files["2"], np.zeros_like(MASK))
        desk.correct("2", empty, READER)
        corrected = draw(self.folder / "seg.dcm", files["3"], np.roll(MASK, 2, axis=1))
        desk.correct("3", corrected, READER)
        desk.reject("4", RejectReason.WRONG_LESIONS, READER)
        desk.reject("5", RejectReason.UNUSABLE, READER)
