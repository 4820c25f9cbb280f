"""What lost attempts left in the results folder goes when their screening has ended."""

from support.study_rows import queued_screening

from worker.db import screenings
from worker.screening.janitor import ResultJanitor

LEFT = (".seg-0123.4711.dcm", "seg-0123.dcm", "sr-4567.dcm")


def leave(folder, screening_id, *names):
    (folder / str(screening_id)).mkdir(parents=True)
    for name in names:
        (folder / str(screening_id) / name).write_bytes(b"an object")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.dcm"))


def test_leavings_go_when_their_screening_has_ended_and_not_before(database, tmp_path):
    with database.transaction() as session:
        done, failed, at_work = (queued_screening(session, f"1.2.{n}").id for n in range(3))
        for screening_id in (done, failed, at_work):
            leave(tmp_path, screening_id, *LEFT)
        claims = [screenings.claim(session, s, "here", 60) for s in (done, failed, at_work)]
        finished = screenings.finish(session, claims[0])
        finished.result = {"objects": [{"path": f"{done}/sr-4567.dcm"}]}
        screenings.release(session, screenings.held(session, claims[1]), "lost", 1)
    leave(tmp_path, 4711, "of-no-screening.dcm")
    janitor = ResultJanitor(database, tmp_path)
    assert janitor.run_once() == 5
    kept = [f"{at_work}/{name}" for name in LEFT]
    assert files(tmp_path) == sorted([f"{done}/sr-4567.dcm", "4711/of-no-screening.dcm", *kept])
    assert janitor.run_once() == 0
    with database.transaction() as session:
        screenings.release(session, screenings.held(session, claims[2]), "lost", 1)
    assert janitor.run_once() == 3


def test_without_results_there_is_nothing_to_tidy(database, tmp_path):
    assert ResultJanitor(database, tmp_path / "results").run_once() == 0
