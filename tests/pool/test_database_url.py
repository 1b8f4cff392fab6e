"""Where a database is, as operators and libpq write it."""

import pytest
from sqlalchemy import create_engine

from pool.database_url import read_url

READ_WRITE = {"target_session_attrs": "read-write"}
DRIVER = "postgresql+psycopg"


def connects_by(text: str) -> dict[str, str]:
    """What libpq is told, of where."""
    engine = create_engine(read_url(text))
    _, told = engine.dialect.create_connect_args(engine.url)
    del told["context"]
    return dict(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ann@db1/book", {"host": "db1", "dbname": "book", "user": "ann"}),
        ("ann@db1:5433/book", {"host": "db1", "port": 5433, "dbname": "book", "user": "ann"}),
        ("ann@/book?host=/run/pg", {"host": "/run/pg", "dbname": "book", "user": "ann"}),
    ],
)
def test_one_server_is_written_to_whatever_it_is(text: str, told: dict[str, object]) -> None:
    assert connects_by(f"{DRIVER}://{text}") == told


@pytest.mark.parametrize(
    ("text", "hosts", "ports"),
    [
        ("ann@db1,db2/book", "db1,db2", ","),
        ("ann@db1:5432,db2:5433/book", "db1,db2", "5432,5433"),
        ("ann@/book?host=/run/one&host=/run/two", "/run/one,/run/two", ","),
        ("ann@/book?host=/run/one,/run/two", "/run/one,/run/two", ","),
    ],
)
def test_of_several_servers_the_one_that_is_written_to_is_asked_for(
    text: str, hosts: str, ports: str
) -> None:
    place = {"host": hosts, "port": ports, "dbname": "book", "user": "ann"}
    assert connects_by(f"{DRIVER}://{text}") == place | READ_WRITE


def test_what_is_said_of_them_counts_and_a_password_stays() -> None:
    told = connects_by(f"{DRIVER}://ann:se,cr%40et@db1:5432,db2:5432/book?target_session_attrs=primary")
    assert (told["target_session_attrs"], told["password"], told["user"]) == ("primary", "se,cr@et", "ann")


def test_what_was_read_is_read_again() -> None:
    once = read_url(f"{DRIVER}://ann:secret@db1:5432,db2:5433/book")
    assert read_url(once.render_as_string(hide_password=False)) == once


@pytest.mark.parametrize("text", ["", "book", "postgresql://db1:x/book", "postgresql:/db1,db2"])
def test_what_is_none_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_url(text)
