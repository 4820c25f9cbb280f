"""Identity, UIDs and recognition of results."""

from dataclasses import dataclass, replace

import pytest
from pydicom.uid import UID, CTImageStorage, SegmentationStorage
from support.synthetic_result import context_of, tiny_series

from dicom_node.errors import ConfigurationError
from dicom_node.provenance import (
    MANUFACTURER,
    MODEL_NAME,
    ResultIdentity,
    UidRole,
    derive_uid,
    is_own_result,
)

IDENTITY = ResultIdentity("series", "model", "pipeline")


@dataclass(frozen=True)
class ForeignHeader:
    manufacturer: str | None = MANUFACTURER
    manufacturer_model_name: str | None = MODEL_NAME
    sop_class_uid: str = SegmentationStorage


@pytest.mark.parametrize("root", ["2.25.", "1.2.826.0.1.3680043.10.1234.", "0." * 19 + "12."])
def test_derived_uids_are_valid_and_keep_their_root(root):
    uid = UID(derive_uid(root, IDENTITY, UidRole.REPORT))

    assert uid.is_valid
    assert uid.startswith(root)


def test_a_uid_never_changes_between_releases():
    # Written down once: another value would give every result in every PACS a second copy.
    uuid_based = "2.25.77133755793260085836114613813535600506"
    rooted = "1.2.3.2880774180641207525871586409894634892057372513018511984120"

    assert derive_uid("2.25.", IDENTITY, UidRole.REPORT) == uuid_based
    assert derive_uid("1.2.3.", IDENTITY, UidRole.REPORT) == rooted


def test_the_uuid_root_gives_a_name_based_uuid():
    number = int(derive_uid("2.25.", IDENTITY, UidRole.REPORT).removeprefix("2.25."))

    assert number >> 76 & 0xF == 8, "version 8 (RFC 9562)"
    assert number >> 62 & 0x3 == 2, "variant"


def test_every_part_of_the_identity_makes_another_uid():
    changed = [
        derive_uid("2.25.", IDENTITY, UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, series_digest="other"), UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, model_sha256="other"), UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, pipeline_digest="other"), UidRole.REPORT),
        derive_uid("2.25.", IDENTITY, UidRole.SEGMENTATION),
        derive_uid("2.25.", IDENTITY, UidRole.REPORT, revision=2),
        derive_uid("2.25.", IDENTITY, UidRole.REPORT, index=1),
    ]

    assert len(set(changed)) == len(changed)


@pytest.mark.parametrize("root", ["", "2.25", "3.1.", "1.02.", "1..2.", "a.b.", "1." * 21])
def test_a_root_that_cannot_begin_a_uid_is_refused_by_name(root):
    with pytest.raises(ConfigurationError, match="UID root"):
        context_of(tiny_series(), uid_root=root)


def test_another_model_is_another_device():
    series = tiny_series()
    context = context_of(series)
    retrained = replace(context.model, sha256="0" * 64)

    assert context.device_uid == context_of(series, revision=2).device_uid
    assert context.device_uid != context_of(series, model=retrained).device_uid


def test_only_our_objects_are_our_results():
    assert is_own_result(ForeignHeader())
    assert not is_own_result(ForeignHeader(manufacturer="OHIF"))
    assert not is_own_result(ForeignHeader(manufacturer_model_name=None))
    assert not is_own_result(ForeignHeader(sop_class_uid=CTImageStorage))
