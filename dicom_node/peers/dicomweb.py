"""STOW-RS client: sends objects to a DICOMweb service, and looks whether it has them (PS3.18)."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import (
    add_certs_to_session,
    create_session,
    create_session_from_user_pass,
)
from pydicom import Dataset

from dicom_node.errors import (
    PeerError,
    PeerNotReadyError,
    PeerRefusedError,
    PeerUnavailableError,
)
from dicom_node.peers.contract import OutgoingObject, StoreOutcome, outcome_of
from dicom_node.peers.http_deadline import limit_answers
from dicom_node.peers.retry import RetryingPeer
from dicom_node.status import StorageStatus, StoreVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydicom import FileDataset

    from dicom_node.commitment import StoredReference
    from dicom_node.config import DicomWebDestination

# Only these speak of the object that was sent (PS3.18 table 10.5.3-1); every other status is of
# the service or of a proxy before it.
_ABOUT_THE_OBJECT = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
_MAY_PASS_WITHIN_SECONDS = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_WAYS_OUT: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "check the user name and password, or the token",
    HTTPStatus.FORBIDDEN: "let our account store and search there",
    HTTPStatus.NOT_FOUND: "check the URL; it ends before /studies",
    HTTPStatus.METHOD_NOT_ALLOWED: "check the URL; what answers there does not store",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "let us pass its proxy",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "raise the limit on the body of a request there",
}


class DicomWebPeer(RetryingPeer):
    """A STOW-RS service, asked for each object in a request of its own.

    So each object gets its own answer. Its echo is a search for at most one study (QIDO-RS).

    Parameters
    ----------
    destination
        Where it is and how we authenticate.
    """

    def __init__(self, destination: DicomWebDestination) -> None:
        self._destination = destination

    def _echo(self) -> None:
        with self._client() as client, self._errors():
            client.search_for_studies(limit=1)

    def _store(
        self, objects: Sequence[OutgoingObject], datasets: Sequence[FileDataset]
    ) -> list[StoreOutcome]:
        outcomes: list[StoreOutcome] = []
        with self._client() as client:
            for item, dataset in zip(objects, datasets, strict=True):
                try:
                    with self._errors():
                        outcomes.append(_send(client, item.sop_instance_uid, dataset))
                except PeerNotReadyError as error:
                    outcomes.append(_not_stored(item, StoreVerdict.UNAVAILABLE, error))
                except PeerUnavailableError as error:
                    if not outcomes:
                        raise
                    outcomes.append(_not_stored(item, StoreVerdict.UNAVAILABLE, error))
                except PeerRefusedError as error:
                    outcomes.append(_not_stored(item, StoreVerdict.REFUSED, error))
        return outcomes

    def _find(self, objects: Sequence[StoredReference]) -> list[bool]:
        with self._client() as client, self._errors():
            return [_is_found(client, each) for each in objects]

    @contextmanager
    def _client(self) -> Iterator[Any]:
        there = self._destination
        if there.username is not None and there.password is not None:
            session = create_session_from_user_pass(there.username, there.password)
        else:
            session = create_session()
        # The environment's proxy is not for a PACS, its .netrc would replace our token, and its
        # certificates would win over ours.
        session.trust_env = False
        limit_answers(session)
        if there.token is not None:
            session.headers["Authorization"] = f"Bearer {there.token}"
        session.headers["Accept"] = "application/dicom+json"
        if there.ca_bundle is not None:
            session = add_certs_to_session(session, ca_bundle=str(there.ca_bundle))
        with session:
            timeout = (there.connect_timeout, there.response_timeout)
            client = DICOMwebClient(there.url, session=session, timeout=timeout)
            # Its own retries would multiply ours, and even none of them log each traceback.
            logging.getLogger("retrying").setLevel(logging.ERROR)
            client.set_http_retry_params(retry=False)
            yield client

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Translate what the HTTP library raises."""
        try:
            yield
        except requests.HTTPError as error:
            raise self._http_error(_answer(error).status_code) from error
        except requests.RequestException as error:
            # Its message may hold the URL's query; the type says enough.
            msg = self._describe(f"could not be reached ({type(error).__name__})")
            raise PeerUnavailableError(msg) from error

    def _http_error(self, code: int) -> PeerError:
        msg = self._describe(f"answered with HTTP {code}")
        if code in _ABOUT_THE_OBJECT:
            return PeerRefusedError(msg)
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _MAY_PASS_WITHIN_SECONDS:
            return PeerUnavailableError(msg)
        way_out = _WAYS_OUT.get(code, "check the URL and what stands before it")
        return PeerNotReadyError(f"{msg}: {way_out}")

    def _describe(self, what: str) -> str:
        return f"destination {self._destination.name} ({self._destination.url}) {what}"


def _send(client: Any, uid: str, dataset: FileDataset) -> StoreOutcome:  # noqa: ANN401
    """Store one object and read the Store Instances Response (PS3.18 table I.2-1)."""
    try:
        response = client.store_instances([dataset])
    except requests.HTTPError as error:
        if _answer(error).status_code != HTTPStatus.CONFLICT:
            raise
        # All instances failed: the body says why (PS3.18 section 10.5.3).
        response = _failure_body(_answer(error))
        if "FailedSOPSequence" not in response:
            raise
    for failed in response.get("FailedSOPSequence", []):
        return outcome_of(uid, int(failed.get("FailureReason", StorageStatus.CANNOT_UNDERSTAND)))
    for stored in response.get("ReferencedSOPSequence", []):
        return outcome_of(uid, int(stored.get("WarningReason", StorageStatus.SUCCESS)))
    return outcome_of(uid, StorageStatus.SUCCESS)


def _is_found(client: Any, wanted: StoredReference) -> bool:  # noqa: ANN401
    """Search for one instance (QIDO-RS, PS3.18 section 10.6)."""
    matches = client.search_for_instances(
        wanted.study_instance_uid,
        wanted.series_instance_uid,
        search_filters={"SOPInstanceUID": wanted.sop_instance_uid},
    )
    return any(match["00080018"]["Value"] == [wanted.sop_instance_uid] for match in matches)


def _answer(error: requests.HTTPError) -> requests.Response:
    return cast("requests.Response", error.response)


def _failure_body(response: requests.Response) -> Dataset:
    try:
        return Dataset.from_json(response.json())
    except (ValueError, TypeError, KeyError):
        return Dataset()


def _not_stored(item: OutgoingObject, verdict: StoreVerdict, error: PeerError) -> StoreOutcome:
    return StoreOutcome(item.sop_instance_uid, verdict, detail=str(error))
