"""Tables of the DICOM conformance statement, rendered from what the code really accepts.

``python -m dicom_node.conformance docs/conformance.md`` writes them into the document.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.uid import UID

from dicom_node.contexts import (
    CT_TRANSFER_SYNTAXES,
    RESULT_TRANSFER_SYNTAXES,
    STORED_ONLY_TRANSFER_SYNTAXES,
    VERIFICATION,
    accepted_sop_classes,
    accepted_transfer_syntaxes,
    sop_class_name,
)
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects.provenance import RESULT_SOP_CLASSES
from dicom_node.sop_classes import CT_SOP_CLASSES
from dicom_node.tls import CIPHER_SUITES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MARKED = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Render each table in Markdown, by the name its markers carry in the document."""
    return {
        "implementation": _table(
            ("item", "value"),
            (
                ("Application Context Name", "1.2.840.10008.3.1.1.1"),
                ("Implementation Class UID", str(IMPLEMENTATION_CLASS_UID)),
                ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
            ),
        ),
        "accepted-classes": _table(
            ("SOP class", "SOP class UID", "transfer syntaxes", "use"),
            [
                (
                    sop_class_name(VERIFICATION),
                    VERIFICATION,
                    "uncompressed little endian",
                    "answered",
                ),
                *(_accepted_row(uid) for uid in _screened_first(accepted_sop_classes())),
            ],
        ),
        "ct-syntaxes": _syntaxes(CT_TRANSFER_SYNTAXES),
        "stored-only-syntaxes": _syntaxes(STORED_ONLY_TRANSFER_SYNTAXES),
        "proposed-classes": _table(
            ("SOP class", "SOP class UID", "transfer syntaxes, each in a context of its own"),
            [
                (sop_class_name(uid), uid, ", ".join(s.name for s in RESULT_TRANSFER_SYNTAXES))
                for uid in (VERIFICATION, *sorted(RESULT_SOP_CLASSES))
            ],
        ),
        "tls": _table(
            ("TLS", "value"),
            (
                ("versions", "1.2 and 1.3, the latter preferred"),
                ("cipher suites of TLS 1.2", ", ".join(CIPHER_SUITES)),
                ("cipher suites of TLS 1.3", "all of RFC 8446 that OpenSSL offers by default"),
                ("renegotiation, compression, session resumption", "none"),
                ("certificates", "X.509, demanded of both sides and checked against our list"),
                ("name in the certificate of a destination", "that of its host, or server_name"),
                ("keys, curves and signatures", "as OpenSSL allows at its security level"),
            ),
        ),
    }


def fill(document: str) -> str:
    """Put the tables between their markers.

    Raises
    ------
    KeyError
        If the document names a table that is none.
    """
    rendered = tables()
    return _MARKED.sub(lambda found: found[1] + rendered[found[2]] + found[3], document)


def _screened_first(classes: Iterable[str]) -> list[str]:
    return sorted(classes, key=lambda uid: (uid not in CT_SOP_CLASSES, UID(uid).is_private, uid))


def _accepted_row(uid: str) -> tuple[str, str, str, str]:
    measured = accepted_transfer_syntaxes(uid) == CT_TRANSFER_SYNTAXES
    use = "screened" if uid in CT_SOP_CLASSES else "stored"
    return sop_class_name(uid), uid, "list 1" if measured else "lists 1 and 2", use


def _syntaxes(uids: Sequence[UID]) -> str:
    return _table(("transfer syntax", "UID"), [(uid.name, uid) for uid in uids])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
