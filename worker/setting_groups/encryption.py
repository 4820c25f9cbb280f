"""Settings of encryption."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class EncryptionSettings(BaseModel):
    """Encryption of DICOM connections: TLS with a certificate on both sides.

    The three files belong together. With them the listener takes nothing but TLS, and
    destinations may begin with ``dimse+tls://``.
    """

    tls_certificate: Path | None = Field(
        default=None,
        description=(
            "Our certificate in PEM, followed by those between it and its authority's. With it, "
            "LUNGWATCH_TLS_KEY and LUNGWATCH_TLS_AUTHORITIES the listener takes TLS only."
        ),
    )
    tls_key: Path | None = Field(
        default=None,
        description="Its private key in PEM, without a passphrase and closed to others.",
    )
    tls_authorities: Path | None = Field(
        default=None,
        description=(
            "Certificates in PEM of the authorities whose senders and destinations we believe."
        ),
    )
    listen_unencrypted: bool = Field(
        default=False,
        description=(
            "Whether the listener goes without TLS though there is a certificate, which then is "
            "for destinations only: true or false."
        ),
    )
