"""A slice that comes late makes a new revision, whose report names the one it supersedes."""

import io

import pydicom
from support.system import wait_until

from worker.lifecycle import StudyState


def test_a_late_slice_supersedes_the_report_in_the_pacs(embedded_system, study, storescu):
    system = embedded_system
    study_uid, files = study
    # An inner slice may not be late: without it the series is refused for its gap.
    by_position = sorted(
        files, key=lambda p: pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[2]
    )
    *early, late = by_position
    storescu.send(*early, port=system.port, called="LUNGWATCH")
    assert system.wait_for_state(study_uid).state is StudyState.COMPLETED
    first = reports(system, study_uid)
    assert len(first) == 1

    storescu.send(late, port=system.port, called="LUNGWATCH")
    wait_until(
        "the second revision",
        lambda: (
            system.progress(study_uid).revision == 2
            and system.progress(study_uid).state is StudyState.COMPLETED
        ),
    )
    both = reports(system, study_uid)
    assert set(both) > set(first)
    (new_uid,) = set(both) - set(first)
    (predecessor,) = both[new_uid].PredecessorDocumentsSequence
    reference = predecessor.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert {str(reference.ReferencedSOPInstanceUID)} == set(first)


def reports(system, study_uid):
    found = (
        pydicom.dcmread(io.BytesIO(system.orthanc.download(identifier)))
        for identifier in system.results(study_uid)["SR"]
    )
    return {str(report.SOPInstanceUID): report for report in found}
