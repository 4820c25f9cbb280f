"""Reviewed studies as training data: pseudonymous slices, lesions, and rows of a manifest."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dicom_node.errors import RefusedError, SegmentationError
from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.objects.pseudonymous_slices import encode_lesions, encode_slice
from model.data.fingerprints import patient_fingerprint
from model.data.manifest import LabelOrigin, ManifestRow
from model.errors import DatasetError
from model.files import write_bytes
from model.volume import CtVolume
from worker.db import reviews
from worker.errors import ImagesGoneError, ReviewError
from worker.judgement import Label, Lesions
from worker.review.reviews import screened_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from dicom_node.objects.pseudonymous_slices import Pseudonym
    from dicom_node.reading.ct_series import CtSeries
    from worker.db.engine import Database
    from worker.db.tables import Review
    from worker.pseudonyms import Pseudonyms
    from worker.review.reviews import Folders

SOURCE = "reviewed"
SLICES_PER_STUDY = 64


@dataclass(frozen=True, slots=True)
class ReviewedStudy:
    """A study as the last review of it says.

    Attributes
    ----------
    study_id, review_id
        In the database.
    label
        What it teaches.
    pseudonym
        Names of patient and study outside of the database.
    patient
        Fingerprint of the Patient ID, as the locked test set's patients are compared.
    """

    study_id: int
    review_id: int
    label: Label
    pseudonym: Pseudonym
    patient: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A reviewed study that teaches nothing, and why."""

    study_id: int
    why: str


class ReviewedData:
    """What the reviews of an installation can teach.

    Parameters
    ----------
    database
        Holds the reviews.
    folders
        The installation's files.
    pseudonyms
        Names for patients and studies.
    """

    def __init__(self, database: Database, folders: Folders, pseudonyms: Pseudonyms) -> None:
        self._database = database
        self._folders = folders
        self.pseudonyms = pseudonyms

    def collect(self) -> tuple[tuple[ReviewedStudy, ...], tuple[LeftOut, ...]]:
        """List the studies whose last review says something, and the others with the reason."""
        taken: list[ReviewedStudy] = []
        left: list[LeftOut] = []
        with self._database.reading() as session:
            for review in reviews.in_force(session):
                label = Label(review.covid, review.lesions)
                if not label.teaches:
                    left.append(LeftOut(review.study_id, "rejected as unusable"))
                elif not reviews.still_holds(review):
                    left.append(LeftOut(review.study_id, "images came after its review"))
                else:
                    taken.append(self._study(review, label))
        return tuple(taken), tuple(left)

    def export(
        self,
        studies: Sequence[ReviewedStudy],
        folder: Path,
        slices_per_study: int = SLICES_PER_STUDY,
        progress: Callable[[float], None] = lambda _: None,
    ) -> tuple[tuple[ManifestRow, ...], tuple[LeftOut, ...]]:
        """Write studies as folders of slices without anything of the patient.

        Parameters
        ----------
        studies
            Of `collect`.
        folder
            Gets ``<patient>/<study>-<review>`` for each, whole or not at all; what is there
            already is kept.
        slices_per_study
            Most slices of a study; of longer series every n-th slice is taken.
        progress
            Called with the share that is done, 0 to 1.

        Returns
        -------
        tuple of ManifestRow
            One for each study, paths relative to the folder; human labels throughout.
        tuple of LeftOut
            Studies whose images are neither in the spool any more nor in the folder.

        Raises
        ------
        ReviewError
            If the images or the reviewed lesions of a study are not what they were.
        """
        rows: list[ManifestRow] = []
        left: list[LeftOut] = []
        for done, study in enumerate(studies, start=1):
            try:
                rows.append(self._export(study, folder, slices_per_study))
            except ImagesGoneError:
                # An archive that tidied up must not keep the other studies from teaching.
                left.append(LeftOut(study.study_id, "its images are no longer in the spool"))
            progress(done / len(studies))
        return tuple(rows), tuple(left)

    def _study(self, review: Review, label: Label) -> ReviewedStudy:
        study = review.study
        return ReviewedStudy(
            study_id=study.id,
            review_id=review.id,
            label=label,
            pseudonym=self.pseudonyms.of(study.patient_id, study.study_instance_uid),
            patient=patient_fingerprint(study.patient_id) if study.patient_id else "",
        )

    def _export(self, study: ReviewedStudy, folder: Path, most: int) -> ManifestRow:
        name = f"{study.pseudonym.patient}/{study.pseudonym.study}-{study.review_id}"
        images, lesions = folder / name, folder / f"{name}-lesions.dcm"
        mask_known = study.label.lesions is Lesions.DRAWN or (
            # Nobody can say where COVID-19 shows that is there and has no lesion.
            study.label.lesions is Lesions.NONE and study.label.covid is not True
        )
        if not images.is_dir():
            self._write(study, images, lesions if mask_known else None, most)
        return ManifestRow(
            path=name,
            covid=study.label.covid,
            mask=lesions.relative_to(folder).as_posix() if mask_known else "",
            patient=study.pseudonym.patient,
            source=SOURCE,
            label_origin=LabelOrigin.HUMAN,
        )

    def _write(self, study: ReviewedStudy, images: Path, lesions: Path | None, most: int) -> None:
        with self._database.reading() as session:
            review = reviews.get(session, study.review_id)
            series, mask = self._read(session, review)
        step = -(-series.volume.shape[0] // most)
        volume = every_nth_slice(series.volume, step)
        slices = [encode_slice(volume, k, study.pseudonym) for k in range(volume.shape[0])]
        if lesions is not None:
            write_bytes(lesions, encode_lesions(slices, mask[::step], study.pseudonym))
        # The folder gets its name last: where it is, everything of the study is.
        unfinished = images.with_name(f".{images.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for number, data in enumerate(slices, start=1):
            write_bytes(unfinished / f"{number:04d}.dcm", data)
        unfinished.rename(images)

    def _read(self, session: Session, review: Review) -> tuple[CtSeries, NDArray[np.bool_]]:
        """Read the series and its lesions as they were reviewed; no file means no lesion."""
        where = f"study {review.study_id}, review {review.id}"
        try:
            series = screened_series(session, review.screening, self._folders.spool)
            if review.segmentation_path is None:
                return series, np.zeros(series.volume.shape, np.bool_)
            path = self._folders.reviews / review.segmentation_path
            if hashlib.sha256(path.read_bytes()).hexdigest() != review.segmentation_sha256:
                raise ReviewError(f"{where}: {path} is not the segmentation that was reviewed")
            return series, read_corrected_segmentation(path, series).mask
        except OSError as error:
            raise ReviewError(f"{where}: {error.filename}: {error.strerror}") from error
        except (RefusedError, SegmentationError) as error:
            raise ReviewError(f"{where}: {error}") from error


def every_nth_slice(volume: CtVolume, step: int) -> CtVolume:
    """Thin a volume out; lungs are found in it as in one that was reconstructed that coarsely.

    Raises
    ------
    DatasetError
        If fewer than two slices are left.
    """
    if step == 1:
        return volume
    affine = volume.affine.copy()
    affine[:3, 0] *= step
    hounsfield = np.ascontiguousarray(volume.hounsfield[::step])
    if hounsfield.shape[0] < 2:
        raise DatasetError("a study needs at least two slices: allow more slices for each study")
    thickness, *in_plane = volume.spacing_mm
    return CtVolume(hounsfield, (thickness * step, in_plane[0], in_plane[1]), affine)
