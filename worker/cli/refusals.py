"""What the listener turned away, on the terminal and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.uid import UID

from dicom_node.contexts import sop_class_name
from worker.cli.output import print_table
from worker.explanations import explain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def refusal_document(note: Mapping[str, Any]) -> dict[str, Any]:
    """Add the reason in words, what to do, and the names of UIDs to a noted refusal.

    Parameters
    ----------
    note
        Detail of the event, which is a `dicom_node.receiving.refusals.RefusalNote`.
    """
    explanation = explain(note["reason"])
    sop_class = note.get("sop_class_uid")
    return {
        **note,
        "reason_in_words": explanation.words,
        "remedy": explanation.remedy,
        "sop_class": sop_class_name(sop_class) if sop_class else None,
        "transfer_syntaxes": [UID(uid).name for uid in note.get("transfer_syntax_uids", ())],
    }


def print_refusals(rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    """Print refusals (`refusal_document`), and below them what to do about each kind."""
    columns = ("when", "calling AE", "address", "why", "SOP class", "transfer syntaxes")
    title = f"{len(rows)} refused" + ("; --limit shows more" if len(rows) == limit else "")
    cells = [
        (
            row["time"].split(".")[0].replace("T", " "),
            row["calling_ae_title"],
            row["peer_address"],
            row["reason_in_words"],
            row["sop_class"],
            ", ".join(row["transfer_syntaxes"]),
        )
        for row in rows
    ]
    print_table(title, columns, cells)
    remedies = {row["reason_in_words"]: row["remedy"] for row in rows}
    if remedies:
        print_table("What to do", ("why", "remedy"), list(remedies.items()))
