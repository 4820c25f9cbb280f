from support.command import lungwatch

from worker.db.engine import Database


def test_a_new_database_is_upgraded_and_then_current(tmp_path):
    before = lungwatch("db", "check", data_dir=tmp_path)
    assert before.code == 9
    assert "lungwatch db upgrade" in before.stdout
    assert lungwatch("db", "upgrade", data_dir=tmp_path).code == 0
    after = lungwatch("db", "check", "--json", data_dir=tmp_path)
    assert after.code == 0
    assert after.json["up_to_date"] is True


def test_whoever_makes_the_database_closes_its_folder_to_other_users(tmp_path):
    made, restored, file = tmp_path / "made", tmp_path / "restored", tmp_path / "backup.zip"
    for folder in (made, restored):
        folder.mkdir()
        folder.chmod(0o755)
    for folder, command in (
        (made, ["upgrade"]),
        (made, ["backup", file]),
        (restored, ["restore", file]),
    ):
        done = lungwatch("db", *command, data_dir=folder)
        assert done.code == 0, done.stderr
        assert folder.stat().st_mode & 0o777 == 0o700


def test_postgresql_is_upgraded_too(postgresql_url):
    assert lungwatch("db", "upgrade", database_url=postgresql_url).code == 0
    assert lungwatch("db", "check", database_url=postgresql_url).code == 0


def test_a_table_changed_by_hand_is_found(tmp_path):
    lungwatch("db", "upgrade", data_dir=tmp_path)
    database = Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE studies ADD COLUMN mood TEXT")
    database.close()
    done = lungwatch("db", "check", data_dir=tmp_path)
    assert done.code == 9
    assert "mood" in done.stdout


def test_a_database_that_does_not_answer(tmp_path):
    url = "postgresql+psycopg://nobody:s3cr3t@127.0.0.1:1/lungwatch"
    done = lungwatch("db", "check", database_url=url)
    assert done.code == 6
    assert "s3cr3t" not in done.stdout + done.stderr
