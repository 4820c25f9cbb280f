"""Reviews of real results in a real database, from the desk and from the command line."""

import hashlib

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from support.command import lungwatch
from support.stated import SMALL, StatedPredictor, draw, screened
from support.study_rows import queued_screening
from support.synthetic_result import TINY_LESIONS, predict, tiny_series

from dicom_node.errors import SegmentationError
from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.reading.reader import read_ct_series
from worker import learning
from worker.db import events, reviews, schema, screenings, studies
from worker.db.engine import Database
from worker.db.tables import Review, Study
from worker.errors import NotFoundError, ReviewError
from worker.judgement import Lesions, RejectReason, ReviewDecision, accepted
from worker.review.reviews import Reviewer

MASK = predict(tiny_series(), TINY_LESIONS).lesion_mask.labels > 0
READER = Reviewer("Dr. Roe", "seen with the prior study")


@pytest.fixture
def site(tmp_path):
    installation, files = screened(tmp_path)
    yield installation, files
    installation.database.close()


@pytest.fixture
def desk(site):
    return learning.review_desk(site[0].settings)


def recorded(installation):
    with installation.database.reading() as session:
        return list(session.query(Review).order_by(Review.id))


def test_an_accepted_result_keeps_a_copy_of_its_lesions(site, desk):
    installation, files = site
    document = desk.accept("1", READER)
    (review,) = recorded(installation)
    assert (review.decision, review.covid, review.lesions) == (
        ReviewDecision.ACCEPTED,
        True,
        Lesions.DRAWN,
    )
    assert (review.reviewer, review.note) == (READER.name, READER.note)
    kept = installation.settings.reviews_dir / review.segmentation_path
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == review.segmentation_sha256
    found = read_corrected_segmentation(kept, read_ct_series(files))
    assert np.array_equal(found.mask, MASK)
    assert document["segmentation_sha256"] == review.segmentation_sha256


def test_an_accepted_negative_result_has_no_lesions(tmp_path):
    installation, _ = screened(tmp_path, StatedPredictor((), 0.1))
    learning.review_desk(installation.settings).accept("1", READER)
    (review,) = recorded(installation)
    assert (review.covid, review.lesions, review.segmentation_path) == (False, Lesions.NONE, None)


@pytest.mark.parametrize("reason", list(RejectReason))
def test_a_rejected_result_keeps_no_lesions(site, desk, reason):
    if reason is RejectReason.FALSE_NEGATIVE:
        with pytest.raises(ReviewError, match="contradicts"):
            desk.reject("1", reason, READER)
        assert recorded(site[0]) == []
        return
    desk.reject("1", reason, READER)
    (review,) = recorded(site[0])
    assert (review.decision, review.reason) == (ReviewDecision.REJECTED, reason)
    assert review.segmentation_path is None
    assert review.lesions is not Lesions.DRAWN


def test_a_corrected_segmentation_is_kept_to_the_byte(site, desk, tmp_path):
    installation, files = site
    mask = MASK.copy()
    mask[3, 10:14, 20:30] = True
    path = draw(tmp_path / "corrected.dcm", files, mask)
    desk.correct("1", path, READER)
    (review,) = recorded(installation)
    assert (review.decision, review.covid, review.lesions) == (
        ReviewDecision.CORRECTED,
        True,
        Lesions.DRAWN,
    )
    kept = installation.settings.reviews_dir / review.segmentation_path
    assert kept.read_bytes() == path.read_bytes()
    found = read_corrected_segmentation(kept, read_ct_series(files))
    assert np.array_equal(found.mask, mask)


def test_an_empty_segmentation_clears_the_study(site, desk, tmp_path):
    installation, files = site
    desk.correct("1", draw(tmp_path / "empty.dcm", files, np.zeros_like(MASK)), READER)
    (review,) = recorded(installation)
    assert (review.decision, review.covid, review.lesions) == (
        ReviewDecision.CORRECTED,
        False,
        Lesions.NONE,
    )


def test_what_equals_our_own_lesions_counts_as_acceptance(site, desk, tmp_path):
    installation, files = site
    desk.correct("1", draw(tmp_path / "same.dcm", files, MASK), READER)
    desk.correct("1", tmp_path / "same.dcm", READER, covid=False)
    same, another_class = recorded(installation)
    assert same.decision is ReviewDecision.ACCEPTED
    assert (another_class.decision, another_class.covid) == (ReviewDecision.CORRECTED, False)


def test_a_segmentation_of_another_study_leaves_nothing_behind(site, desk, tmp_path):
    other, other_files = screened(tmp_path / "other", study="another")
    path = draw(tmp_path / "other.dcm", other_files, MASK)
    with pytest.raises(SegmentationError, match=r"other\.dcm: it belongs to study"):
        desk.correct("1", path, READER)
    assert recorded(site[0]) == []
    assert not site[0].settings.reviews_dir.exists()
    other.database.close()


def test_a_later_review_supersedes_and_the_earlier_stays(site, desk):
    installation, _ = site
    desk.reject("1", RejectReason.FALSE_POSITIVE, READER)
    desk.accept("1", Reviewer("Dr. Doe"))
    with installation.database.reading() as session:
        (counts,) = reviews.in_force(session)
        assert (counts.reviewer, counts.decision) == ("Dr. Doe", ReviewDecision.ACCEPTED)
        study = session.query(Study).one()
        assert len(reviews.of_study(session, study)) == 2
        logged = [event.detail for event in events.of_study(session, study)][-2:]
    assert [line["decision"] for line in logged] == ["rejected", "accepted"]


def test_a_review_holds_for_other_networks_but_not_for_other_instances(site, desk):
    installation, _ = site
    desk.accept("1", READER)
    with installation.database.transaction() as session:
        study = session.query(Study).one()
        (review,) = reviews.in_force(session)
        judged = review.screening
        screenings.add(session, study, judged.series_instance_uid, judged.instances_digest)
        assert reviews.still_holds(review)
        with pytest.raises(ReviewError, match="no result in force"):
            reviews.reviewable(study)
        screenings.add(session, study, judged.series_instance_uid, "f" * 64)
        assert not reviews.still_holds(review)


def test_damaged_or_missing_files_are_named(site, desk, tmp_path):
    installation, files = site
    (own,) = installation.settings.results_dir.rglob("seg-*.dcm")
    own.write_bytes(own.read_bytes()[:-10])
    with pytest.raises(ReviewError, match=r"not the one that was written.*--rescreen"):
        desk.accept("1", READER)
    own.unlink()
    with pytest.raises(ReviewError, match="cannot be read"):
        desk.accept("1", READER)
    for path in (installation.settings.spool_dir / "studies").rglob("*.dcm"):
        path.unlink()
    with pytest.raises(ReviewError, match="no longer in the spool"):
        desk.correct("1", draw(tmp_path / "seg.dcm", files, MASK), READER)


def test_only_a_known_and_screened_study_is_reviewed(site, desk):
    with site[0].database.transaction() as session:
        waiting = queued_screening(session, "9.8.7").study_id
    with pytest.raises(NotFoundError):
        desk.accept("4711", READER)
    with pytest.raises(ReviewError, match="is queued and has no result"):
        desk.accept(str(waiting), READER)
    with pytest.raises(ReviewError, match="reviewer's name"):
        desk.reject("1", RejectReason.UNUSABLE, Reviewer(""))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("change", ["UPDATE reviews SET covid = NULL", "DELETE FROM reviews"])
def test_the_database_refuses_to_change_a_review(request, tmp_path, kind, change):
    url = (
        f"sqlite:///{tmp_path / 'lungwatch.db'}"
        if kind == "sqlite"
        else request.getfixturevalue("postgresql_url")
    )
    database = Database(url)
    schema.upgrade(database.engine)
    with database.transaction() as session:
        screening = queued_screening(session)
        claim = screenings.claim(session, screening.id, "here", 60)
        screenings.finish(session, claim).result = {"positive": True}
    with database.transaction() as session:
        reviews.add(
            session,
            reviews.reviewable(studies.find(session, "1.2.3")),
            reviewer="Dr. Roe",
            decision=ReviewDecision.ACCEPTED,
            label=accepted(positive=True, has_lesions=False),
        )
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(text(change))
    with database.reading() as session:
        assert session.query(Review).one().covid is True
    database.close()


def test_the_command_records_and_shows_reviews(site, tmp_path):
    installation, files = site
    settings = {"data_dir": installation.settings.data_dir, **SMALL}
    done = lungwatch("studies", "review", 1, "--reject", "wrong-lesions", **settings)
    assert done.code == 0, done.stderr
    assert "Class: COVID-19. Lesions: unknown." in done.stdout
    path = draw(tmp_path / "seg.dcm", files, np.roll(MASK, 1, axis=0))
    done = lungwatch(
        *("studies", "review", 1, "--corrected", path, "--no-covid", "--json"),
        *("--reviewer", "Dr. Roe", "--note", "tumour"),
        **settings,
    )
    assert (done.code, done.json["covid"], done.json["lesions"]) == (0, False, "drawn")
    shown = lungwatch("studies", "show", 1, "--json", **settings).json["reviews"]
    assert [each["decision"] for each in shown] == ["rejected", "corrected"]
    assert shown[1]["reviewer"] == "Dr. Roe"
    page = lungwatch("studies", "show", 1, **settings).stdout
    assert "rejected: wrong-lesions" in page
    assert "superseded" in page


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((1,), 2, "exactly one of"),
        ((1, "--accept", "--reject", "unusable"), 2, "exactly one of"),
        ((1, "--reject", "ugly"), 2, "false-positive"),
        ((1, "--accept", "--covid"), 2, "--corrected only"),
        ((1, "--corrected", "absent.dcm"), 2, "absent.dcm"),
        ((4711, "--accept"), 5, "there is no study 4711"),
        ((1, "--reject", "false-negative"), 7, "contradicts"),
    ],
)
def test_the_command_tells_what_is_wrong(site, arguments, code, told):
    done = lungwatch("studies", "review", *arguments, data_dir=site[0].settings.data_dir)
    assert done.code == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert recorded(site[0]) == []
