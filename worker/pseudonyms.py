"""Stable names for patients and studies that only this installation can trace back."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING

from dicom_node.objects.pseudonymous_slices import Pseudonym
from worker.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_KEY_BYTES = 32
# 80 bits: nobody's name meets another's by chance.
_SHOWN_DIGITS = 20


class Pseudonyms:
    """Keyed hashes (HMAC-SHA-256) of identifiers.

    The key is made at the first use and never leaves the installation: without it a hash of a
    Patient ID could be undone by trying all of them.

    Parameters
    ----------
    path
        File of the key; readable by its owner alone.

    Raises
    ------
    SettingsError
        If the file cannot be read or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._key = _read_or_make(path)

    @classmethod
    def existing(cls, path: Path) -> Pseudonyms | None:
        """Read the key, None if it was never made: then nobody has a name from it."""
        try:
            path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        return cls(path)

    def of(self, patient_id: str, study_instance_uid: str) -> Pseudonym:
        """Name a study and its patient.

        Parameters
        ----------
        patient_id
            As the PACS has it; where it is empty, the study stands for a patient of its own.
        study_instance_uid
            The study.
        """
        patient = patient_id.strip() or f"study {study_instance_uid}"
        return Pseudonym(
            self._hash("patient", patient), self._hash("study", study_instance_uid.strip())
        )

    def patient_names(self, patient_id: str) -> frozenset[str]:
        """Give every name a patient may have in a manifest: the Patient ID, and ours for it."""
        return frozenset((patient_id, self.of(patient_id, "").patient))

    def _hash(self, kind: str, name: str) -> str:
        digest = hmac.new(self._key, f"{kind}\0{name}".encode(), hashlib.sha256)
        return digest.hexdigest()[:_SHOWN_DIGITS]


def _read_or_make(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _make(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(key) != _KEY_BYTES:
        raise SettingsError(
            f"{path} is not the key of pseudonyms: put it back from a backup, or patients get "
            "other names than in earlier training data"
        )
    return key


def _unreadable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"{path}, the key of pseudonyms, cannot be read ({error.strerror}): run this as the user "
        "that owns it"
    )


def _make(path: Path) -> bytes:
    """Make the key; of two processes that do so at once the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A link fails where the name is taken; a rename would replace the other's key.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()
