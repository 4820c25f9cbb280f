"""Promotions with real networks on a drawn test set: the gate, its override, and the way back."""

import dataclasses
import json
import shutil
from contextlib import closing

import numpy as np
import pytest
from support.networks import draw_manifest, write_version
from typer.testing import CliRunner

from model.config import NetworkConfig, Task
from model.data.dataset import load_samples
from model.errors import ModelIntegrityError, RegistryError
from model.evaluation.metrics import roc_auc
from model.evaluation.slice_model import run_slices
from model.evaluation.subject import subject_of_version
from model.files import file_sha256
from model.pooling import Calibration
from model.registry import (
    MANIFEST_FILE,
    TRAINING_DATA_FILE,
    WEIGHTS_FILE,
    Registry,
    read_entry,
)
from worker import bootstrap
from worker.audit_entry import AuditAction, AuditOutcome
from worker.cli.exit_codes import ExitCode, exit_code_of
from worker.cli.models import models_app
from worker.db import audit, model_versions, schema
from worker.db.engine import Database
from worker.db.tables import Promotion
from worker.errors import PromotionError
from worker.lifecycle import ModelState, PromotionAction
from worker.settings import load_settings
from worker.versions.gate import PromotionRefusedError, PromotionRules
from worker.versions.locked_test_set import open_test_set
from worker.versions.promotion import Promotions, operating_system_user


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A test set and a training set of other people."""
    root = tmp_path_factory.mktemp("data")
    test = draw_manifest(root / "test" / "test.csv", count=25, patient="t")
    return test, draw_manifest(root / "train" / "train.csv", split=None, count=6, patient="l")


@pytest.fixture(scope="module")
def versions(data, tmp_path_factory):
    """Versions of one network that orders figures rightly, and wrongly, by its calibration."""
    root = tmp_path_factory.mktemp("versions")
    test, train = data
    probe = write_version(root / "probe", "0.0.0")
    samples = load_samples(test, 32)
    raw = run_slices(subject_of_version(probe).slice_model(), samples, 0.5).probability
    covid = np.array([sample.covid for sample in samples])
    logit = np.log(raw / (1 - raw)).astype(float)
    right = 1.0 if roc_auc(covid, raw) > 0.5 else -1.0
    assert roc_auc(covid, right * raw) > 0.8, "no network to tell good from bad with"
    middle = right * (logit[covid].mean() + logit[~covid].mean()) / 2

    def calibration(sign):
        return Calibration(200.0 * sign * right, -200.0 * sign * middle)

    def write(folder, version, sign, trained_on=None):
        write_version(
            folder,
            version,
            weights=probe.folder / WEIGHTS_FILE,
            calibration=calibration(sign),
            trained_on=trained_on,
        )

    site, shipped = root / "site", root / "shipped"
    write(shipped, "1.0.0", -1, train)
    write(site, "2.0.0", 1, train)
    write(site, "3.0.0", -1, train)
    write(site, "4.0.0", 1)
    write(site, "5.0.0", 1, test_as_training(test))
    classifier = dataclasses.replace(
        NetworkConfig(32, 2), tasks=(Task.CLASSIFICATION,), classifier_filters=4
    )
    write_version(site, "6.0.0", network=classifier, trained_on=train)
    return site, shipped


def test_as_training(test):
    """List the test images as if somebody had trained on them."""
    path = test.with_name("misused.csv")
    path.write_text(test.read_text().replace(",test", ",train"))
    return path


test_as_training.__test__ = False


def copied(site, folder):
    """Write another version with the weights of one that is there."""
    weights = site.registry.get("tiny-1.0.0").folder / WEIGHTS_FILE
    return write_version(folder, "9.0.0", weights=weights)


class Site:
    """An installation's promotions on a database of its own."""

    def __init__(self, folder, versions, test):
        self.settings = load_settings(data_dir=folder, locked_test_set=test, model_dir=versions[0])
        url = self.settings.resolved_database_url
        with closing(Database(url)) as database:
            schema.upgrade(database.engine)
        self.database = Database(url)
        self.registry = Registry([versions[0]], shipped=versions[1])
        self.stages = []

    def promotions(self, **rules):
        own = bootstrap.promotions(self.settings, self.database)
        given = {"pin": None, "locked_test_set": self.settings.locked_test_set, **rules}
        return Promotions(self.database, self.registry, PromotionRules(**given), own._gate)

    def promote(self, which, override="", **rules):
        return self.promotions(**rules).promote(which, self.report, override)

    def report(self, stage, share=None):
        self.stages.append(stage)

    def history(self):
        with self.database.reading() as session:
            return [
                (step.action, step.model_version.version, step.previous.version)
                for step in model_versions.history(session)
            ]

    def states(self):
        return {each.title: each.state for each in self.promotions().standings()}


@pytest.fixture
def site(tmp_path, versions, data):
    site = Site(tmp_path, versions, data[0])
    yield site
    site.database.close()


def test_a_better_version_is_promoted_a_worse_one_is_not_and_both_go_back(site):
    assert site.states()["tiny-1.0.0"] is ModelState.CURRENT, "the newest shipped, before all else"
    promoted = site.promote("tiny-2.0.0")
    assert (promoted.number, promoted.title, promoted.previous) == (1, "tiny-2.0.0", "tiny-1.0.0")
    assert promoted.reasons == ()
    assert {"reading the test set", "tiny-1.0.0", "tiny-2.0.0"} <= set(site.stages)
    states = site.states()
    assert states["tiny-2.0.0"] is ModelState.CURRENT
    assert states["tiny-1.0.0"] is ModelState.RETIRED
    assert states["tiny-3.0.0"] is ModelState.CANDIDATE
    with pytest.raises(PromotionError, match="in use already"):
        site.promote("tiny-2.0.0")

    with pytest.raises(
        PromotionRefusedError, match=r"tiny-3\.0\.0 is not promoted.*--override"
    ) as e:
        site.promote("tiny-3.0.0")
    assert not e.value.comparison.passed
    assert any("auc" in reason for reason in e.value.comparison.reasons)
    assert len(site.history()) == 1
    with site.database.reading() as session:
        refused, *_ = audit.lines(session, limit=1)
    assert (refused.action, refused.outcome) == (
        AuditAction.MODEL_PROMOTED,
        AuditOutcome.MINOR_FAILURE,
    )
    assert refused.detail == {
        "override": False,
        "model": "tiny-3.0.0",
        "error": "PromotionRefusedError",
    }

    site.promote("tiny-3.0.0", override="the other one is slow")
    with site.database.reading() as session:
        step = model_versions.history(session)[-1]
        assert (step.overridden, step.reason) == (True, "the other one is slow")
        assert step.who == operating_system_user()
        assert step.comparison["passed"] is False
        assert step.comparison["candidate"]["title"] == "tiny-3.0.0"
        (line,) = audit.lines(session, limit=1)
        assert line.action is AuditAction.MODEL_PROMOTED
        assert line.detail == {"model": "tiny-3.0.0", "number": 2, "overridden": True}
        assert f"{line.actor}@{line.source}" == step.who

    assert site.promotions().rollback("as it was").title == "tiny-2.0.0"
    assert site.promotions().rollback().title == "tiny-1.0.0"
    with pytest.raises(PromotionError, match="nothing to go back to"):
        site.promotions().rollback()
    assert site.history() == [
        (PromotionAction.PROMOTED, "2.0.0", "1.0.0"),
        (PromotionAction.PROMOTED, "3.0.0", "2.0.0"),
        (PromotionAction.ROLLED_BACK, "2.0.0", "3.0.0"),
        (PromotionAction.ROLLED_BACK, "1.0.0", "2.0.0"),
    ]
    told = site.promotions().history()
    assert [step["reason"] for step in told] == ["", "the other one is slow", "as it was", ""]
    assert [bool(step["against"]) for step in told] == [False, True, False, False]


def test_a_comparison_changes_nothing(site):
    old, new = site.registry.get("tiny-1.0.0"), site.registry.get("tiny-2.0.0")
    comparison = site.promotions().compare(old, new, site.report)
    assert comparison.passed
    gain = {(d.name, d.source): d.difference for d in comparison.differences}
    assert gain["auc", "drawn"] > 0.3
    assert gain["dice", "drawn"] == 0
    assert site.history() == []
    assert site.promotions().in_use().title == "tiny-1.0.0"


def test_without_a_locked_test_set_there_is_no_promotion_whatever_the_reason(site):
    with pytest.raises(PromotionError, match="LUNGWATCH_LOCKED_TEST_SET"):
        site.promote("tiny-2.0.0", override="I know better", locked_test_set=None)


def test_without_a_locked_test_set_versions_can_be_compared_on_other_data(site):
    promotions = site.promotions(locked_test_set=None)
    old, new = (site.registry.get(title) for title in ("tiny-1.0.0", "tiny-2.0.0"))
    with pytest.raises(PromotionError, match=r"nothing to compare on.* name it with --data"):
        promotions.compare(old, new, site.report)
    with pytest.raises(PromotionError, match="nothing to lock: set LUNGWATCH_LOCKED_TEST_SET"):
        promotions.lock_test_set("")


def test_a_pinned_version_has_to_be_released_first(site):
    with pytest.raises(PromotionError, match=r"LUNGWATCH_MODEL pins tiny-1\.0\.0.*Remove"):
        site.promote("tiny-2.0.0", pin="tiny-1.0.0")


def test_a_manifest_without_test_rows_is_no_test_set(site, data):
    with pytest.raises(PromotionError, match="none of its rows is marked as test"):
        site.promote("tiny-2.0.0", locked_test_set=data[1])


def test_a_test_set_that_changes_is_noticed(site, tmp_path):
    own = draw_manifest(tmp_path / "own" / "test.csv", count=20, patient="o")
    site.promote("tiny-2.0.0", locked_test_set=own)
    picture = own.parent / "o-1-0.png"
    picture.write_bytes((own.parent / "o-0-0.png").read_bytes())
    with pytest.raises(PromotionError, match=r"not the test set that .* locked.*model lock"):
        site.promote("tiny-3.0.0", override="now", locked_test_set=own)
    changed = site.promotions(locked_test_set=own)
    with pytest.raises(PromotionError, match="--reason"):
        changed.lock_test_set("")
    locked = changed.lock_test_set("a label was wrong")
    assert (locked.images, locked.reason) == (40, "a label was wrong")
    assert site.promote("tiny-3.0.0", override="now", locked_test_set=own).number == 2


def test_a_version_that_has_seen_the_test_set_is_refused_whatever_the_reason(site):
    with pytest.raises(PromotionError, match=r"shares 50 image files and patients t00, .*tiny-5"):
        site.promote("tiny-5.0.0", override="but it is so good")


def test_a_version_that_hides_its_training_data_needs_a_reason(site):
    promoted = site.promote("tiny-4.0.0", override="trained by hand")
    (reason,) = promoted.reasons
    assert "does not list what it was trained on" in reason


def test_a_version_whose_list_was_shortened_hides_what_it_was_trained_on(site, versions, tmp_path):
    own = tmp_path / "own" / "tiny-5.0.0"
    shutil.copytree(versions[0] / own.name, own)
    listed = own / TRAINING_DATA_FILE
    named = dataclasses.replace(read_entry(own).manifest, training_data_sha256=file_sha256(listed))
    (own / MANIFEST_FILE).write_text(named.to_json())
    test_set = open_test_set(site.settings.locked_test_set)
    assert "has seen 50 image files" in test_set.seen_by(read_entry(own))
    listed.write_text('{"format": 1, "patients": [], "files": []}')
    assert "or not as its manifest names it" in test_set.seen_by(read_entry(own))
    test_set.refuse_seen_by(read_entry(own))


def test_of_two_folders_of_a_version_the_registered_manifest_counts(site, versions, tmp_path):
    promoted = site.promote("tiny-2.0.0")
    copied = tmp_path / "own" / promoted.title
    shutil.copytree(versions[0] / promoted.title, copied)
    other = dataclasses.replace(read_entry(copied).manifest, operating_point=0.99)
    (copied / MANIFEST_FILE).write_text(other.to_json())
    site.registry = Registry([copied.parent, versions[0]], shipped=versions[1])
    assert site.promotions().in_use().folder == versions[0] / promoted.title
    standings = [each for each in site.promotions().standings() if each.title == promoted.title]
    assert {each.entry.folder: each.state for each in standings} == {
        copied: ModelState.CANDIDATE,
        versions[0] / promoted.title: ModelState.CURRENT,
    }
    with pytest.raises(RegistryError, match="ambiguous"):
        site.promote(promoted.title)


def test_a_network_that_cannot_screen_is_refused_whatever_the_reason(site):
    with pytest.raises(PromotionError, match=r"tiny-6\.0\.0 cannot screen"):
        site.promote("tiny-6.0.0", override="only the class counts")


def test_damaged_weights_are_refused_before_anything_else(site, tmp_path):
    copied(site, tmp_path / "own")
    with (tmp_path / "own" / "tiny-9.0.0" / WEIGHTS_FILE).open("ab") as file:
        file.write(b"x")
    site.registry = Registry([tmp_path / "own", *site.registry.roots[1:]], site.registry.roots[0])
    with pytest.raises(ModelIntegrityError, match="sha256"):
        site.promote("tiny-9.0.0", override="it works")
    assert site.history() == []


def test_a_damaged_version_in_use_can_be_replaced_with_a_reason(site, tmp_path):
    entry = copied(site, tmp_path / "own")
    site.registry = Registry([tmp_path / "own", *site.registry.roots[1:]], site.registry.roots[0])
    site.promote("tiny-9.0.0", override="for a while")
    (entry.folder / WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(PromotionRefusedError, match="damaged or gone"):
        site.promote("tiny-2.0.0")
    promoted = site.promote("tiny-2.0.0", override="disk failure")
    assert promoted.previous == "tiny-9.0.0"
    with pytest.raises(ModelIntegrityError):
        site.promotions().rollback()
    (entry.folder / WEIGHTS_FILE).unlink()
    (entry.folder / MANIFEST_FILE).unlink()
    with pytest.raises(RegistryError, match="put it back"):
        site.promotions().rollback()
    missing = next(s for s in site.promotions().standings() if s.title == "tiny-9.0.0")
    assert (missing.entry, missing.state) == (None, ModelState.RETIRED)


def test_a_registered_manifest_must_not_change(site, tmp_path):
    entry = copied(site, tmp_path / "own")
    site.promotions().register(entry)
    changed = (entry.folder / MANIFEST_FILE).read_text().replace('"drawn"', '"other"')
    (entry.folder / MANIFEST_FILE).write_text(changed)
    with pytest.raises(PromotionError, match="another manifest"):
        site.promotions().register(read_entry(entry.folder))


@pytest.fixture
def command(site, versions, monkeypatch, tmp_path):
    """`lungwatch model` in this process, where TensorFlow is loaded; 2.0.0 is in use."""
    for folder in (versions[1] / "tiny-1.0.0", *versions[0].iterdir()):
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / "all" / folder.name).symlink_to(folder)
    values = {"data_dir": tmp_path, "model_dir": tmp_path / "all"}
    values["locked_test_set"] = site.settings.locked_test_set
    for name, value in values.items():
        monkeypatch.setenv(f"LUNGWATCH_{name.upper()}", str(value))
    monkeypatch.setenv("COLUMNS", "200")
    with site.database.transaction() as session:
        rows = [
            model_versions.register(session, entry.model_version, entry.manifest_sha256)
            for entry in (site.registry.get("tiny-1.0.0"), site.registry.get("tiny-2.0.0"))
        ]
        step = Promotion(
            action=PromotionAction.PROMOTED,
            model_version_id=rows[1].id,
            previous_id=rows[0].id,
            who="somebody",
            reason="",
            overridden=False,
        )
        model_versions.record(session, step, 0)
    return lambda *arguments: CliRunner().invoke(models_app, list(arguments))


_AUC = ["drawn", "AUC"]


def test_the_command_prints_figure_by_figure_and_the_verdict(command):
    done = command("compare", "current", "tiny-1.0.0")
    assert done.exit_code == 0, done.exception
    assert "tiny-1.0.0 (candidate) against tiny-2.0.0 (current) on 50 images of test.csv" in (
        done.stdout
    )
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│")]
    (line,) = ["|".join(row) for row in rows if [cell.strip() for cell in row[1:3]] == _AUC]
    assert " 25 " in line, "the images of the smaller class"
    assert " to -" in line, "an interval below zero"
    assert "worse" in line
    assert "Gate: refused." in done.stdout
    assert "auc_within_sources of overall" in done.stdout


def test_a_refused_promotion_prints_its_grounds_and_ends_with_a_code_of_its_own(command):
    done = command("promote", "tiny-1.0.0", "--json")
    assert exit_code_of(done.exception) is ExitCode.PROMOTION
    document = json.loads(done.stdout)
    assert (document["promoted"], document["passed"]) == (False, False)
    assert document["reasons"]
    states = {row["title"]: row["state"] for row in json.loads(command("list", "--json").stdout)}
    assert (states["tiny-2.0.0"], states["tiny-1.0.0"]) == ("current", "retired")
    assert (
        json.loads(command("rollback", "--reason", "x", "--json").stdout)["title"] == "tiny-1.0.0"
    )
    first, second = json.loads(command("history", "--json").stdout)
    assert (first["version"], second["version"]) == ("tiny-2.0.0", "tiny-1.0.0")
    assert (second["action"], second["reason"]) == ("rolled_back", "x")
    assert "rolled back" in command("history").stdout
