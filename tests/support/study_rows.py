"""Studies in a database without a PACS: the shortest way to each state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dicom_node.reading.header import InstanceHeader
from worker.db import events, screenings, studies
from worker.db.engine import now
from worker.db.tables import Delivery
from worker.lifecycle import DeliveryState, Progress, StudyEvent

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from worker.db.tables import Screening, Study


def ct_header(study_uid: str = "1.2.3", number: int = 1) -> InstanceHeader:
    """Header of one CT instance."""
    return InstanceHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"{study_uid}.4.{number}",
        study_instance_uid=study_uid,
        series_instance_uid=f"{study_uid}.4",
        modality="CT",
        content_sha256=f"{number:064x}",
    )


def receiving_study(session: Session, study_uid: str = "1.2.3") -> Study:
    """A study of which CT has come and settled."""
    study = studies.find_or_add(session, ct_header(study_uid))
    studies.ct_received(session, study, settle_seconds=-1)
    session.flush()
    return study


def queued_screening(session: Session, study_uid: str = "1.2.3") -> Screening:
    """The queued screening of a new study."""
    study = receiving_study(session, study_uid)
    screening = screenings.add(session, study, f"{study_uid}.4", "digest")
    events.move(session, study, StudyEvent.SERIES_CHOSEN, Progress.WAITING_FOR_WORKER)
    return screening


def screened_study(
    session: Session, study_uid: str = "1.2.3", destination: str = "pacs"
) -> Screening:
    """A screened study with a SEG and a report in the outbox."""
    screening = queued_screening(session, study_uid)
    claim = screenings.claim(session, screening.id, "here", 60)
    assert claim is not None
    screenings.finish(session, claim)
    for kind in ("seg", "sr"):
        screening.deliveries.append(
            Delivery(
                destination=destination,
                kind=kind,
                sop_class_uid="1.2",
                sop_instance_uid=f"{study_uid}.{kind == 'sr':d}",
                series_instance_uid="1.5",
                path=f"/nowhere/{kind}.dcm",
                sha256="0" * 64,
                state=DeliveryState.PENDING,
                next_attempt_at=now(session) - timedelta(seconds=1),
            )
        )
    session.flush()
    events.follow(session, screening, StudyEvent.SCREENED, Progress.WAITING_FOR_DESTINATION)
    return screening
