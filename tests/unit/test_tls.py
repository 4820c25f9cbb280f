"""The files of TLS: each fault is told by name, and by nobody who is asked for a passphrase."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.certificates import Authority

from dicom_node.errors import ConfigurationError
from dicom_node.tls import (
    KEYS_OF_DECODED_CERTIFICATES,
    client_context,
    own_certificate,
    server_context,
)

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.tls import TlsFiles


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.issue("node", alternative="DNS:node.example,IP:127.0.0.1")


def test_only_what_the_profile_allows_is_negotiated(files: TlsFiles) -> None:
    for context in (server_context(files), client_context(files)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        for cipher in context.get_ciphers():
            assert cipher["protocol"] in {"TLSv1.2", "TLSv1.3"}
            assert cipher["aead"]
            assert cipher["kea"] in {"kx-ecdhe", "kx-any"}
    assert client_context(files).check_hostname


def test_our_certificate_is_read(files: TlsFiles) -> None:
    ours = own_certificate(files)
    assert ours.names == {"node", "node.example"}
    assert timedelta(29) < ours.not_after - datetime.now(UTC) < timedelta(31)
    printed = subprocess.run(
        ["openssl", "x509", "-in", files.certificate, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip().partition("=")[2].replace(":", "").lower() == ours.fingerprint


def test_the_keys_of_decoded_certificates_stay_with_the_interpreter(files: TlsFiles) -> None:
    decoded = ssl._ssl._test_decode_cert(str(files.certificate))  # type: ignore[attr-defined]
    held = {id(key) for key in KEYS_OF_DECODED_CERTIFICATES}
    assert "subjectAltName" in decoded
    assert {id(key) for key in decoded} <= held


def test_each_fault_names_its_file(authority: Authority, files: TlsFiles, tmp_path: Path) -> None:
    other = authority.issue("other")
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate\n")
    open_key = tmp_path / "open.key"
    shutil.copy(files.key, open_key)
    open_key.chmod(0o644)
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", files.key, "-out", locked, "-aes128", "-passout", "pass:x"]
    subprocess.run(command, check=True, capture_output=True)
    faults = {
        "cannot be read: No such file": replace(files, certificate=tmp_path / "none.pem"),
        "does not open the certificate": replace(files, key=other.key),
        "is open to everybody": replace(files, key=open_key),
        "it must have none": replace(files, key=locked),
        "authorities .* cannot be used": replace(files, authorities=garbage),
    }
    for message, faulty in faults.items():
        with pytest.raises(ConfigurationError, match=message):
            server_context(faulty)


def test_a_certificate_that_has_expired_is_told(authority: Authority) -> None:
    with pytest.raises(ConfigurationError, match="certificate has expired"):
        own_certificate(authority.issue("old", days=-1))
