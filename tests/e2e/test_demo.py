import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread
from support.command import environment, lungwatch
from support.services import require

from worker.demo.demo import run_demo
from worker.demo.pacs import FolderPacs
from worker.demo.phantom_study import PATIENT_ID, write_phantom_study
from worker.embedded.orthanc import find_orthanc
from worker.screening.result_files import KINDS


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder in arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            words = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words and int(process.name) != os.getpid():
            found.append(command.replace(b"\0", b" ").decode())
    return found


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Folder that takes the demonstration's temporary files, and shows whose children are left."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_the_phantom_comes_back_from_the_pacs(work, tmp_path):
    if find_orthanc() is None:
        require("Orthanc", "orthanc orthanc-dicomweb")
    out = tmp_path / "out"
    done = lungwatch("demo", "--out", out, "--json", timeout=600, data_dir="/proc/never")
    assert done.code == 0, done.stderr
    document = done.json
    assert document == json.loads((out / "result.json").read_text())
    assert document["synthetic"] is True
    assert document["pacs"] == "Orthanc"
    assert (document["state"], document["reason"]) == ("completed", "delivered")
    expected = {"sr", "summary"} | ({"seg"} if document["lesions"] else set())
    assert {entry["kind"] for entry in document["objects"]} == expected
    for entry in document["objects"]:
        dataset = dcmread(out / f"{entry['kind']}.dcm")
        assert dataset.SOPInstanceUID == entry["sop_instance_uid"]
        assert dataset.StudyInstanceUID == document["study_instance_uid"]
        assert dataset.PatientID == PATIENT_ID
    assert dcmread(out / "sr.dcm").VerificationFlag == "UNVERIFIED"
    Image.open(out / "overlay.png").verify()
    assert processes_of(work) == []
    assert list(work.iterdir()) == []


def test_without_orthanc_a_storage_scp_takes_its_place(work, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = tmp_path / "study"
    study.mkdir()
    for path in write_phantom_study(tmp_path / "phantom")[15:41]:
        shutil.copy(path, study)
    stages = []
    outcome = run_demo(
        study,
        work,
        lambda stage, _done: stages.append(stage),
        lambda folder, _title, _port: FolderPacs(folder),
    )
    assert processes_of(work) == []
    assert outcome.missing == ()
    assert outcome.document["state"] == "completed"
    assert "screening: in work" in stages
    same = lungwatch("screen", study, "--out", tmp_path / "screened", "--json").json
    assert uids(outcome.document) == uids(same)
    assert outcome.document["covid_probability"] == same["covid_probability"]
    for kind, data in outcome.objects.items():
        assert kind in KINDS
        assert dcmread(tmp_path / "screened" / f"{kind}.dcm").SOPInstanceUID.encode() in data


def uids(document):
    return [(entry["kind"], entry["sop_instance_uid"]) for entry in document["objects"]]


def test_a_refused_study_tells_its_reason(work, tmp_path, data_dir):
    head = data_dir / "odd" / "head-philips"
    done = lungwatch("demo", "--study", head, "--out", tmp_path / "out", timeout=600)
    assert done.code == 4, done.stderr
    assert "refused: not a chest" in done.stdout
    assert "(not_chest)" in done.stdout
    assert "SYNTHETIC" not in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_finds_every_child_ended(work, tmp_path, number):
    command = [sys.executable, "-m", "worker.cli.main", "demo", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, env=environment({}), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(process, "sending the study")
        assert len(processes_of(work)) > 2
        process.send_signal(number)
        wait_for(process, "Stopping")
        process.send_signal(number)
        process.communicate(timeout=240)
        assert process.returncode == 130
    assert processes_of(work) == []
    assert list(work.iterdir()) == []


def wait_for(process, stage):
    deadline = time.monotonic() + 300
    for line in process.stderr:
        if line.startswith(stage):
            return
        assert time.monotonic() < deadline
    pytest.fail(f"the demonstration ended before {stage}")
