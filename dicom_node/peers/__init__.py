"""Peers that take results: a PACS by C-STORE or a DICOMweb service by STOW-RS."""

from __future__ import annotations

from dicom_node.config import Destination, DicomWebDestination
from dicom_node.peers.contract import OutgoingObject, Peer, StoreOutcome

__all__ = ["OutgoingObject", "Peer", "StoreOutcome", "open_peer"]


def open_peer(destination: Destination) -> Peer:
    """Make the peer of a destination; nothing is connected before it is asked to do something."""
    # Each costs an import of its own network library, and a process often needs only one.
    if isinstance(destination, DicomWebDestination):
        from dicom_node.peers.dicomweb import DicomWebPeer  # noqa: PLC0415

        return DicomWebPeer(destination)
    from dicom_node.peers.dimse import DimsePeer  # noqa: PLC0415

    return DimsePeer(destination)
