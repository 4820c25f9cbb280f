"""Authorities and certificates for a test, made by openssl as the operator's guide tells."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from support.services import require

from dicom_node.tls import TlsFiles

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


class Authority:
    """A certificate authority with a folder of its own.

    Parameters
    ----------
    folder
        Where its files go; made when absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        folder.mkdir(parents=True, exist_ok=True)
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.certificate),
            *("-days", "30", "-subj", f"/CN={folder.name}"),
        )

    def issue(self, name: str, *, days: int = 30, alternative: str = "") -> TlsFiles:
        """Issue a certificate for a common name; it believes this authority.

        Parameters
        ----------
        name
            Common name of its subject.
        days
            How long it is valid; negative ones are over.
        alternative
            Its Subject Alternative Name, for instance ``DNS:localhost,IP:127.0.0.1``.
        """
        request = self._folder / f"{name}.csr"
        key = self._folder / f"{name}.key"
        certificate = self._folder / f"{name}.pem"
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self._folder / f"{name}.cnf"
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        _openssl(
            *("x509", "-req", "-in", request, "-out", certificate, "-days", str(days)),
            *("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-extfile", extensions),
        )
        return TlsFiles(certificate=certificate, key=key, authorities=self.certificate)


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(
        [require("openssl"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
