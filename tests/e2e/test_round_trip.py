"""A real study sent to a real PACS comes back there as SEG, report and summary image, once."""

import io
import time

import pydicom
import pytest
from support.system import System, wait_until

from worker.lifecycle import StudyState

SERIES = ("lung_dx-A0001-s3", "lidc-idri-0001", "covidctmd-P001")


@pytest.fixture(scope="module", params=["embedded", "production"])
def system(request, tmp_path_factory):
    if request.param == "embedded":
        yield request.getfixturevalue("embedded_system")
        return
    redis = request.getfixturevalue("redis_server")
    database_url = request.getfixturevalue("postgresql_server").create_database()
    with System(
        tmp_path_factory.mktemp("production"),
        ("node", "worker"),
        broker_url=redis.empty(),
        database_url=database_url,
    ) as system:
        yield system


def stored(system, identifiers):
    return [pydicom.dcmread(io.BytesIO(system.orthanc.download(i))) for i in identifiers]


# What the series are made of is nothing to broker and database: with those of production, one.
@pytest.mark.parametrize(
    ("system", "series"),
    [*(("embedded", series) for series in SERIES), ("production", SERIES[0])],
    indirect=["system"],
    scope="module",
)
def test_a_study_comes_back_with_its_results(system, storescu, data_dir, series):
    files = sorted((data_dir / "series" / series).glob("*.dcm"))
    study_uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    send(storescu, system, files)
    reached = system.wait_for_state(study_uid)
    document = system.show(study_uid)
    assert reached.state is StudyState.COMPLETED, document
    check_results_in_the_pacs(system, study_uid, document)

    check_nothing_comes_twice(system, study_uid, files, document)
    send(storescu, system, files)
    send_straight_to_the_node(storescu, system, files)
    check_nothing_comes_twice(system, study_uid, files, document)


def send(storescu, system, files):
    storescu.send(*files, port=system.orthanc.dicom_port, called="ORTHANC")


def send_straight_to_the_node(storescu, system, files):
    uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    before = system.progress(uid).duplicates
    storescu.send(*files, port=system.port, called="LUNGWATCH")
    wait_until(
        "the second sending in the database",
        lambda: system.progress(uid).duplicates >= before + len(files),
    )


def check_results_in_the_pacs(system, study_uid, document):
    results = system.results(study_uid)
    assert len(results["SR"]) == 1
    assert len(results["OT"]) == 1
    assert len(results["SEG"]) == (1 if document["lesions"] else 0)
    announced = {entry["sop_instance_uid"] for entry in document["objects"]}
    found = stored(system, [i for identifiers in results.values() for i in identifiers])
    assert {str(dataset.SOPInstanceUID) for dataset in found} == announced
    assert document["lung_volume_ml"] > 1000
    assert len(document["slice_probabilities"]) == len(document["screened_slices"])
    if results["SEG"]:
        (segmentation,) = stored(system, results["SEG"])
        assert len(segmentation.SegmentSequence) == len(document["lesions"])


def check_nothing_comes_twice(system, study_uid, files, document):
    """Our results are routed back to us by the PACS, recognised, and nothing else happens."""
    expected = len(document["objects"])
    wait_until(
        "our results to come back",
        lambda: system.progress(study_uid).own_results == expected,
    )
    # One more round of the PACS's settling and ours would show a loop.
    time.sleep(6)
    after = system.progress(study_uid)
    assert (after.state, after.revision) == (StudyState.COMPLETED, 1)
    assert after.instances == len(files) + expected
    assert sum(map(len, system.results(study_uid).values())) == expected
