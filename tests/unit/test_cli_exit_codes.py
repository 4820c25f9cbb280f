import pytest
from sqlalchemy.exc import OperationalError

from dicom_node.errors import ConfigurationError, PeerUnavailableError, RefusedError
from dicom_node.reasons import Reason
from model.errors import ModelIntegrityError, NoLungError
from worker.cli.exit_codes import MEANINGS, ExitCode, exit_code_of
from worker.embedded.errors import EmbeddedServiceError
from worker.errors import (
    FolderError,
    NotFoundError,
    SchemaOutdatedError,
    SettingsError,
    TransitionError,
    WorkerError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.SETTINGS),
        (ConfigurationError("x"), ExitCode.SETTINGS),
        (FolderError("x"), ExitCode.USAGE),
        (RefusedError(Reason.NOT_CHEST, "x"), ExitCode.REFUSED),
        (NoLungError("x"), ExitCode.REFUSED),
        (NotFoundError("x"), ExitCode.NOT_FOUND),
        (PeerUnavailableError("x"), ExitCode.UNAVAILABLE),
        (EmbeddedServiceError("x"), ExitCode.UNAVAILABLE),
        (OperationalError("select", {}, OSError("x")), ExitCode.UNAVAILABLE),
        (TransitionError("x"), ExitCode.STATE),
        (ModelIntegrityError("x"), ExitCode.MODEL),
        (SchemaOutdatedError("x"), ExitCode.SCHEMA),
        (WorkerError("x"), ExitCode.FAILED),
        (ZeroDivisionError(), ExitCode.FAILED),
    ],
)
def test_exit_code_of_an_error(error, code):
    assert exit_code_of(error) is code


def test_every_exit_code_has_a_meaning():
    assert set(MEANINGS) == set(ExitCode)
