import os
import subprocess
import sys

import pytest
from support.command import lungwatch

HEAVY = (
    "tensorflow keras numpy scipy pydicom pynetdicom highdicom sqlalchemy alembic celery redis "
    "pydantic pydantic_settings structlog PIL cv2"
)
COMMANDS = ("up", "node", "worker", "demo", "screen", "studies", "db", "doctor", "model", "train")


QUIETLY = "from worker.quiet_tensorflow import import_tensorflow_quietly as quietly; quietly(); "


def test_tensorflow_is_quiet_unless_it_fails():
    environment = {name: value for name, value in os.environ.items() if "TF_CPP" not in name}
    done = run_python(QUIETLY + "print('here')", environment)
    assert (done.stdout, done.stderr) == ("here\n", "")
    done = run_python("import sys; sys.modules['tensorflow'] = None; " + QUIETLY, environment)
    assert "import of tensorflow halted" in done.stderr


def test_somebody_who_set_a_level_hears_tensorflow():
    done = run_python(QUIETLY, {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"})
    assert done.returncode == 0
    assert done.stderr


def test_keras_loads_no_libraries_for_wrappers_that_nobody_uses():
    afterwards = "import sys; print(*sys.modules); import keras, matplotlib.figure, sklearn.svm"
    done = run_python(QUIETLY + afterwards, {**os.environ})
    assert done.returncode == 0, done.stderr
    assert {"sklearn", "matplotlib", "pandas"} & set(done.stdout.split()) == set()


def run_python(script, environment):
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, check=False
    )


def test_the_command_tree_loads_nothing_heavy():
    script = "import sys, worker.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(HEAVY.split()) & set(done.stdout.split()) == set()


def test_help_names_every_command():
    done = lungwatch("--help")
    assert done.code == 0
    assert [command for command in COMMANDS if f" {command} " not in done.stdout] == []


def test_version():
    done = lungwatch("--version")
    assert done.code == 0
    assert done.stdout.startswith("lungwatch 0.")


@pytest.mark.parametrize("arguments", [("screeen",), ("screen", "/tmp"), ("demo", "--study", "/-")])
def test_a_wrong_command_line_is_a_usage_error(arguments):
    assert lungwatch(*arguments).code == 2


def test_a_wrong_setting_is_one_sentence_that_names_it():
    done = lungwatch("studies", "list", listen_port="eleven")
    assert done.code == 3
    assert done.stdout == ""
    assert done.stderr.startswith("lungwatch: LUNGWATCH_LISTEN_PORT is wrong")
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback():
    done = lungwatch("--debug", "studies", "list", listen_port="eleven")
    assert done.code == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("service", ["node", "worker"])
def test_a_service_without_its_database_says_what_to_do(service, tmp_path):
    done = lungwatch(
        service,
        data_dir=tmp_path,
        broker_url="redis://127.0.0.1:1/0",
        allowed_calling_ae_titles="PACS",
        listen_port=0,
    )
    assert done.code == 9
    assert "lungwatch db upgrade" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code", "named"),
    [
        ({"allowed_calling_ae_titles": ""}, 3, "LUNGWATCH_ALLOWED_CALLING_AE_TITLES"),
        ({"destinations": "ftp://pacs"}, 3, "LUNGWATCH_DESTINATIONS"),
        ({"model": "no-such-model"}, 8, "no-such-model"),
    ],
)
def test_a_setting_that_only_a_part_would_trip_over_stops_the_start(tmp_path, fault, code, named):
    settings = {"allowed_calling_ae_titles": "PACS", "listen_port": 0, "data_dir": tmp_path}
    done = lungwatch("up", **{**settings, **fault})
    assert done.code == code
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
