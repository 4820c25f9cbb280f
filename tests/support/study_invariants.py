"""What has to hold of a site after every step, whatever happened to it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from support.faulty_site import DESTINATIONS, MODEL

from worker.db import screenings
from worker.db.tables import Delivery, Event, Instance, Screening, Study
from worker.lifecycle import (
    AT_REST,
    CommitmentState,
    DeliveryState,
    ScreeningState,
    StudyEvent,
    StudyState,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session
    from support.faulty_parts import Pacs
    from support.faulty_site import Site

_IN_FORCE = (ScreeningState.QUEUED, ScreeningState.RUNNING, ScreeningState.SUCCEEDED)
_SCREENING_OF = {
    StudyState.QUEUED: ScreeningState.QUEUED,
    StudyState.SCREENING: ScreeningState.RUNNING,
    StudyState.DELIVERING: ScreeningState.SUCCEEDED,
    StudyState.COMPLETED: ScreeningState.SUCCEEDED,
}
_MOVING = {StudyState.RECEIVING, StudyState.QUEUED, StudyState.SCREENING, StudyState.DELIVERING}


def check(site: Site) -> None:
    """Check a site from outside: folders, rows, and what each PACS holds."""
    with site.witness.reading() as session:
        check_acknowledged(site, session)
        for study in session.query(Study):
            check_study(study)
        claimed = Counter(
            screening_id
            for (screening_id,) in session.query(Event.screening_id).filter_by(
                event=StudyEvent.CLAIMED.value
            )
        )
        for screening in session.query(Screening):
            check_screening(site, screening)
            assert screening.attempts == claimed[screening.id], "an attempt was not counted"
        for delivery in session.query(Delivery):
            check_delivery(site, delivery)
        for pacs in site.archives.values():
            check_pacs(pacs)


def check_acknowledged(site: Site, session: Session) -> None:
    """Nothing that was answered with success is lost or torn, and all of it has a study."""
    waiting = {path.name: path for path in site.spool.inbox()}
    rows = {row.path.rpartition("/")[2]: row for row in session.query(Instance)}
    for name, dataset in site.acknowledged.items():
        row = rows.get(name)
        if row is not None and row.cleaned_at is not None:
            continue
        assert row is not None or name in waiting, f"{name} is lost"
        filed = site.spool.root / row.path if row is not None else None
        path = filed if filed is not None and filed.is_file() else waiting.get(name)
        assert path is not None, f"the file of {name} is lost"
        assert path.read_bytes().endswith(dataset), f"{name} is torn"
    assert set(rows) <= set(site.acknowledged)


def check_study(study: Study) -> None:
    """A study is queued, leased, on its way or at rest, and says why; one result is in force."""
    assert study.reason, f"study {study.id} gives no reason"
    in_force = [screening for screening in study.screenings if screening.state in _IN_FORCE]
    assert len(in_force) <= 1, f"study {study.id} has two results in force"
    current = screenings.current(study)
    assert not in_force or in_force[0] is current, f"study {study.id}: an old result is in force"
    if study.state in (StudyState.QUEUED, StudyState.SCREENING):
        # Of what was given up a screening needs the images alone, not what contradicted them.
        given_up = [
            each.id
            for each in study.instances
            if each.cleaned_at is not None and each.disposition == "accepted"
        ]
        assert not given_up, f"study {study.id} is to be screened without instances {given_up}"
    if study.state is StudyState.RECEIVING:
        assert study.assemble_at is not None, f"study {study.id} waits for ever"
    expected = _SCREENING_OF.get(study.state)
    if expected is not None:
        assert current is not None, f"study {study.id} is {study.state} without a screening"
        assert current.state is expected, f"study {study.id} is {study.state}, not {current.state}"
    pending = [
        delivery
        for screening in study.screenings
        for delivery in screening.deliveries
        if delivery.state is DeliveryState.PENDING
    ]
    if study.state is StudyState.DELIVERING:
        assert pending, f"study {study.id} waits for no delivery"
    if study.state in AT_REST:
        assert not pending, f"study {study.id} is {study.state} and something is still to be sent"
    for delivery in pending:
        assert delivery.screening is current, f"study {study.id} delivers what is not in force"


def check_screening(site: Site, screening: Screening) -> None:
    """Who works has a lease, nobody tries for ever, and a result is there with its files."""
    running = screening.state is ScreeningState.RUNNING
    assert running == (screening.lease_expires_at is not None), (
        f"screening {screening.id} is {screening.state} with lease {screening.lease_expires_at}"
    )
    excused, limit = screening.excused_attempts, site.settings.maximum_attempts
    # Of which screening the worker had is not known here: a message does not name it.
    assert excused <= site.disk_errors, f"{excused} attempts are excused"
    counted = screening.attempts - excused
    assert counted <= limit, f"screening {screening.id} was tried too often"
    if screening.state is ScreeningState.QUEUED:
        assert counted < limit, f"screening {screening.id} is tried once too often"
    if screening.state is ScreeningState.SUCCEEDED:
        assert screening.result, f"screening {screening.id} has no result"
        assert screening.model_version.sha256 == MODEL.sha256
        assert len(screening.findings) == len(screening.result["lesions"])
        for entry in screening.result["objects"] if screening.cleaned_at is None else ():
            content = (site.settings.results_dir / entry["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        outbox = {(d.kind, d.destination) for d in screening.deliveries}
        kinds = {entry["kind"] for entry in screening.result["objects"]}
        assert outbox == set(product(kinds, DESTINATIONS))


def check_delivery(site: Site, delivery: Delivery) -> None:
    """What counts as delivered is there to the byte; what is cleaned here is promised."""
    lost = (delivery.destination, delivery.sop_instance_uid) in site.lost
    in_force = delivery.screening.state is ScreeningState.SUCCEEDED
    if in_force and delivery.screening.cleaned_at is not None:
        assert delivery.state in (DeliveryState.DELIVERED, DeliveryState.CANCELLED)
        assert delivery.commitment is CommitmentState.COMMITTED, f"{delivery.id} is not promised"
        lost = False
    if delivery.state is DeliveryState.DELIVERED and not lost:
        content = site.archives[delivery.destination].objects.get(delivery.sop_instance_uid)
        assert content is not None, f"delivery {delivery.id} never arrived"
        assert hashlib.sha256(content).hexdigest() == delivery.sha256


def check_pacs(pacs: Pacs) -> None:
    """One SEG and one SR for each result, under UIDs that never stand for anything else."""
    assert not pacs.overwritten, f"other bytes under the same UID: {pacs.overwritten}"
    held: dict[tuple[str, str], str] = {}
    for uid, content in pacs.objects.items():
        says = json.loads(content)
        first = held.setdefault((says["identity"], says["kind"]), uid)
        assert first == uid, f"the same {says['kind']} is in the PACS twice"


def check_at_rest(site: Site) -> None:
    """After everything was healed no study is left on its way."""
    with site.witness.reading() as session:
        moving = {s.study_instance_uid: s.state for s in session.query(Study) if s.state in _MOVING}
        assert not moving, f"left on their way: {moving}"
        assert not list(site.spool.inbox()), "left in the inbox"
        check_no_stray_files(site, session)
        for study in session.query(Study).filter_by(state=StudyState.COMPLETED):
            for entry in screenings.current(study).result["objects"]:
                for pacs in site.archives.values():
                    assert entry["sop_instance_uid"] in pacs.objects


def check_no_stray_files(site: Site, session: Session) -> None:
    """Nothing lies in the spool that no record names as being there: nobody would remove it."""
    named = {row.path for row in session.query(Instance).filter_by(cleaned_at=None)}
    folders = (site.spool.root / "studies", site.spool.root / "quarantine")
    present = {
        # The note of a quarantine has the name of what it is about.
        str(path.relative_to(site.spool.root).with_suffix(".dcm"))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert present <= named, f"in the spool without a record: {present - named}"
