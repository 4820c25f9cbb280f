"""A folder of DICOM files screened in place: no network, no database."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dicom_node.errors import RefusedError
from dicom_node.objects.provenance import ResultContext
from dicom_node.reading.assembly import group_by_series
from dicom_node.reading.reader import read_ct_series, read_headers
from dicom_node.reading.series import select_series
from dicom_node.reasons import Reason
from worker import bootstrap
from worker.errors import FolderError
from worker.lifecycle import Progress as StudyProgress
from worker.lifecycle import StudyState
from worker.screening.result import result_document
from worker.screening.screening import screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_node.objects.provenance import ResultIdentity
    from dicom_node.reading.reader import FolderContent
    from dicom_node.reading.series import StudySelection
    from model.prediction import ModelVersion
    from worker.screening.screening import Outcome
    from worker.settings import Settings

    Progress = Callable[[str, float], None]


class FolderScreening:
    """The way of one folder: what it holds, which series is chosen, what was found.

    Parameters
    ----------
    folder
        Folder of DICOM files, with its subfolders.
    settings
        The installation; spool, database, broker and destinations are not used.

    Attributes
    ----------
    content, selection, outcome
        What each step found, None before it.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self.content: FolderContent | None = None
        self.selection: StudySelection | None = None
        self.outcome: Outcome | None = None

    def run(self, progress: Progress | None = None) -> Outcome:
        """Read, choose and screen.

        Parameters
        ----------
        progress
            Told the stage and its finished share, 0 to 1.

        Raises
        ------
        RefusedError
            If nothing in the folder can be screened; `selection` then says why, by series.
        FolderError
            If the folder is empty, or holds several studies.
        """
        report = progress or (lambda _stage, _share: None)
        self.content = read_headers([self._folder], lambda share: report("headers", share))
        headers = [header for _, header in self.content.instances]
        if not headers:
            raise self._nothing_readable(self.content)
        studies = {header.study_instance_uid for header in headers}
        if len(studies) > 1:
            raise FolderError(
                f"{self._folder} holds {len(studies)} studies; give the folder of one"
            )
        self.selection = select_series(headers, bootstrap.selection_policy(self._settings))
        if self.selection.chosen is None:
            raise RefusedError(self.selection.reason or Reason.NOT_CT, self.selection.detail)
        chosen = self.selection.chosen
        paths = [
            path for path, header in self.content.instances if header.series_instance_uid == chosen
        ]
        predictor = bootstrap.load_predictor(self._settings)
        self.outcome = screen(
            lambda tell: read_ct_series(paths, chosen, progress=tell),
            predictor,
            partial(self._context, predictor.model_version),
            report,
        )
        return self.outcome

    def document(self, refusal: RefusedError | None = None) -> dict[str, Any]:
        """Describe the end of the run, as ``result.json`` holds it."""
        if self.outcome is not None:
            return {
                **result_document(self.outcome),
                "state": StudyState.COMPLETED.value,
                "reason": StudyProgress.NO_DESTINATION.value,
                **self._decisions(),
            }
        return {
            "state": StudyState.REFUSED.value,
            "reason": refusal.reason.value if refusal else "",
            "detail": refusal.detail if refusal else "",
            **self._decisions(),
        }

    def _decisions(self) -> dict[str, Any]:
        headers = [header for _, header in self.content.instances] if self.content else []
        first = {uid: group[0] for uid, group in group_by_series(headers).items()}
        decisions = self.selection.decisions if self.selection else ()
        refused = self.content.refused if self.content else ()
        return {
            "series": [
                {
                    "series_instance_uid": decision.series_instance_uid,
                    "modality": first[decision.series_instance_uid].modality,
                    "instance_count": decision.instance_count,
                    "chosen": decision.reason is None,
                    "reason": decision.reason.value if decision.reason else None,
                    "detail": decision.detail,
                }
                for decision in decisions
            ],
            "refused_files": [
                {"file": file.path.name, "reason": file.reason.value, "detail": file.detail}
                for file in refused
            ],
        }

    def _nothing_readable(self, content: FolderContent) -> Exception:
        if content.refused:
            first = content.refused[0]
            return RefusedError(first.reason, f"{first.path.name}: {first.detail}")
        return FolderError(f"{self._folder} holds no DICOM files")

    def _context(self, model: ModelVersion, identity: ResultIdentity) -> ResultContext:
        settings = self._settings
        return ResultContext(
            identity=identity,
            model=model,
            created_at=datetime.now(ZoneInfo(settings.timezone)),
            equipment=bootstrap.equipment(settings),
            uid_root=settings.uid_root,
        )
