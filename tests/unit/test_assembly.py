"""When a study is complete, and what makes a set of instances another one."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from support.ct_headers import make_series

from dicom_node.reading.assembly import group_by_series, series_digest_of_headers, settles_at

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def test_the_moment_of_settling_is_known_before():
    assert settles_at(NOON, 90) == NOON + timedelta(seconds=90)


def test_the_digest_depends_on_the_set_alone():
    headers = make_series(slices=20)
    digest = series_digest_of_headers(headers)
    shuffled = random.Random(1).sample(headers, len(headers))  # noqa: S311 - no secret
    assert series_digest_of_headers(shuffled) == digest
    assert series_digest_of_headers([*headers, headers[3]]) == digest
    assert series_digest_of_headers(headers[1:]) != digest
    assert series_digest_of_headers([replace(headers[0], content_sha256="ab"), *headers[1:]]) != (
        digest
    )


def test_series_are_grouped_in_an_order_of_their_own():
    headers = [*make_series("1.2.9", 5), *make_series("1.2.8", 5)]
    groups = group_by_series(reversed(headers))
    assert list(groups) == ["1.2.8", "1.2.9"]
    assert [h.instance_number for h in groups["1.2.9"]] == [1, 2, 3, 4, 5]
