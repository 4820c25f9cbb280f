"""Identity, UIDs and recognition of results."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from pydicom.uid import UID, CTImageStorage, SegmentationStorage
from support.synthetic_result import MODEL, context_of, tiny_series

from dicom_node.errors import ConfigurationError
from dicom_node.objects.provenance import (
    MANUFACTURER,
    MODEL_NAME,
    Equipment,
    ResultIdentity,
    UidRole,
    derive_uid,
    is_own_result,
)

IDENTITY = ResultIdentity("series", "model", "pipeline")
MORNING = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


@dataclass(frozen=True)
class ForeignHeader:
    manufacturer: str | None = MANUFACTURER
    manufacturer_model_name: str | None = MODEL_NAME
    sop_class_uid: str = SegmentationStorage


@pytest.mark.parametrize("root", ["2.25.", "1.2.826.0.1.3680043.10.1234.", "0." * 19 + "12."])
def test_derived_uids_are_valid_and_keep_their_root(root):
    uid = UID(derive_uid(root, IDENTITY, "wording", UidRole.REPORT))

    assert uid.is_valid
    assert uid.startswith(root)


def test_a_uid_never_changes_between_releases():
    # Written down once: another value would give every result in every PACS a second copy.
    uuid_based = "2.25.37757112851907373272967250046036809366"
    rooted = "1.2.3.8854102567439937183110151964074079440030508275800403727903"

    assert derive_uid("2.25.", IDENTITY, "wording", UidRole.REPORT) == uuid_based
    assert derive_uid("1.2.3.", IDENTITY, "wording", UidRole.REPORT) == rooted


def test_the_uuid_root_gives_a_name_based_uuid():
    number = int(derive_uid("2.25.", IDENTITY, "wording", UidRole.REPORT).removeprefix("2.25."))

    assert number >> 76 & 0xF == 8, "version 8 (RFC 9562)"
    assert number >> 62 & 0x3 == 2, "variant"


def test_every_part_of_the_identity_makes_another_uid():
    changed = [
        derive_uid("2.25.", IDENTITY, "wording", UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, series_digest="other"), "wording", UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, model_sha256="other"), "wording", UidRole.REPORT),
        derive_uid("2.25.", replace(IDENTITY, pipeline_digest="other"), "wording", UidRole.REPORT),
        derive_uid("2.25.", IDENTITY, "other", UidRole.REPORT),
        derive_uid("2.25.", IDENTITY, "wording", UidRole.SEGMENTATION),
        derive_uid("2.25.", IDENTITY, "wording", UidRole.REPORT, revision=2),
        derive_uid("2.25.", IDENTITY, "wording", UidRole.REPORT, index=1),
    ]

    assert len(set(changed)) == len(changed)


@pytest.mark.parametrize(
    "changes",
    [
        {"equipment": Equipment("0.1.0", station_name="NODE2")},
        {"equipment": Equipment("0.1.0", station_name="NODE1", institution_name="Elsewhere")},
        {"equipment": Equipment("0.1.1", station_name="NODE1")},
        {"created_at": MORNING.astimezone(ZoneInfo("Asia/Tokyo"))},
        {"model": replace(MODEL, version="0.1.1")},
        {"revision": 2},
    ],
)
def test_what_the_objects_say_otherwise_makes_another_uid(changes):
    series = tiny_series()
    usual = {"created_at": MORNING}

    first = context_of(series, **usual).uid(UidRole.REPORT)
    assert first == context_of(series, **usual).uid(UidRole.REPORT)
    assert first != context_of(series, **usual | changes).uid(UidRole.REPORT)


def test_two_cities_on_one_clock_write_the_same_result():
    paris, berlin = (
        context_of(tiny_series(), created_at=MORNING.astimezone(ZoneInfo(zone)))
        for zone in ("Europe/Paris", "Europe/Berlin")
    )

    assert paris.uid(UidRole.REPORT) == berlin.uid(UidRole.REPORT)


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
    recalibrated = replace(context.model, version="0.1.1")
    assert context.device_uid != context_of(series, model=recalibrated).device_uid


def test_only_our_objects_are_our_results():
    assert is_own_result(ForeignHeader())
    assert not is_own_result(ForeignHeader(manufacturer="OHIF"))
    assert not is_own_result(ForeignHeader(manufacturer_model_name=None))
    assert not is_own_result(ForeignHeader(sop_class_uid=CTImageStorage))
