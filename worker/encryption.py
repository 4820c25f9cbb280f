"""The files of TLS among the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.tls import TlsFiles
from worker.errors import SettingsError
from worker.settings import PREFIX

if TYPE_CHECKING:
    from worker.settings import Settings


def tls_files(settings: Settings) -> TlsFiles | None:
    """Give the files of TLS, None where there are none.

    Raises
    ------
    SettingsError
        If one is set and another is not.
    """
    certificate, key, authorities = (
        settings.tls_certificate,
        settings.tls_key,
        settings.tls_authorities,
    )
    if certificate and key and authorities:
        return TlsFiles(certificate=certificate, key=key, authorities=authorities)
    names = ("TLS_CERTIFICATE", "TLS_KEY", "TLS_AUTHORITIES")
    files = dict(zip(names, (certificate, key, authorities), strict=True))
    missing = [PREFIX + name for name, path in files.items() if path is None]
    if len(missing) < len(files):
        raise SettingsError(
            f"{' and '.join(missing)} is not set: TLS takes a certificate, its key and the "
            "authorities of the senders."
        )
    return None
