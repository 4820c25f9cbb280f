"""What a worker screens with: picked up between jobs, kept when the new one cannot be loaded."""

import shutil
from contextlib import closing

import pytest
from support.networks import write_version

from model.errors import ModelIntegrityError, RegistryError
from model.registry import MANIFEST_FILE, WEIGHTS_FILE, Registry
from worker.db import events, model_versions, schema
from worker.db.engine import Database
from worker.db.tables import Event, Promotion
from worker.doctor.check import Level
from worker.doctor.examination import examine_model
from worker.lifecycle import PromotionAction
from worker.screening.pickup import NetworkInUse
from worker.settings import load_settings
from worker.versions.choice import Origin, choose


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("versions")
    write_version(root / "shipped", "1.0.0")
    write_version(root / "shipped", "1.1.0", seed=1)
    write_version(root / "site", "2.0.0", seed=2)
    return root


@pytest.fixture
def registry(written, tmp_path):
    shutil.copytree(written, tmp_path / "versions")
    return Registry([tmp_path / "versions" / "site"], tmp_path / "versions" / "shipped")


@pytest.fixture
def database(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")) as database:
        schema.upgrade(database.engine)
        yield database


def promote(database, registry, which, action=PromotionAction.PROMOTED):
    entry = registry.get(which)
    shipped = registry.newest_shipped()
    with database.transaction() as session:
        row = model_versions.register(session, entry.model_version, entry.manifest_sha256)
        before = model_versions.current(session) or model_versions.register(
            session, shipped.model_version, shipped.manifest_sha256
        )
        promotion = Promotion(
            action=action,
            model_version_id=row.id,
            previous_id=before.id,
            who="me",
            reason="",
            overridden=False,
        )
        model_versions.record(session, promotion, model_versions.generation(session))


def network(database, registry, *, pin=None, **options):
    """A worker's network; loading a version checks its weights and gives its title."""
    loads = []

    def load(entry):
        entry.verified_weights()
        loads.append(entry.title)
        return entry.title

    def decide(session):
        return choose(registry, pin, session)

    return NetworkInUse(database, decide, load, "here:1", **options), loads


def told(database):
    with database.reading() as session:
        return [
            (line.event, line.detail.get("model") or line.detail["kept"])
            for line in session.query(Event).order_by(Event.id)
        ]


def test_the_newest_shipped_version_screens_until_another_is_promoted(database, registry):
    in_use, loads = network(database, registry)
    assert in_use() == "tiny-1.1.0"
    promote(database, registry, "tiny-2.0.0")
    assert [in_use(), in_use()] == ["tiny-2.0.0", "tiny-2.0.0"]
    promote(database, registry, "tiny-1.1.0", PromotionAction.ROLLED_BACK)
    assert in_use() == "tiny-1.1.0"
    assert loads == ["tiny-1.1.0", "tiny-2.0.0", "tiny-1.1.0"], "each was loaded once"
    assert told(database) == [
        (events.MODEL_LOADED, title) for title in ("tiny-1.1.0", "tiny-2.0.0", "tiny-1.1.0")
    ]


def test_each_of_several_workers_picks_it_up_between_its_own_jobs(database, registry):
    workers = [network(database, registry)[0] for _ in range(3)]
    promote(database, registry, "tiny-2.0.0")
    assert workers[0]() == "tiny-2.0.0"
    promote(database, registry, "tiny-1.0.0")
    assert [worker() for worker in workers] == ["tiny-1.0.0"] * 3


def test_a_worker_that_starts_takes_what_is_promoted(database, registry):
    promote(database, registry, "tiny-2.0.0")
    in_use, loads = network(database, registry)
    assert in_use() == "tiny-2.0.0"
    assert loads == ["tiny-2.0.0"]


def test_a_pinned_version_stays(database, registry):
    in_use, loads = network(database, registry, pin="tiny-1.0.0")
    promote(database, registry, "tiny-2.0.0")
    assert in_use() == "tiny-1.0.0"
    assert loads == ["tiny-1.0.0"]
    with database.reading() as session:
        assert choose(registry, "tiny-1.0.0", session).origin is Origin.PINNED


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_and_says_so_once(database, registry):
    in_use, loads = network(database, registry)
    weights = registry.get("tiny-2.0.0").folder / WEIGHTS_FILE
    whole = weights.read_bytes()
    promote(database, registry, "tiny-2.0.0")
    weights.write_bytes(whole[:-1])
    assert [in_use() for _ in range(3)] == ["tiny-1.1.0"] * 3
    assert told(database)[1:] == [(events.MODEL_PICK_UP_FAILED, "tiny-1.1.0")]
    with database.reading() as session:
        line = session.query(Event).filter_by(event=events.MODEL_PICK_UP_FAILED).one()
        assert "sha256" in line.detail["error"]
        assert line.detail["worker"] == "here:1"
    weights.write_bytes(whole)
    assert in_use() == "tiny-1.1.0", "not tried with each job"
    in_use._not_before = 0.0
    assert in_use() == "tiny-2.0.0"
    assert loads == ["tiny-1.1.0", "tiny-2.0.0"]


def test_a_rollback_ends_the_trouble_without_loading_anything(database, registry):
    in_use, loads = network(database, registry)
    promote(database, registry, "tiny-2.0.0")
    (registry.get("tiny-2.0.0").folder / WEIGHTS_FILE).unlink()
    assert in_use() == "tiny-1.1.0"
    promote(database, registry, "tiny-1.1.0", PromotionAction.ROLLED_BACK)
    assert in_use() == "tiny-1.1.0"
    assert loads == ["tiny-1.1.0"]
    assert told(database)[-1] == (events.MODEL_LOADED, "tiny-1.1.0")


def test_a_worker_does_not_start_on_a_damaged_version(database, registry):
    promote(database, registry, "tiny-2.0.0")
    folder = registry.get("tiny-2.0.0").folder
    manifest = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(
        manifest.replace('"lesion_threshold": 0.5', '"lesion_threshold": 0.4')
    )
    with pytest.raises(ModelIntegrityError, match="another manifest"):
        network(database, registry)
    shutil.rmtree(folder)
    with pytest.raises(RegistryError, match=r"put its folder back|model rollback"):
        network(database, registry)


def test_a_shipped_version_that_comes_later_does_not_replace_what_was_promoted(database, registry):
    promote(database, registry, "tiny-1.0.0")
    in_use, _ = network(database, registry)
    write_version(registry.roots[0], "7.0.0")
    assert in_use() == "tiny-1.0.0"
    with database.reading() as session:
        assert choose(registry, None, session).entry.title == "tiny-1.0.0"
        assert choose(registry, None, None).entry.title == "tiny-7.0.0"


def examined(database, tmp_path, **settings):
    """What the doctor says of the model and its pick-up."""
    folder = {"data_dir": tmp_path, "model_dir": tmp_path / "versions" / "site"}
    found = {check.part: check for check in examine_model(load_settings(**folder, **settings))}
    return found["model"], found.get("model pick-up")


def test_the_doctor_tells_the_version_in_use_and_who_has_picked_it_up(database, registry, tmp_path):
    model, pick_up = examined(database, tmp_path)
    assert "nothing was promoted" in model.message
    assert (pick_up.level, "no worker" in pick_up.message) == (Level.OK, True)

    in_use, _ = network(database, Registry([tmp_path / "versions" / "site"]))
    promote(database, registry, "tiny-2.0.0")
    model, pick_up = examined(database, tmp_path)
    assert "tiny-2.0.0" in model.message
    assert "promotion or rollback 1" in model.message
    assert "no worker" in pick_up.message, "what was loaded before counts no more"
    in_use()
    _, pick_up = examined(database, tmp_path)
    assert (pick_up.level, "here:1: tiny-2.0.0" in pick_up.message) == (Level.OK, True)


def test_the_doctor_warns_of_a_failed_pick_up_and_of_a_pin(database, registry, tmp_path):
    in_use, _ = network(database, registry)
    promote(database, registry, "tiny-2.0.0")
    weights = registry.get("tiny-2.0.0").folder / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(b"")
    in_use()
    weights.write_bytes(whole)
    _, pick_up = examined(database, tmp_path)
    assert pick_up.level is Level.WARN
    assert "here:1 goes on with tiny-1.1.0: ModelIntegrityError" in pick_up.message
    assert "rollback" in pick_up.remedy
    pinned = Registry().get().title
    model, pick_up = examined(database, tmp_path, model=pinned)
    assert "pinned by LUNGWATCH_MODEL" in model.message
    assert (pick_up.level, "tiny-2.0.0 was promoted" in pick_up.message) == (Level.WARN, True)


def test_a_pinned_version_is_examined_without_the_database_an_unpinned_one_is_not(tmp_path):
    away = {"data_dir": tmp_path, "database_url": "postgresql+psycopg://a:b@127.0.0.1:1/a"}
    (model, *others) = examine_model(load_settings(model=Registry().get().title, **away))
    assert model.level is Level.OK
    assert [check.part for check in others] == ["model caution"]
    (model,) = examine_model(load_settings(**away))
    assert (model.level, "does not say" in model.message) == (Level.FAIL, True)
