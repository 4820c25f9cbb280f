"""What a retraining is asked: it is refused before anything is read or trained."""

import pytest

from model.errors import ConfigError
from worker.retraining.request import RetrainingRequest


@pytest.mark.parametrize("version", ["../../x", "/x", ".hidden", "1 0", "1.0\n"])
def test_a_version_that_leads_elsewhere_is_refused_at_once(tmp_path, version):
    with pytest.raises(ConfigError, match=r"version '.*letters, digits"):
        RetrainingRequest(str(tmp_path / "run"), version=version)
    assert RetrainingRequest(str(tmp_path / "run"), version="1.0.0-rc_1").version == "1.0.0-rc_1"
