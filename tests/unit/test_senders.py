"""Who may send: what an entry says, and whom it lets in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dicom_node.errors import ConfigurationError
from dicom_node.senders import Admission, Sender, admit, parse_address
from dicom_node.tls import Certificate

DIGEST = "ab" * 32
COLONS = ":".join(["AB"] * 32)
SHOWN = Certificate(frozenset({"ct1.example"}), DIGEST, datetime(2030, 1, 1, tzinfo=UTC))
NAMED_LIKE_IT = replace(SHOWN, names=frozenset({f"sha256:{DIGEST}"}), fingerprint="00" * 32)


@pytest.mark.parametrize(
    ("entry", "ae_title", "network", "certificate"),
    [
        ("CT1", "CT1", None, None),
        ("*", "*", None, None),
        ("CT1@10.1.2.3", "CT1", "10.1.2.3/32", None),
        ("CT1@10.1.2.0/24", "CT1", "10.1.2.0/24", None),
        ("CT1@2001:db8::/32", "CT1", "2001:db8::/32", None),
        ("*@10.1.2.3#ct1.example", "*", "10.1.2.3/32", "ct1.example"),
        (f"CT1#sha256:{COLONS}", "CT1", None, f"sha256:{DIGEST}"),
        ("CT 1@10.1.2.3#CT of room 1", "CT 1", "10.1.2.3/32", "CT of room 1"),
        ("CT%401%23%25", "CT@1#%", None, None),
    ],
)
def test_entries(entry: str, ae_title: str, network: str | None, certificate: str | None) -> None:
    sender = Sender.parse(entry)
    assert sender.ae_title == ae_title
    assert (sender.network and str(sender.network)) == network
    assert sender.certificate == certificate
    assert sender.is_anybody == (entry == "*")


@pytest.mark.parametrize(
    "entry",
    ["", "@10.0.0.1", "CT1@", "CT1@pacs", "CT1@10.0.0.1/24", "CT1#", "CT1# x", "CT1#sha256:ab"],
)
def test_an_entry_that_says_nothing_clear_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed_calling_ae_titles"):
        Sender.parse(entry)


@pytest.mark.parametrize(
    ("entries", "ae_title", "address", "shown", "outcome"),
    [
        (["CT1"], "CT1", "10.0.0.1", None, Admission.ADMITTED),
        (["CT1"], "ct1", "10.0.0.1", None, Admission.WRONG_AE_TITLE),
        (["*"], "ANY", "10.0.0.1", None, Admission.ADMITTED),
        (["CT1@10.0.0.0/8"], "CT1", "10.0.0.1", None, Admission.ADMITTED),
        (["CT1@10.0.0.0/8"], "CT1", "11.0.0.1", None, Admission.WRONG_ADDRESS),
        (["CT1@10.0.0.0/8"], "CT1", "::ffff:10.0.0.1", None, Admission.ADMITTED),
        (["CT1@10.0.0.0/8"], "CT1", "2001:db8::1", None, Admission.WRONG_ADDRESS),
        (["CT1@10.0.0.1", "CT1@10.0.0.2"], "CT1", "10.0.0.2", None, Admission.ADMITTED),
        (["CT1#ct1.example"], "CT1", "10.0.0.1", SHOWN, Admission.ADMITTED),
        (["CT1#CT1.EXAMPLE"], "CT1", "10.0.0.1", SHOWN, Admission.WRONG_CERTIFICATE),
        (["CT1#ct1.example"], "CT1", "10.0.0.1", None, Admission.WRONG_CERTIFICATE),
        ([f"CT1#sha256:{COLONS}"], "CT1", "10.0.0.1", SHOWN, Admission.ADMITTED),
        # A fingerprint is the certificate's own, never a name that somebody chose for it.
        ([f"CT1#sha256:{DIGEST}"], "CT1", "10.0.0.1", NAMED_LIKE_IT, Admission.WRONG_CERTIFICATE),
        # The one entry has the address right and the other the certificate: neither lets in.
        (["CT1@10.0.0.1#x", "CT1@10.0.0.2#ct1.example"], "CT1", "10.0.0.1", SHOWN,
         Admission.WRONG_CERTIFICATE),
    ],
)  # fmt: skip
def test_who_comes_in(
    entries: list[str],
    ae_title: str,
    address: str,
    shown: Certificate | None,
    outcome: Admission,
) -> None:
    senders = [Sender.parse(entry) for entry in entries]
    assert admit(senders, ae_title, parse_address(address), shown) is outcome
