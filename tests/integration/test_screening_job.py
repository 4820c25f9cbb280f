"""Screening jobs and their results in a PACS: once with the shipped network, else a quick one."""

import threading

import pydicom
import pytest
from support.installation import Installation
from support.services import require
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor

from worker import bootstrap, dispatch
from worker.db import screenings, studies
from worker.db.tables import Screening
from worker.embedded.process import ServiceProcess, free_ports
from worker.lifecycle import DeliveryState, ScreeningState, StudyState
from worker.screening.janitor import ResultJanitor
from worker.settings import load_settings


@pytest.fixture
def predictor():
    return StatedPredictor()


@pytest.fixture
def series_files(tmp_path):
    return write_small_ct(tmp_path / "ct")


@pytest.fixture
def pacs(tmp_path):
    """DCMTK's storescp, and the folder it stores to."""
    folder = tmp_path / "pacs"
    folder.mkdir()
    (port,) = free_ports(1)
    service = ServiceProcess("storescp", tmp_path / "storescp.log")
    program = require("storescp", "dcmtk")
    service.start([program, "-od", folder, "-aet", "PACS", str(port)], lambda: True)
    yield folder, f"dimse://PACS@127.0.0.1:{port}"
    service.stop()


def stored(folder) -> dict[str, bytes]:
    objects = {}
    for path in folder.iterdir():
        objects[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = (
            path.read_bytes()
        )
    return objects


def by_position(paths):
    return sorted(
        paths, key=lambda p: pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[2]
    )


def test_a_real_series_becomes_objects_in_the_pacs_and_the_same_bytes_again(
    tmp_path, pacs, data_dir
):
    folder, url = pacs
    installation = Installation(tmp_path / "data", destinations=url)
    predictor = bootstrap.load_predictor(load_settings())
    installation.receive(sorted((data_dir / "series" / "lung_dx-A0001-s3").glob("*.dcm")))
    installation.screen(predictor)
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.DELIVERING, "waiting_for_destination")
    installation.deliver()
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.COMPLETED, "delivered")
    (screening,) = study.screenings
    assert {d.sop_instance_uid for d in screening.deliveries} == set(stored(folder))
    result = screening.result
    assert len(result["lesions"]) == len(screening.findings)
    assert ("seg" in {d.kind for d in screening.deliveries}) == bool(result["lesions"])
    assert set(result["timings"]) >= {"read", "lungs", "network", "lesions", "encode", "store"}
    assert min(result["timings"][stage] for stage in ("read", "network", "encode")) > 0.05
    assert result["model_sha256"] == predictor.model_version.sha256
    assert len(result["slice_probabilities"]) == len(result["screened_slices"]) > 0
    assert 0 < result["lung_volume_ml"] < 10_000

    before = stored(folder)
    with installation.database.transaction() as session:
        studies.requeue(session, studies.find(session, "1"), ["PACS"], rescreen=True)
    installation.assembler.run_once()
    installation.screen(predictor)
    installation.deliver()
    study = installation.study()
    assert study.state is StudyState.COMPLETED
    assert [s.state for s in study.screenings] == [
        ScreeningState.SUPERSEDED,
        ScreeningState.SUCCEEDED,
    ]
    assert stored(folder) == before


def test_results_go_to_two_destinations_one_of_them_dicomweb(
    tmp_path, pacs, orthanc, predictor, series_files
):
    folder, url = pacs
    web = f"stow+{orthanc.dicomweb_url}#web"
    installation = Installation(tmp_path / "data", destinations=f"{url},{web}", **SMALL)
    installation.receive(series_files)
    installation.screen(predictor)
    installation.deliver()
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.COMPLETED, "delivered")
    deliveries = study.screenings[0].deliveries
    assert {d.destination for d in deliveries} == {"PACS", "web"}
    held = {
        orthanc.get(f"/instances/{i}")["MainDicomTags"]["SOPInstanceUID"]
        for i in orthanc.instances()
    }
    assert held == set(stored(folder)) == {d.sop_instance_uid for d in deliveries}


def test_a_late_slice_supersedes_the_report(tmp_path, pacs, predictor, series_files):
    folder, url = pacs
    few = {"minimum_slices": 11, "minimum_coverage_mm": 50}
    installation = Installation(tmp_path / "data", destinations=url, **few)
    # The last slice of the stack is late: without an inner one the series would be refused.
    *early, late = by_position(series_files)
    installation.receive(early)
    installation.screen(predictor)
    installation.deliver()
    installation.receive([late])
    installation.screen(predictor)
    installation.deliver()
    first, second = installation.study().screenings
    report_uids = [
        next(d.sop_instance_uid for d in s.deliveries if d.kind == "sr") for s in (first, second)
    ]
    reports = {
        str(dataset.SOPInstanceUID): dataset
        for dataset in map(pydicom.dcmread, folder.iterdir())
        if dataset.Modality == "SR"
    }
    assert set(reports) == set(report_uids)
    named = reports[report_uids[1]].PredecessorDocumentsSequence[0]
    reference = named.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == report_uids[0]


def test_results_that_take_turns_are_the_same_each_time(tmp_path, storing_pacs):
    """As where a version is promoted, rolled back and promoted again; the report as well."""
    url = f"dimse://PACS@127.0.0.1:{storing_pacs}?commitment=none"
    site = Installation(tmp_path / "data", destinations=url, **SMALL)
    site.receive(write_small_ct(tmp_path / "ct"))
    one, other = StatedPredictor(), StatedPredictor(probability=0.2)
    given = []
    for predictor in (one, other, one, other):
        site.assembler.run_once()
        site.screen(predictor)
        site.deliver()
        objects = site.study().screenings[-1].result["objects"]
        given.append([(entry["sop_instance_uid"], entry["sha256"]) for entry in objects])
        with site.database.transaction() as session:
            studies.requeue(session, studies.find(session, "1"), ["PACS"], rescreen=True)
    assert given[0] != given[1]
    assert given[2:] == given[:2]


def test_a_pacs_that_is_away_is_waited_for(tmp_path, predictor, series_files):
    (port,) = free_ports(1)
    installation = Installation(
        tmp_path / "data",
        destinations=f"dimse://PACS@127.0.0.1:{port}",
        delivery_lease_seconds=1,
        **SMALL,
    )
    installation.receive(series_files)
    installation.screen(predictor)
    ((_, round_),) = dispatch.deliverer(installation.settings, installation.database).rounds()
    assert round_() > 0
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.DELIVERING, "destination_unavailable")
    assert {d.state for d in study.screenings[0].deliveries} == {DeliveryState.PENDING}
    assert "PACS" in study.detail


def test_pixels_spoilt_on_disk_refuse_the_study(tmp_path, predictor, data_dir):
    installation = Installation(tmp_path / "data")
    compressed = by_position((data_dir / "series" / "covidctmd-P001").glob("*.dcm"))
    installation.receive(compressed[:70])
    study = installation.study()
    assert study.state is StudyState.QUEUED
    with installation.database.reading() as session:
        uid = study.screenings[0].series_instance_uid
        first = studies.series_instances(session, study.id, uid)[0]
        path = installation.spool.root / first.path
    content = path.read_bytes()
    start_of_scan = content.index(b"\xff\xda")
    path.write_bytes(content[:start_of_scan] + bytes(len(content) - start_of_scan))
    installation.screen(predictor)
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.REFUSED, "spool_damaged")


def test_a_disk_in_trouble_gets_more_patience_than_a_study(tmp_path, predictor, series_files):
    installation = Installation(tmp_path / "data", maximum_attempts=1, **SMALL)
    installation.receive(series_files)
    (folder,) = (installation.settings.spool_dir / "studies").iterdir()
    away = folder.rename(folder.with_suffix(".gone"))
    installation.screen(predictor)
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.QUEUED, "worker_lost")
    assert "FileNotFoundError" in study.detail
    away.rename(folder)
    installation.screen(predictor)
    assert installation.study().state is StudyState.COMPLETED


def test_a_database_in_trouble_gets_as_much(
    tmp_path, predictor, series_files, postgresql_server, postgresql_url
):
    """It goes away before the result is recorded, and is not there yet as the attempt is ended."""
    installation = Installation(
        tmp_path / "data", maximum_attempts=1, database_url=postgresql_url, **SMALL
    )
    installation.receive(series_files)
    back = threading.Timer(3, postgresql_server.start)

    class Unlucky:
        """A predictor whose database stops while it works."""

        model_version = predictor.model_version
        pipeline_digest = staticmethod(predictor.pipeline_digest)

        def predict(self, volume, progress):
            prediction = predictor.predict(volume, progress)
            postgresql_server.stop()
            back.start()
            return prediction

    try:
        installation.screen(Unlucky())
    finally:
        back.join()
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.QUEUED, "worker_lost")
    assert study.screenings[0].excused_attempts == 1
    installation.screen(predictor)
    assert installation.study().state is StudyState.COMPLETED


@pytest.mark.parametrize("error", [ValueError, MemoryError])
def test_a_study_that_cannot_be_screened_fails_after_its_attempts(
    tmp_path, predictor, series_files, error
):
    installation = Installation(tmp_path / "data", **SMALL)
    installation.receive(series_files)

    class Broken:
        """A predictor with a defect that shows on this study."""

        model_version = predictor.model_version
        pipeline_digest = staticmethod(predictor.pipeline_digest)

        def predict(self, volume, progress):
            raise error("DOE^JANE")

    for _ in range(3):
        assert installation.study().state is StudyState.QUEUED
        installation.screen(Broken())
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "attempts_exhausted")
    assert study.screenings[0].attempts == 3
    assert error.__name__ in study.detail
    assert "DOE" not in study.detail


class Slow:
    """A predictor during whose work something happens."""

    def __init__(self, predictor, happens):
        self._predictor, self._happens = predictor, happens
        self.model_version = predictor.model_version
        self.pipeline_digest = predictor.pipeline_digest

    def predict(self, volume, progress):
        self._happens()
        return self._predictor.predict(volume, progress)


def test_a_worker_that_lost_its_lease_records_nothing(tmp_path, predictor, series_files):
    installation = Installation(tmp_path / "data", **SMALL)
    installation.receive(series_files)

    def another_worker_claims() -> None:
        with installation.database.transaction() as session:
            screening = session.query(Screening).one()
            screenings.release(session, screening, "lost", maximum_attempts=9)
            screenings.claim(session, screening.id, "other", 60)

    installation.screen(Slow(predictor, another_worker_claims))
    (screening,) = installation.study().screenings
    assert (screening.state, screening.claimed_by) == (ScreeningState.RUNNING, "other")
    assert screening.result is None
    assert screening.deliveries == []


def test_a_worker_whose_screening_failed_meanwhile_leaves_no_files(
    tmp_path, predictor, series_files
):
    installation = Installation(tmp_path / "data", **SMALL)
    installation.receive(series_files)
    results_dir = installation.settings.results_dir

    def the_last_attempt_is_lost() -> None:
        with installation.database.transaction() as session:
            screening = session.query(Screening).one()
            screenings.release(session, screening, "lost", maximum_attempts=1)
        ResultJanitor(installation.database, results_dir).run_once()

    installation.screen(Slow(predictor, the_last_attempt_is_lost))
    assert installation.study().state is StudyState.FAILED
    assert [path for path in results_dir.rglob("*") if path.is_file()] == []


def test_without_destinations_a_screened_study_is_complete(tmp_path, predictor, series_files):
    installation = Installation(tmp_path / "data", **SMALL)
    installation.receive(series_files)
    installation.screen(predictor)
    study = installation.study()
    assert (study.state, study.reason) == (StudyState.COMPLETED, "no_destination")
