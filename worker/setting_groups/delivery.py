"""Settings of delivery."""

from __future__ import annotations

from pydantic import BaseModel, Field

from worker.setting_groups.types import CommaSeparated


class DeliverySettings(BaseModel):
    """Delivery: where results go and when a failed delivery is tried again."""

    destinations: CommaSeparated = Field(
        default=(),
        # It may hold passwords.
        repr=False,
        description=(
            "Where results go, separated by commas: dimse://AE_TITLE@host:port, "
            "dimse+tls://AE_TITLE@host:port (with ?server_name=... where its certificate names "
            "another host) or "
            "stow+https://user:password@host/dicom-web, the latter with ?token=... instead of a "
            "user or ?ca_bundle=FILE where need be. For both, ?commitment=query (the default) "
            "looks whether the destination finds a result (C-FIND, QIDO-RS) before it may be "
            "removed here, commitment=storage_commitment asks a DICOM one for its promise (PS3.4 "
            "annex J), commitment=none takes the answer to storing for it. Append #NAME to name "
            "one; otherwise its AE title or host does. Write @, / and # within a name or password "
            "as %40, %2F and %23."
        ),
    )
    delivery_retry_seconds: float = Field(
        default=30,
        gt=0,
        description=(
            "First pause before a failed delivery is tried again; doubles with each failure."
        ),
    )
    delivery_retry_maximum_seconds: float = Field(
        default=3600, gt=0, description="Longest pause between two tries of a delivery."
    )
    delivery_lease_seconds: float = Field(
        default=600,
        gt=0,
        description=(
            "Longest time sending one result may take; then it is sent again. A node that "
            "starts takes up what an earlier one left at once."
        ),
    )
    commitment_report_seconds: float = Field(
        default=600,
        gt=0,
        description=(
            "Time to wait for the report on a storage commitment request; without one it is made "
            "again, with a wait that doubles up to a day. With commitment=query, the time after "
            "which a delivered result that is not found is sent again."
        ),
    )
