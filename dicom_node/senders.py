"""Who may send: AE titles, bound to an address and to a certificate."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dicom_node.tls import Certificate

ANY_AE_TITLE = "*"

_FINGERPRINT = "sha256:"
_SHA256 = re.compile(r"[0-9a-f]{64}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Admission(Enum):
    """Whether a caller is one of the senders, or what of it is not."""

    ADMITTED = "admitted"
    WRONG_AE_TITLE = "AE title"
    WRONG_ADDRESS = "address"
    WRONG_CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Sender:
    """One that may send.

    Attributes
    ----------
    ae_title
        Its AE title; ``"*"`` is any.
    network
        Where it calls from; None is anywhere.
    certificate
        A name its certificate has to carry, or ``sha256:`` and its fingerprint in lower-case
        hexadecimal; None takes every certificate of our authorities.
    """

    ae_title: str
    network: Network | None = None
    certificate: str | None = None

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Parse ``AE_TITLE[@ADDRESS-or-NETWORK][#CERTIFICATE]``.

        Within an AE title @, # and % are written %40, %23 and %25.

        Raises
        ------
        ConfigurationError
            Saying what is wrong with the entry.
        """
        caller, has_certificate, certificate = entry.partition("#")
        title, has_network, network = caller.partition("@")
        ae_title = unquote(title) if "%" in title else title
        if ae_title != ANY_AE_TITLE:
            check_ae_title("allowed_calling_ae_titles", ae_title)
        return cls(
            ae_title,
            _network(entry, network) if has_network else None,
            _certificate(entry, certificate) if has_certificate else None,
        )

    @property
    def is_anybody(self) -> bool:
        """Whether it takes every caller."""
        return self == Sender(ANY_AE_TITLE)


def admit(
    senders: Iterable[Sender], ae_title: str, address: Address, certificate: Certificate | None
) -> Admission:
    """Decide whether a caller may send.

    Parameters
    ----------
    senders
        Those who may. Of several with one AE title each is a way in.
    ae_title, address
        What it calls itself, and where it calls from.
    certificate
        What it has shown, verified; None without TLS.

    Returns
    -------
    Admission
        For one turned away, what of it did not fit, of the sender that fitted best.
    """
    known = [sender for sender in senders if sender.ae_title in {ANY_AE_TITLE, ae_title}]
    if not known:
        return Admission.WRONG_AE_TITLE
    there = [sender for sender in known if sender.network is None or address in sender.network]
    if not there:
        return Admission.WRONG_ADDRESS
    if not any(_fits(sender.certificate, certificate) for sender in there):
        return Admission.WRONG_CERTIFICATE
    return Admission.ADMITTED


def parse_address(text: str) -> Address:
    """Parse an address of a socket; IPv4 within IPv6 is the IPv4 address it stands for."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def check_ae_title(setting: str, title: str) -> None:
    """Hold an AE title to its value representation (PS3.5 section 6.2, AE).

    Raises
    ------
    ConfigurationError
        Naming the setting.
    """
    printable = title.isascii() and title.isprintable() and "\\" not in title
    if not printable or not 1 <= len(title) <= 16 or title != title.strip():
        msg = (
            f"{setting} must be 1 to 16 printable ASCII characters without a backslash and "
            f"without spaces around it, got {title!r}."
        )
        raise ConfigurationError(msg)


def _fits(wanted: str | None, shown: Certificate | None) -> bool:
    if wanted is None:
        return True
    if shown is None:
        return False
    if wanted.startswith(_FINGERPRINT):
        # Never a name: whoever asks our authorities for a certificate may choose its names.
        return wanted == _FINGERPRINT + shown.fingerprint
    return wanted in shown.names


def _network(entry: str, text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        msg = (
            f"allowed_calling_ae_titles has {entry!r}: what follows @ is no address or network, "
            f"such as 10.1.2.3 or 10.1.2.0/24 ({error})."
        )
        raise ConfigurationError(msg) from None


def _certificate(entry: str, text: str) -> str:
    if not text.lower().startswith(_FINGERPRINT):
        if text and text == text.strip():
            return text
        msg = f"allowed_calling_ae_titles has {entry!r}: no certificate's name follows the #."
        raise ConfigurationError(msg)
    digits = text[len(_FINGERPRINT) :].replace(":", "").lower()
    if not _SHA256.fullmatch(digits):
        msg = (
            f"allowed_calling_ae_titles has {entry!r}: a fingerprint is sha256: and 64 "
            "hexadecimal digits."
        )
        raise ConfigurationError(msg)
    return _FINGERPRINT + digits
