"""Model versions, locked test sets and promotions on both databases."""

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from model.prediction import ModelVersion
from worker.db import model_versions, schema
from worker.db.engine import Database
from worker.db.tables import LockedTestSet, Promotion
from worker.errors import PromotionError
from worker.lifecycle import ModelState, PromotionAction

_OF_THE_FIRST_SCHEMA = """
INSERT INTO model_versions (id, name, version, sha256, first_used_at)
VALUES (1, 'net', '1.0.0', 'f', '2026-01-01 00:00:00');
INSERT INTO studies (id, study_instance_uid, state, reason, detail, revision, patient_id,
    patient_name, accession_number, study_date, study_description, duplicate_count,
    conflict_count, created_at, updated_at)
VALUES (1, '1.2', 'completed', '', '', 1, '', '', '', '', '', 0, 0, '2026-01-01 00:00:00',
    '2026-01-01 00:00:00');
INSERT INTO screenings (id, study_id, revision, series_instance_uid, instances_digest, state,
    reason, detail, attempts, claimed_by, created_at, model_version_id)
VALUES (1, 1, 1, '1', 'x', 'succeeded', '', '', 1, '', '2026-01-01 00:00:00', 1)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lungwatch.db'}"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(url):
    database = Database(url)
    schema.upgrade(database.engine)
    yield database
    database.close()


def version(number, sha256=None):
    return ModelVersion("net", f"{number}.0.0", sha256 or f"{number:064x}")


def promote(session, number, after, previous=None):
    row = model_versions.register(session, version(number), "m")
    came = model_versions.current(session) or model_versions.register(
        session, version(previous), "m"
    )
    return model_versions.record(session, step(PromotionAction.PROMOTED, row, came), after)


def roll_back(session, after):
    *_, target, top = model_versions.stack(session)
    return model_versions.record(session, step(PromotionAction.ROLLED_BACK, target, top), after)


def step(action, row, previous):
    return Promotion(
        action=action,
        model_version_id=row.id,
        previous_id=previous.id,
        who="somebody",
        reason="",
        overridden=False,
    )


def titles(session):
    return [row.version[0] for row in model_versions.stack(session)]


def test_rollbacks_go_back_one_promotion_after_the_other(database):
    with database.transaction() as session:
        assert (model_versions.generation(session), titles(session)) == (0, [])
        promote(session, 2, 0, previous=1)
        promote(session, 3, 1)
        assert titles(session) == ["1", "2", "3"]
        roll_back(session, 2)
        assert titles(session) == ["1", "2"]
        promote(session, 4, 3)
        roll_back(session, 4)
        roll_back(session, 5)
        assert titles(session) == ["1"]
        assert model_versions.generation(session) == 6
        by_version = {row.version[0]: row.id for row in model_versions.every(session)}
        states = model_versions.states(session)
        model_versions.register(session, version(9), "m")
        assert {number: states[by_version[number]] for number in "1234"} == {
            "1": ModelState.CURRENT,
            "2": ModelState.RETIRED,
            "3": ModelState.RETIRED,
            "4": ModelState.RETIRED,
        }
        assert list(model_versions.states(session).values()).count(ModelState.CANDIDATE) == 1


def test_of_two_promotions_on_the_same_grounds_one_is_refused(database):
    with database.transaction() as session:
        promote(session, 2, 0, previous=1)
    with pytest.raises(PromotionError, match="meanwhile"), database.transaction() as session:
        promote(session, 3, 0)
    with database.reading() as session:
        assert titles(session) == ["1", "2"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE promotions SET reason = 'x'",
        "DELETE FROM promotions",
        "UPDATE test_sets SET sha256 = 'x'",
        "DELETE FROM test_sets",
    ],
)
def test_promotions_and_test_sets_are_for_ever(database, statement):
    with database.transaction() as session:
        promote(session, 2, 0, previous=1)
        locked = LockedTestSet(locked_by="me", path="x", sha256="y", images=3, reason="")
        model_versions.lock_test_set(session, locked)
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(text(statement))


def test_a_registered_version_never_changes(database):
    with database.transaction() as session:
        row = model_versions.register(session, version(1), "manifest")
        assert model_versions.register(session, version(1), "manifest").id == row.id
        with pytest.raises(PromotionError, match="another manifest"):
            model_versions.register(session, version(1), "changed")
        with pytest.raises(PromotionError, match="other weights"):
            model_versions.register(session, version(1, "f" * 64), "manifest")


def test_versions_with_the_same_weights_are_told_apart(database):
    with database.transaction() as session:
        first = model_versions.used(session, version(1, "a" * 64))
        again = model_versions.used(session, version(2, "a" * 64))
        assert first.id != again.id
        assert model_versions.used(session, version(1, "a" * 64)).id == first.id
        assert first.first_used_at is not None
        assert first.registered_at is None


def test_an_upgrade_keeps_what_refers_to_a_model_version(url):
    database = Database(url)
    assert not model_versions.prepared(database.engine)
    with database.engine.begin() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with database.transaction() as session:
        for statement in _OF_THE_FIRST_SCHEMA.split(";"):
            session.execute(text(statement))
    schema.upgrade(database.engine)
    assert schema.check(database.engine).up_to_date
    assert model_versions.prepared(database.engine)
    with database.reading() as session:
        (row,) = model_versions.every(session)
        assert (row.version, row.registered_at) == ("1.0.0", None)
        query = text("SELECT model_version_id FROM screenings")
        assert session.scalar(query) == 1
    with pytest.raises(DatabaseError), database.transaction() as session:
        session.execute(text("DELETE FROM model_versions"))
    database.close()
