"""What the processes give up is in the audit trail: results refused, screenings failed for good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import SegmentationStorage
from support.audit_lines import lines, the_only
from support.installation import Installation
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor
from support.study_rows import queued_screening, screened_study

from dicom_node.config import DimseDestination
from worker.audit_entry import AuditAction, AuditOutcome
from worker.db import screenings
from worker.delivery.outbox import Deliverer, RetryPolicy
from worker.lifecycle import ScreeningState, StudyState
from worker.screening.sweeper import Broker, Sweeper

if TYPE_CHECKING:
    from pathlib import Path

    from pynetdicom import evt


SERIOUS = AuditOutcome.SERIOUS_FAILURE
# Must not be found in the trail.
NAME = "DOE^JANE"


def _site(folder: Path, predictor: StatedPredictor, **settings: object) -> Installation:
    site = Installation(folder / "data", **SMALL, **settings)
    site.receive(write_small_ct(folder / "ct"))
    site.screen(predictor)
    return site


def test_results_a_destination_refuses_have_a_line_beside_the_one_of_those_it_takes(
    tmp_path, start_pacs
):
    """PS3.15 section A.5.2: no message with mixed results."""

    def answer(event: evt.Event) -> int:
        seg = event.request.AffectedSOPClassUID == SegmentationStorage
        return 0x0000 if seg else 0xA900

    url = f"dimse://PACS@127.0.0.1:{start_pacs(answer)}?commitment=none"
    site = _site(tmp_path, StatedPredictor(), destinations=url)
    site.deliver()
    study = site.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "delivery_refused")
    sent = [line for line in lines(site.database) if line.action is AuditAction.RESULT_SENT]
    by_outcome = {line.outcome: line for line in sent}
    assert len(by_outcome) == len(sent) == 2
    assert {line.study_instance_uid for line in sent} == {study.study_instance_uid}
    assert set(by_outcome[AuditOutcome.SUCCESS].detail["sop_classes"]) == {SegmentationStorage}
    refused = by_outcome[SERIOUS].detail
    assert SegmentationStorage not in refused["sop_classes"]
    assert (refused["destination"], refused["error"]) == ("PACS", "refused_by_destination")


@pytest.mark.parametrize("why", ["destination_not_set", "result_damaged"])
def test_results_that_cannot_be_sent_have_a_line(database, tmp_path, why):
    with database.transaction() as session:
        for delivery in screened_study(session).deliveries:
            delivery.path = f"{delivery.kind}.dcm"
            (tmp_path / delivery.path).write_bytes(b"not what was recorded")
    pacs = DimseDestination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=1, calling_ae_title="NODE"
    )
    known = [] if why == "destination_not_set" else [pacs]
    deliverer = Deliverer(database, tmp_path, known, RetryPolicy(1, 1, 600))
    deliverer.take_over()
    for _, round_ in deliverer.rounds():
        assert round_() == 2
    line = the_only(database)
    assert (line.action, line.outcome) == (AuditAction.RESULT_SENT, SERIOUS)
    assert line.study_instance_uid == "1.2.3"
    assert line.detail == {"destination": "pacs", "sop_classes": {"1.2": 2}, "error": why}


def test_a_screening_whose_workers_are_lost_fails_with_a_line(database):
    with database.transaction() as session:
        screening_id = queued_screening(session).id
    broker = Broker(lambda _: None, lambda: False, lambda: None, lambda: 0)
    sweeper = Sweeper(database, broker, maximum_attempts=2, republish_seconds=60)
    for attempts in (1, 2):
        with database.transaction() as session:
            screening = screenings.get(session, screening_id)
            screening.not_before = None
            session.flush()
            assert screenings.claim(session, screening_id, "worker", -1)
        assert len(lines(database)) == 0, "the next attempt may succeed"
        sweeper.run_once()
        assert len(lines(database)) == (attempts == 2)
    line = the_only(database)
    assert (line.action, line.outcome) == (AuditAction.STUDY_SCREENED, SERIOUS)
    assert (line.study_instance_uid, line.actor) == ("1.2.3", "lungwatch node")
    assert (line.detail["error"], line.detail["attempt"]) == ("worker_lost", 2)


class Broken(StatedPredictor):
    """A network with a defect that shows on this study."""

    def predict(self, volume, progress):
        raise ValueError(NAME)


def test_a_screening_that_fails_for_good_has_a_line_with_the_kind_of_error(tmp_path):
    installation = _site(tmp_path, Broken(), maximum_attempts=1)
    study = installation.study()
    assert study.screenings[0].state is ScreeningState.FAILED
    line = lines(installation.database)[-1]
    assert (line.action, line.outcome) == (AuditAction.STUDY_SCREENED, SERIOUS)
    assert (line.study_instance_uid, line.detail["error"]) == (
        study.study_instance_uid,
        "ValueError",
    )
    assert NAME not in json.dumps(line.detail)
