"""The running product, shared by the end-to-end tests that only send to it."""

import pytest
from support.system import System


@pytest.fixture(scope="session")
def embedded_system(tmp_path_factory):
    """`lungwatch up` and an Orthanc that routes to it."""
    with System(tmp_path_factory.mktemp("embedded")) as system:
        yield system
