"""An installation that can be retrained: a tiny network in use, drawn data, reviewed studies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from support.installation import Installation
from support.networks import draw_manifest, write_version
from support.small_ct import small_phantom, write_small_ct
from support.stated import SMALL, StatedPredictor, draw

from worker import bootstrap, learning
from worker.db import model_versions
from worker.db.tables import Promotion, Study
from worker.judgement import RejectReason
from worker.lifecycle import PromotionAction
from worker.review.reviews import Reviewer

if TYPE_CHECKING:
    from pathlib import Path

    from model.registry import RegistryEntry
    from model.volume import CtVolume

READER = Reviewer("Dr. Roe")


class RetrainingSite:
    """Five reviewed studies of patients 1 to 5, a base manifest and a locked test set.

    The network in use is tiny, and its weights are random.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.base = draw_manifest(folder / "base" / "base.csv", split=None, count=10, patient="b")
        self.test = draw_manifest(folder / "test" / "test.csv", count=10, patient="t")
        models = folder / "models"
        tiny = write_version(models, "1.0.0", trained_on=self.base)
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
        # A patient's name decides whether he trains or validates: with a key by chance, one in
        # five sites would hold out the only patient that a test reviews. With this one all train.
        key = self.settings.pseudonym_key
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_bytes(bytes([3]) * 32)
        self.promotions = bootstrap.promotions(self.settings, self.database)
        self._put_into_use(tiny)

    def _put_into_use(self, entry: RegistryEntry) -> None:
        """Record a promotion that nobody measured: the gate has tests of its own."""
        before = self.promotions.in_use()
        with self.database.transaction() as session:
            new, old = (
                model_versions.register(session, each.model_version, each.manifest_sha256)
                for each in (entry, before)
            )
            promotion = Promotion(
                action=PromotionAction.PROMOTED,
                model_version_id=new.id,
                previous_id=old.id,
                who="test",
                reason="the test begins with it",
                overridden=True,
            )
            model_versions.record(session, promotion, 0)

    def review(self, numbers: str = "12345") -> None:
        """Screen and review: accepted, cleared, corrected, class alone, unusable; or only "1"."""
        installation, files = self.installation, {}
        volume, lesions = small_phantom()
        tiny = bootstrap.load_predictor(self.settings)
        for number in numbers:
            own = _of_another_patient(volume, int(number))
            files[number] = write_small_ct(self.folder / f"ct-{number}", number, own)
            installation.receive(files[number])
            # What the tiny network finds is anything; where a label is counted on, it is stated.
            installation.screen(tiny if number in "15" else StatedPredictor())
        with self.database.transaction() as session:
            for study in session.query(Study):
                study.patient_id = f"patient {study.id}"
        desk = learning.review_desk(self.settings)
        desk.accept("1", READER)
        if numbers == "1":
            return
        empty = draw(self.folder / "empty.dcm", files["2"], np.zeros_like(lesions))
        desk.correct("2", empty, READER)
        corrected = draw(self.folder / "seg.dcm", files["3"], lesions)
        desk.correct("3", corrected, READER)
        desk.reject("4", RejectReason.WRONG_LESIONS, READER)
        desk.reject("5", RejectReason.UNUSABLE, READER)


def _of_another_patient(volume: CtVolume, number: int) -> CtVolume:
    """Give each patient noise of his own: the same pixels may not both train and choose."""
    noise = np.random.default_rng(number).integers(-8, 9, volume.hounsfield.shape)
    return replace(volume, hounsfield=volume.hounsfield + noise.astype(volume.hounsfield.dtype))
