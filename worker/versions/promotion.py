"""Bringing model versions into use: compared on a locked test set, recorded, and taken back.

The gate's rule is `model.comparison`'s; docs/model-registry.md tells it to those who promote.
"""

from __future__ import annotations

import os
import pwd
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.errors import RegistryError
from worker.audit.attempts import attempt
from worker.audit.trail import acted
from worker.audit_entry import AuditAction
from worker.db import model_versions
from worker.db.tables import Promotion
from worker.errors import PromotionError
from worker.lifecycle import PromotionAction
from worker.settings import PREFIX
from worker.versions.choice import Origin as InUseBecause
from worker.versions.choice import choose, installed, standings
from worker.versions.gate import PromotionRefusedError
from worker.versions.locked_test_set import ON_OTHER_DATA, lock, open_test_set, require_locked

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from model.comparison import Comparison
    from model.registry import Registry, RegistryEntry
    from worker.audit.attempts import Attempt
    from worker.db.engine import Database
    from worker.db.tables import LockedTestSet, ModelVersionRow
    from worker.versions.choice import Standing
    from worker.versions.gate import Gate, PromotionRules, Report
    from worker.versions.locked_test_set import TestSet


@dataclass(frozen=True, slots=True)
class Promoted:
    """What came into use, and how.

    Attributes
    ----------
    number
        Number of the promotion or rollback.
    title, previous
        The version now in use, and the one before.
    comparison
        The grounds; None for a rollback, or where the version before could not be measured.
    reasons
        What the gate had against it and was overridden.
    """

    number: int
    title: str
    previous: str
    comparison: Comparison | None = None
    reasons: tuple[str, ...] = ()


class Promotions:
    """The promotions of one installation.

    Parameters
    ----------
    database
        Holds them.
    registry
        The versions on disk.
    rules
        The installation's settings.
    gate
        Measures versions.
    who
        Who asks; the user of the operating system by default.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        rules: PromotionRules,
        gate: Gate,
        who: str = "",
    ) -> None:
        self._database, self._registry, self._rules = database, registry, rules
        self._gate, self._who = gate, who or operating_system_user()

    def standings(self) -> list[Standing]:
        """List every version on disk or in the database, and where it stands."""
        with self._database.reading() as session:
            return standings(self._registry, session)

    def history(self) -> list[dict[str, Any]]:
        """List every promotion and rollback as JSON types, oldest first."""
        with self._database.reading() as session:
            return [
                {
                    "number": step.number,
                    "at": step.at,
                    "action": step.action.value,
                    "version": _title(step.model_version),
                    "previous": _title(step.previous),
                    "who": step.who,
                    "reason": step.reason,
                    "overridden": step.overridden,
                    "against": (step.comparison or {}).get("reasons", []),
                    "test_set": step.test_set_id,
                }
                for step in model_versions.history(session)
            ]

    def register(self, entry: RegistryEntry) -> None:
        """Put a version into the database, as a candidate, after checking its weights.

        Raises
        ------
        PromotionError
            If its name was registered with other weights or another manifest.
        RegistryError, ModelIntegrityError
            If its weights are not what its manifest says.
        """
        entry.verified_weights()
        with self._database.transaction() as session:
            model_versions.register(session, entry.model_version, entry.manifest_sha256)

    def in_use(self) -> RegistryEntry:
        """Return the version that screens, pinned or not.

        Raises
        ------
        RegistryError, ModelIntegrityError
            As `worker.versions.choice.choose`.
        """
        with self._database.reading() as session:
            return choose(self._registry, self._rules.pin, session).entry

    def compare(
        self,
        current: RegistryEntry,
        candidate: RegistryEntry,
        report: Report,
        data: Path | None = None,
    ) -> Comparison:
        """Compare two versions on the locked test set, or on the test rows of another manifest.

        Parameters
        ----------
        current, candidate
            The version to be beaten, and the one that wants its place.
        report
            Told the stage and its finished share, 0 to 1.
        data
            Another manifest.

        Raises
        ------
        PromotionError
            If there is no locked test set and no other manifest, or it was changed.
        RegistryError, ModelIntegrityError
            If a version is damaged.
        DatasetError, EvaluationError
            If the images cannot be read, or an output is not a number.
        """
        test_set = open_test_set(
            data or self._rules.locked_test_set,
            ", so nothing to compare on",
            ON_OTHER_DATA,
            pseudonym_key=self._rules.pseudonym_key,
        )
        if data is None:
            self._require_locked(test_set)
        return self._gate.measure(test_set, current, candidate, report)

    def promote(self, which: str, report: Report, override: str = "") -> Promoted:
        """Bring a version into use.

        Parameters
        ----------
        which
            Its name-version or sha256.
        report
            Told the stage and its finished share, 0 to 1.
        override
            Why it is promoted although the gate refuses it; empty: it is not.

        Raises
        ------
        PromotionError
            If a version is pinned, it is in use already, there is no locked test set or that was
            changed or shares something with its training data, or the gate refuses it.
        RegistryError, ModelIntegrityError
            If the version is not there or damaged.
        """
        override = override.strip()
        action = AuditAction.MODEL_PROMOTED
        with attempt(self._database, action, override=bool(override)) as tried:
            self._refuse_pin()
            candidate = self._registry.get(which)
            tried.detail["model"] = candidate.title
            return self._promote(candidate, report, override)

    def _promote(self, candidate: RegistryEntry, report: Report, override: str) -> Promoted:
        with self._database.reading() as session:
            before = model_versions.generation(session)
        current = self._to_be_replaced(candidate)
        rules = self._rules
        test_set = open_test_set(rules.locked_test_set, pseudonym_key=rules.pseudonym_key)
        locked = self._require_locked(test_set)
        test_set.refuse_seen_by(candidate)
        self._gate.require_screens(candidate)
        comparison, reasons = self._gate.judge(test_set, current, candidate, report)
        if reasons and not override:
            raise PromotionRefusedError(candidate.title, reasons, comparison)
        with self._database.transaction() as session:
            row = model_versions.register(
                session, candidate.model_version, candidate.manifest_sha256
            )
            previous = self._row_in_use(session, current)
            promotion = Promotion(
                action=PromotionAction.PROMOTED,
                model_version_id=row.id,
                previous_id=previous.id,
                who=self._who,
                reason=override,
                overridden=bool(reasons),
                test_set_id=locked.id,
                comparison=(comparison.document() if comparison else {"reasons": list(reasons)}),
            )
            model_versions.record(session, promotion, before)
            self._log(session, AuditAction.MODEL_PROMOTED, promotion, candidate.title)
        return Promoted(
            promotion.number,
            candidate.title,
            _title(previous),
            comparison,
            tuple(reasons),
        )

    def rollback(self, reason: str = "") -> Promoted:
        """Go back to the version that was in use before the present one.

        Raises
        ------
        PromotionError
            If a version is pinned, or there is nothing to go back to.
        RegistryError, ModelIntegrityError
            If the version to go back to is not there or damaged.
        """
        with attempt(self._database, AuditAction.MODEL_ROLLED_BACK) as tried:
            self._refuse_pin()
            return self._rollback(reason, tried)

    def _rollback(self, reason: str, tried: Attempt) -> Promoted:
        with self._database.reading() as session:
            before, versions = model_versions.generation(session), model_versions.stack(session)
            if len(versions) < 2:
                raise PromotionError(
                    "nothing to go back to: no promotion is in force (`lungwatch model list`)"
                )
            *_, target, current = versions
            tried.detail["model"] = _title(target)
            entry = installed(self._registry, target)
        if entry is None:
            raise RegistryError(
                f"{_title(target)} (sha256 {target.sha256[:12]}) is what a rollback "
                f"goes back to, but no model folder holds it: put it back into {PREFIX}MODEL_DIR"
            )
        entry.verified_weights()
        with self._database.transaction() as session:
            promotion = Promotion(
                action=PromotionAction.ROLLED_BACK,
                model_version_id=target.id,
                previous_id=current.id,
                who=self._who,
                reason=reason.strip(),
                overridden=False,
            )
            model_versions.record(session, promotion, before)
            self._log(session, AuditAction.MODEL_ROLLED_BACK, promotion, entry.title)
        return Promoted(promotion.number, entry.title, _title(current))

    def lock_test_set(self, reason: str) -> LockedTestSet:
        """Put the test set of the settings into force, whatever was locked before.

        Raises
        ------
        PromotionError
            If none is set, nothing in it is marked as test, or no reason is given.
        """
        with attempt(self._database, AuditAction.TEST_SET_LOCKED) as tried:
            test_set = open_test_set(self._rules.locked_test_set, ", so nothing to lock")
            tried.detail["sha256"] = test_set.sha256
            return self._lock(test_set, reason)

    def _lock(self, test_set: TestSet, reason: str) -> LockedTestSet:
        with self._database.transaction() as session:
            before = model_versions.locked_test_set(session)
            if before is not None and before.sha256 != test_set.sha256 and not reason.strip():
                raise PromotionError(
                    "another test set is locked: say with --reason why it is replaced, since "
                    "figures on the two cannot be compared"
                )
            if before is not None and before.sha256 == test_set.sha256:
                return before
            acted(session, AuditAction.TEST_SET_LOCKED, sha256=test_set.sha256)
            return lock(session, test_set, self._who, reason.strip() or "first use")

    def _require_locked(self, test_set: TestSet) -> LockedTestSet:
        with self._database.transaction() as session:
            if model_versions.locked_test_set(session) is None:
                acted(session, AuditAction.TEST_SET_LOCKED, sha256=test_set.sha256)
            return require_locked(session, test_set, self._who)

    def _refuse_pin(self) -> None:
        if self._rules.pin is not None:
            raise PromotionError(
                f"{PREFIX}MODEL pins {self._rules.pin}: workers would not look at a promotion. "
                "Remove the setting, start the workers again, and promote then"
            )

    def _to_be_replaced(self, candidate: RegistryEntry) -> RegistryEntry | None:
        """Return the version in use, None if it is damaged or gone."""
        with self._database.reading() as session:
            try:
                choice = choose(self._registry, None, session)
                choice.entry.verified_weights()
            except RegistryError:
                return None
        if choice.origin is InUseBecause.PROMOTED and choice.entry == candidate:
            raise PromotionError(f"{candidate.title} is in use already")
        return choice.entry

    def _row_in_use(self, session: Session, current: RegistryEntry | None) -> ModelVersionRow:
        row = model_versions.current(session)
        if row is not None:
            return row
        # Before the first promotion nothing says what screens: it is the newest that is shipped.
        shipped = current or self._registry.newest_shipped()
        return model_versions.register(session, shipped.model_version, shipped.manifest_sha256)

    def _log(self, session: Session, action: AuditAction, promotion: Promotion, title: str) -> None:
        acted(
            session,
            action,
            model=title,
            number=promotion.number,
            overridden=promotion.overridden,
        )


def operating_system_user() -> str:
    """Name who runs this process, and where; containers may have no name for him."""
    # Of the account, not of an environment variable.
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def _title(row: ModelVersionRow) -> str:
    return f"{row.name}-{row.version}"
