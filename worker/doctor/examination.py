"""What `lungwatch doctor` examines: each part of an installation, and what to do about a fault."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from worker.doctor.check import Check, Level
from worker.doctor.receiving import examine_listener, examine_senders, examine_tls
from worker.errors import SettingsError
from worker.setting_groups.secrets import exposed_secret_files
from worker.settings import PREFIX, secret_variables
from worker.versions.choice import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.db.engine import Database
    from worker.settings import Settings
    from worker.versions.choice import Choice

_CONNECT_SECONDS = 3.0
_GIB = 1024**3
_COMFORTABLE_FREE_BYTES = 20 * _GIB
_MOST_NAMED = 10
_LONG_QUEUED = timedelta(minutes=10)


def examine(settings: Settings, progress: Callable[[str], None]) -> Iterator[Check]:
    """Examine an installation, one part after the other; a broken part does not end it.

    Parameters
    ----------
    settings
        The checked settings.
    progress
        Told the name of each part before it is examined, since some wait for the network.

    Yields
    ------
    Check
        In the order in which faults are best mended.
    """
    for part, look_at in _PARTS.items():
        progress(part)
        try:
            yield from look_at(settings)
        except SettingsError as error:
            yield Check(part, Level.FAIL, str(error), "docs/settings.md lists all settings.")
        except Exception as error:  # noqa: BLE001 - whatever is broken is what we are asked for
            yield Check(
                part,
                Level.FAIL,
                f"{type(error).__name__}: {error}",
                "This is unexpected: report it with `lungwatch --debug doctor`.",
            )


def _secrets(_settings: Settings) -> Iterator[Check]:
    exposed = list(exposed_secret_files(secret_variables().values()))
    for variable, path in exposed:
        remedy = f"chmod 600 {path}, owned by the user of the service."
        message = f"{variable}: every user of this machine may read {path}"
        yield Check("secrets", Level.WARN, message, remedy)
    if not exposed:
        yield Check("secrets", Level.OK, "no secret file is open to other users")


def _data_folder(settings: Settings) -> Iterator[Check]:
    part, folder = "data folder", settings.data_dir.absolute()
    present = _present(folder)
    try:
        # Where the folder is to be made its parent has to be open: a doctor makes none.
        with tempfile.NamedTemporaryFile(dir=present) as file:
            os.fsync(file.fileno())
    except OSError as error:
        remedy = f"Let {PREFIX}DATA_DIR name a folder this user may write to."
        yield Check(part, Level.FAIL, f"{present} cannot be written: {error.strerror}", remedy)
        return
    if present == folder and folder.stat().st_mode & 0o077:
        message = f"{folder} is open to other users of this machine, and holds patient data"
        yield Check(part, Level.WARN, message, f"chmod 700 {folder}, owned by the service's user.")
    elif present == folder:
        yield Check(part, Level.OK, f"{folder} can be written")
    else:
        yield Check(
            part,
            Level.WARN,
            f"{folder} does not exist yet",
            f"The first start makes it; if a service runs here, give this command its "
            f"{PREFIX}DATA_DIR.",
        )
    yield _disk(settings)
    yield from _inbox(settings)


def _present(folder: Path) -> Path:
    """Give the folder, or where it is not there yet the one it would be made in."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(_present(settings.data_dir.absolute())).free
    watermark = settings.minimum_free_mb * 1024**2
    message = f"{free / _GIB:.1f} GiB free"
    remedy = "Free space, or move the data folder to a larger disk."
    if free < watermark:
        message += f", less than {PREFIX}MINIMUM_FREE_MB: C-STORE is answered 0xA700"
        return Check("disk", Level.FAIL, message, remedy)
    if free < watermark + _COMFORTABLE_FREE_BYTES:
        return Check("disk", Level.WARN, f"{message}, room for few studies", remedy)
    return Check("disk", Level.OK, message)


def _inbox(settings: Settings) -> Iterator[Check]:
    """Tell of what was received and not recorded; a node that works takes seconds for it."""
    inbox, count = settings.spool_dir / "inbox", 0
    if not inbox.is_dir():
        return
    long_ago = time.time() - _LONG_QUEUED.total_seconds()
    for path in inbox.iterdir():
        with suppress(FileNotFoundError):
            count += path.lstat().st_mtime < long_ago
    if not count:
        yield Check("inbox", Level.OK, "nothing has waited for long to be recorded")
        return
    files = "1 received file waits" if count == 1 else f"{count} received files wait"
    message = f"{files} in {inbox}, for ten minutes and more"
    remedy = (
        "Start the node, and its database. Where both run, the node's log says why at "
        "`instances_not_taken`, and which studies are not judged meanwhile."
    )
    yield Check("inbox", Level.WARN, message, remedy)


def _database(settings: Settings) -> Iterator[Check]:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import OperationalError

    from worker.db import schema
    from worker.db.engine import Database, is_absent

    part, upgrade = "database", "Run `lungwatch db upgrade`."
    url = settings.resolved_database_url
    shown = make_url(url).render_as_string(hide_password=True)
    if is_absent(url):
        yield Check(part, Level.WARN, f"{shown} does not exist yet", upgrade)
        return
    with closing(Database(url)) as database:
        try:
            status = schema.check(database.engine)
        except OperationalError as error:
            reason = str(error.orig).splitlines()[0]
            remedy = f"Start the database, or correct {PREFIX}DATABASE_URL."
            yield Check(part, Level.FAIL, f"{shown}: {reason}", remedy)
            return
        if status.up_to_date:
            yield Check(part, Level.OK, f"{shown} at revision {status.current}")
            yield _work(database)
            yield _retention(database)
            return
    if status.current != status.expected:
        message = f"{shown} is at revision {status.current or 'none'}, not {status.expected}"
        yield Check(part, Level.FAIL, message, upgrade)
    else:
        message = f"{shown} differs from this version's tables: {'; '.join(status.drift)}"
        yield Check(part, Level.FAIL, message, "Undo what was changed by hand, see `db check`.")


def _work(database: Database) -> Check:
    """Tell by the database whether workers take what is queued, wherever they run."""
    from worker.db import screenings
    from worker.db.engine import now

    with database.reading() as session:
        moment = now(session)
        since, claimed = screenings.waiting_since(session), screenings.last_claim(session)
    last = f"the last one was claimed {_ago(moment - claimed)}" if claimed else "none was claimed"
    if since is None:
        return Check("workers", Level.OK, f"no screening waits; {last}")
    message = f"the oldest screening was queued {_ago(moment - since)}; {last}"
    if moment - since < _LONG_QUEUED:
        return Check("workers", Level.OK, message)
    return Check(
        "workers",
        Level.WARN,
        message,
        "See that `lungwatch worker` or `lungwatch up` runs, and its log; where claims are recent, "
        "more comes than can be screened.",
    )


def _retention(database: Database) -> Check:
    """Tell of files whose time is over and which are still there; a node takes a minute for it."""
    from worker.db import retention
    from worker.db.engine import now

    with database.reading() as session:
        overdue = retention.overdue(session, now(session) - _LONG_QUEUED)
    if not overdue:
        return Check("retention", Level.OK, "no files are left whose removal began long ago")
    more = len(overdue) - _MOST_NAMED
    return Check(
        "retention",
        Level.WARN,
        f"files are left of study {', '.join(map(str, overdue[:_MOST_NAMED]))}"
        f"{f' and {more} more' if more > 0 else ''}, whose removal began ten minutes ago or longer",
        "Start the node. Where it runs, its log says why at `files_not_removed`.",
    )


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago"


def _broker(settings: Settings) -> Iterator[Check]:
    from kombu.connection import Connection
    from redis.exceptions import RedisError

    part = "broker"
    if settings.broker_url is None:
        yield _embedded_broker(settings)
        return
    waits = {"socket_timeout": _CONNECT_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
    broker = Connection(settings.required_broker_url, transport_options=waits)  # type: ignore[no-untyped-call]
    with broker as connection:
        shown = connection.as_uri()
        try:
            client = connection.default_channel.client
            client.ping()
        except (RedisError, OSError, connection.connection_errors) as error:
            remedy = f"Start Redis, or correct {PREFIX}BROKER_URL."
            yield Check(part, Level.FAIL, f"{shown}: {error}", remedy)
            return
        yield Check(part, Level.OK, f"{shown} answers")
        try:
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
        except RedisError:
            return  # Managed services forbid CONFIG; then its operator answers for it.
    if policy != "noeviction":
        yield Check(
            part, Level.WARN, f"maxmemory-policy is {policy}", "Set maxmemory-policy noeviction."
        )


def _embedded_broker(settings: Settings) -> Check:
    import redis

    from worker.embedded.valkey import EmbeddedValkey

    embedded = EmbeddedValkey(settings.data_dir / "broker")
    with redis.Redis.from_url(embedded.redis_url, socket_timeout=_CONNECT_SECONDS) as client:
        try:
            client.ping()
        except redis.RedisError:
            return Check(
                "broker",
                Level.WARN,
                "none is set, and the embedded one of this data folder does not run",
                f"`lungwatch up` starts it; `node` and `worker` need {PREFIX}BROKER_URL.",
            )
    return Check("broker", Level.OK, f"the embedded one answers on {embedded.socket_path}")


def examine_model(settings: Settings) -> Iterator[Check]:
    """Examine the version in use, and whether the workers have it."""
    from sqlalchemy.exc import OperationalError

    from model.errors import ModelError
    from worker.bootstrap import model_choice

    try:
        choice = model_choice(settings)
        choice.entry.verified_weights()
    except ModelError as error:
        remedy = "`lungwatch model list` shows what there is; install the package anew if damaged."
        yield Check("model", Level.FAIL, str(error), remedy)
        return
    except OperationalError:
        remedy = f"See the database above; {PREFIX}MODEL would pin a version without it."
        yield Check("model", Level.FAIL, "the database does not say which one is in use", remedy)
        return
    why = {
        Origin.PINNED: f"pinned by {PREFIX}MODEL",
        Origin.PROMOTED: f"in use since promotion or rollback {choice.generation}",
        Origin.SHIPPED: "the newest shipped one: nothing was promoted",
    }[choice.origin]
    entry = choice.entry
    shown = f"{entry.title}, sha256 {entry.manifest.sha256[:12]} verified, {why}"
    yield Check("model", Level.OK, shown)
    yield from _pick_ups(settings, choice)
    if entry.manifest.caution:
        remedy = "Evaluate it on studies of your own; `lungwatch model show` has its model card."
        yield Check("model caution", Level.WARN, entry.manifest.caution, remedy)


def _pick_ups(settings: Settings, choice: Choice) -> Iterator[Check]:
    """Tell whether the workers screen with the version in use; a pinned one never changes."""
    from sqlalchemy.exc import OperationalError

    from worker.bootstrap import model_pick_ups

    part = "model pick-up"
    try:
        told = model_pick_ups(settings)
    except OperationalError:
        return  # The database's own check tells of it.
    if choice.origin is Origin.PINNED:
        if told and told.promoted not in {"", choice.entry.title}:
            message = f"{told.promoted} was promoted, but the pinned {choice.entry.title} screens"
            yield Check(part, Level.WARN, message, f"Unset {PREFIX}MODEL and start the workers.")
        return
    if told is None:
        return
    for worker, problem in told.failed.items():
        remedy = (
            "Put the version right or run `lungwatch model rollback`; it tries again by itself."
        )
        yield Check(part, Level.WARN, f"worker {worker} {problem}", remedy)
    if told.loaded:
        workers = ", ".join(f"{worker}: {title}" for worker, title in told.loaded.items())
        yield Check(part, Level.OK, f"loaded by {workers}")
    elif not told.failed:
        yield Check(part, Level.OK, "no worker has loaded it yet; with its next study each will")


def _destinations(settings: Settings) -> Iterator[Check]:
    from dicom_node.errors import DicomNodeError
    from dicom_node.peers import open_peer
    from worker.delivery.destinations import parse_destinations

    known = parse_destinations(settings)
    if not known:
        remedy = f"Name the PACS in {PREFIX}DESTINATIONS."
        yield Check("destinations", Level.WARN, "results stay here: none is set", remedy)
    for destination in known:
        part = f"destination {destination.name}"
        try:
            open_peer(destination).echo()
        except DicomNodeError as error:
            remedy = "Check address, firewall, and that the PACS knows our AE title."
            yield Check(part, Level.FAIL, str(error), remedy)
        else:
            yield Check(part, Level.OK, "answers")


_PARTS: dict[str, Callable[[Settings], Iterator[Check]]] = {
    "secrets": _secrets,
    "data folder": _data_folder,
    "database": _database,
    "broker": _broker,
    "model": examine_model,
    "senders": examine_senders,
    "tls": examine_tls,
    "listener": examine_listener,
    "destinations": _destinations,
}
