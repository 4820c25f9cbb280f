"""The services the other tests rely on are the real ones and are apart from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import redis

if TYPE_CHECKING:
    from support.services import PostgresqlServer, RedisServer


def _execute(url: str, statement: str) -> list[tuple[object, ...]]:
    dsn = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_each_test_has_a_database_of_its_own(postgresql_server: PostgresqlServer) -> None:
    first, second = (postgresql_server.create_database() for _ in range(2))
    _execute(first, "CREATE TABLE study (id integer)")
    count = "SELECT count(*) FROM pg_tables WHERE tablename = 'study'"
    assert _execute(first, count) == [(1,)]
    assert _execute(second, count) == [(0,)]


def test_postgresql_keeps_its_data_through_a_restart(postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.create_database()
    _execute(url, "CREATE TABLE study (id integer)")
    postgresql_server.stop()
    postgresql_server.start()
    assert _execute(url, "SELECT count(*) FROM study") == [(0,)]


def test_redis_keeps_its_data_through_a_kill(redis_server: RedisServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("key", "value")
        redis_server.kill()
        redis_server.start()
        assert client.get("key") == b"value"
