"""A version is promoted while the product runs: the next study has the other device, no restart."""

import io
import json

import pydicom
from support.networks import draw_manifest, write_version

from model.registry import Registry
from worker.lifecycle import StudyState

REASON = "shows that a running worker picks it up"


def send(storescu, system, study):
    study_uid, files = study
    storescu.send(*files, port=system.port, called="LUNGWATCH")
    return study_uid


def screened(system, study_uid):
    """What the study's result says of its model, in the database and in the PACS."""
    assert system.wait_for_state(study_uid).state is StudyState.COMPLETED
    document = system.show(study_uid)
    (report,) = system.results(study_uid)["SR"]
    dataset = pydicom.dcmread(io.BytesIO(system.orthanc.download(report)))
    (device,) = {
        item.UID
        for item in dataset.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121012"
    }
    text = str(dataset)
    return document["model_name"], document["model_version"], device, text


def renamed(study):
    """The same series under new UIDs, as a study of its own."""
    _, files = study
    uid, series = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, series
        dataset.SOPInstanceUID = pydicom.uid.generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    return uid, files


def doctor(system):
    return json.loads(system.run("doctor", "--json").stdout)


def test_a_promoted_version_screens_the_next_study(embedded_system, storescu, study):
    system = embedded_system
    shipped = Registry().get()
    draw_manifest(system.settings.locked_test_set, count=20)
    training = system.settings.locked_test_set.parent.parent / "train" / "train.csv"
    draw_manifest(training, split=None, count=2, patient="l")
    entry = write_version(
        system.settings.model_dir, "1.0.0", trained_on=training, lesion_threshold=0.99
    )
    before = system.pids("worker")
    assert before
    name, version, device, text = screened(system, send(storescu, system, study))
    assert (name, version) == (shipped.manifest.name, shipped.manifest.version)
    assert version in text

    system.run("model", "promote", entry.title, "--override", REASON)
    name, version, other_device, text = screened(system, send(storescu, system, renamed(study)))
    assert (name, version) == ("tiny", "1.0.0")
    assert "tiny" in text
    assert other_device != device
    assert system.pids("worker") == before, "nothing was started again"

    loads = [check for check in doctor(system) if check["part"] == "model pick-up"]
    assert [check["level"] for check in loads] == ["ok"]
    assert entry.title in loads[0]["message"]
    # The other tests of this system go on with the shipped version.
    rolled_back = json.loads(system.run("model", "rollback", "--json").stdout)
    assert rolled_back["title"] == shipped.title
