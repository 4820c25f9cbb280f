from datetime import UTC, datetime

import pytest
from support.command import lungwatch

from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason, RefusalNote
from dicom_node.receiving.spool import Spool
from worker.db import events, screenings, studies
from worker.db.engine import Database, now
from worker.db.tables import Delivery, Series, Study
from worker.intake.intake import Intake
from worker.lifecycle import DeliveryState, Progress, ScreeningState, StudyState
from worker.settings import load_settings

REPORT = {
    "kind": "sr",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34",
    "sop_instance_uid": "2.25.1",
    "series_instance_uid": "2.25.2",
    "sha256": "0" * 64,
    "path": "1/sr.dcm",
}
RESULT = {
    "notice": "Unverified",
    "model_name": "lungwatch-multitask",
    "model_version": "0.1.0",
    "model_sha256": "ab" * 32,
    "covid_probability": 0.91,
    "operating_point": 0.5,
    "positive": True,
    "screened_slices": [{"index": 0, "sop_instance_uid": "1.2.3.9"}],
    "slice_probabilities": [0.91],
    "lesions": [
        {
            "segment_number": 1,
            "tracking_uid": "1.2.3.4",
            "volume_ml": 12.345,
            "slices": [3, 4, 5],
            "laterality": "left",
            "mean_hu": -512.0,
            "maximum_diameter_mm": 31.0,
            "component_count": 1,
        }
    ],
    "total_lesion_volume_ml": 12.345,
    "lung_volume_ml": 4000.0,
    "lung_involvement_percent": 0.309,
    "objects": [REPORT],
    "timings": {"read": 0.5, "predict": 9.0, "encode": 0.7},
}
REASON_OF = {
    StudyState.RECEIVING: Progress.WAITING_TO_SETTLE,
    StudyState.QUEUED: Progress.WAITING_FOR_WORKER,
    StudyState.SCREENING: Progress.IN_WORK,
    StudyState.DELIVERING: Progress.DESTINATION_UNAVAILABLE,
    StudyState.COMPLETED: Progress.DELIVERED,
    StudyState.REFUSED: Reason.GANTRY_TILT,
    StudyState.IGNORED: Progress.NOTHING_TO_SCREEN,
    StudyState.FAILED: Progress.ATTEMPTS_EXHAUSTED,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data folder whose database holds one study in each state, the completed one with a result."""
    folder = tmp_path_factory.mktemp("installation")
    assert lungwatch("db", "upgrade", data_dir=folder).code == 0
    database = Database(f"sqlite:///{folder / 'lungwatch.db'}")
    with database.transaction() as session:
        for number, state in enumerate(StudyState):
            study = add_study(session, f"1.2.840.{number}", state)
            if state is StudyState.COMPLETED:
                add_result(session, study)
    database.close()
    return folder


def add_study(session, uid, state):
    moment = now(session)
    study = Study(
        study_instance_uid=uid,
        state=state,
        reason=str(REASON_OF[state]),
        detail="detail of [bold]markup[/bold] and \x1b[31mescapes\x9b0m",
        patient_name="Doe^Jane",
        patient_id="4711",
        created_at=moment,
        updated_at=moment,
    )
    session.add(study)
    session.flush()
    events.record(session, "study_added", study, state=state.value)
    return study


def add_result(session, study):
    facts = {"modality": "CT", "instance_count": 60}
    session.add_all(
        [
            Series(study_id=study.id, series_instance_uid="1.1", chosen=True, **facts),
            Series(
                study_id=study.id,
                series_instance_uid="1.2",
                chosen=False,
                reason=Reason.LOCALIZER.value,
                **facts,
            ),
        ]
    )
    screening = screenings.add(session, study, "1.1", "0" * 64)
    screening.state, screening.result = ScreeningState.SUCCEEDED, RESULT
    session.add(
        Delivery(
            screening_id=screening.id,
            **REPORT,
            destination="PACS",
            state=DeliveryState.DELIVERED,
            attempts=2,
            next_attempt_at=now(session),
            delivered_at=now(session),
        )
    )


def of_state(data, state):
    (row,) = lungwatch("studies", "list", "--state", state, "--json", data_dir=data).json
    return row


def test_list_shows_every_state_with_its_reason_in_words(data):
    done = lungwatch("studies", "list", data_dir=data)
    assert done.code == 0
    assert [state for state in StudyState if f" {state} " not in done.stdout] == []
    assert "gantry tilt" in done.stdout
    assert "a destination does not answer; tried again" in done.stdout
    assert "0.91 positive" in done.stdout
    assert "COVID-19 probability, unverified" in done.stdout
    assert "[bold]markup[/bold]" in done.stdout


def test_list_as_json(data):
    rows = lungwatch("studies", "list", "--json", data_dir=data).json
    assert {row["state"] for row in rows} == {state.value for state in StudyState}
    (completed,) = [row for row in rows if row["state"] == "completed"]
    assert completed["covid_probability"] == 0.91
    assert completed["positive"] is True
    assert completed["reason_in_words"] == "results delivered"


@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("show", "1.2.840.4")])
def test_nothing_a_sender_wrote_commands_the_terminal(data, command):
    shown = lungwatch("studies", *command, data_dir=data).stdout
    assert "escapes" in shown
    assert all(char.isprintable() or char == "\n" for char in shown)


def test_list_is_limited_and_says_so(data):
    done = lungwatch("studies", "list", "--limit", 2, data_dir=data)
    assert "--limit" in done.stdout
    assert len(lungwatch("studies", "list", "--limit", 2, "--json", data_dir=data).json) == 2


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("command", [("list",), ("show", "1.2.840.4")])
def test_the_patient_is_named_only_when_asked_for(data, command, form):
    silent = lungwatch("studies", *command, *form, data_dir=data)
    asked = lungwatch("studies", *command, *form, "--patient", data_dir=data)
    assert silent.code == asked.code == 0
    assert "Doe^Jane" not in silent.stdout
    assert "4711" not in silent.stdout
    assert "Doe^Jane" in asked.stdout
    assert "4711" in asked.stdout


def test_show_tells_series_result_deliveries_and_history(data):
    done = lungwatch("studies", "show", "1.2.840.4", data_dir=data)
    assert done.code == 0
    for part in (
        "Result, unverified",
        "Segments, unverified",
        "a localizer",
        "12.35 mL",
        "probability 0.910",
        "PACS",
        "study added",
    ):
        assert part in done.stdout


def test_show_by_id_as_json(data):
    completed = of_state(data, "completed")
    document = lungwatch("studies", "show", completed["id"], "--json", data_dir=data).json
    assert document["study_instance_uid"] == completed["study_instance_uid"]
    assert document["lesions"] == RESULT["lesions"]
    assert [series["reason"] for series in document["series"]] == [None, "localizer"]
    assert document["deliveries"][0]["attempts"] == 2
    assert document["events"][0]["event"] == "study_added"


def test_show_says_what_to_do_about_a_failure(data):
    document = lungwatch("studies", "show", of_state(data, "failed")["id"], "--json", data_dir=data)
    assert "requeue" in document.json["remedy"]


def test_a_study_that_is_not_there(data):
    done = lungwatch("studies", "show", "1.2.3", data_dir=data)
    assert done.code == 5
    assert len(done.stderr.splitlines()) == 1


def test_refusals_at_the_association_are_told_in_words(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    lungwatch("db", "upgrade", data_dir=tmp_path)
    notes = Spool(settings.spool_dir)
    notes.prepare()
    common = {
        "time": datetime.now(UTC),
        "called_ae_title": "LUNGWATCH",
        "peer_address": "192.0.2.7",
        "detail": "refused",
    }
    notes.note_refusal(
        RefusalNote(reason=EdgeReason.CALLING_AE_NOT_ALLOWED, calling_ae_title="STRANGER", **common)
    )
    notes.note_refusal(
        RefusalNote(
            reason=EdgeReason.SOP_CLASS_NOT_SUPPORTED,
            calling_ae_title="PACS",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            transfer_syntax_uids=("1.2.840.10008.1.2.1",),
            **common,
        )
    )
    database = Database(settings.resolved_database_url)
    Intake(database, notes, settle_seconds=1).run_once()
    database.close()
    latest, first = lungwatch("studies", "refusals", "--json", data_dir=tmp_path).json
    assert latest["sop_class"] == "MR Image Storage"
    assert latest["transfer_syntaxes"] == ["Explicit VR Little Endian"]
    assert (first["calling_ae_title"], first["reason"]) == ("STRANGER", "calling_ae_not_allowed")
    shown = lungwatch("studies", "refusals", data_dir=tmp_path).stdout
    for part in ("STRANGER", "192.0.2.7", "not on the list", "MR Image Storage", "Explicit VR"):
        assert part in shown
    assert "LUNGWATCH_ALLOWED_CALLING_AE_TITLES" in shown


def test_requeue_takes_a_failed_study_up_again(tmp_path):
    lungwatch("db", "upgrade", data_dir=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")
    with database.transaction() as session:
        add_study(session, "1.2.3", StudyState.FAILED)
    assert (
        lungwatch("studies", "requeue", "1.2.3", "--json", data_dir=tmp_path).json["state"]
        == StudyState.RECEIVING
    )
    with database.reading() as session:
        study = studies.find(session, "1.2.3")
        assert (study.state, study.reason) == (StudyState.RECEIVING, Progress.REQUEUED)
    database.close()


def test_a_requeued_result_goes_to_the_destinations_that_are_set_now(tmp_path):
    lungwatch("db", "upgrade", data_dir=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")
    with database.transaction() as session:
        add_result(session, add_study(session, "1.2.3", StudyState.COMPLETED))
    destinations = "dimse://PACS@127.0.0.1:104,dimse://NEW@127.0.0.1:104"
    done = lungwatch("studies", "requeue", "1.2.3", data_dir=tmp_path, destinations=destinations)
    assert done.code == 0, done.stderr
    assert "PACS, NEW" in done.stdout
    document = lungwatch("studies", "show", "1.2.3", "--json", data_dir=tmp_path).json
    database.close()
    pending = [each for each in document["deliveries"] if each["state"] == DeliveryState.PENDING]
    assert {each["destination"] for each in pending} == {"PACS", "NEW"}
    assert document["events"][-1]["event"] == "requeued"


def test_a_shell_without_the_services_destinations_requeues_nothing(tmp_path):
    lungwatch("db", "upgrade", data_dir=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")
    with database.transaction() as session:
        add_result(session, add_study(session, "1.2.3", StudyState.COMPLETED))
    done = lungwatch("studies", "requeue", "1.2.3", data_dir=tmp_path)
    assert done.code == 3
    assert "LUNGWATCH_DESTINATIONS" in done.stderr
    assert "PACS" in done.stderr
    with database.reading() as session:
        assert studies.find(session, "1.2.3").state is StudyState.COMPLETED
    database.close()


def test_an_empty_database_is_named_with_the_settings_that_decide(tmp_path):
    done = lungwatch("studies", "list", data_dir=tmp_path)
    assert done.code == 9
    assert list(tmp_path.iterdir()) == []
    for part in (str(tmp_path / "lungwatch.db"), "LUNGWATCH_DATA_DIR", "LUNGWATCH_DATABASE_URL"):
        assert part in done.stderr


def test_a_study_in_work_cannot_be_requeued(data):
    done = lungwatch("studies", "requeue", of_state(data, "screening")["id"], data_dir=data)
    assert done.code == 7
    assert "screening" in done.stderr
