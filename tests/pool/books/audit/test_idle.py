"""An audit of a book on a server is not ended by the bound on transactions in which nothing is asked."""

import pytest
from sqlalchemy import Connection, text

from payouts.audit.receipts import check_receipts
from pool.books.audit import verify as audits
from tests.fixtures.databases import PostgresDatabases, fresh_store


def bound_s(connection: Connection) -> object:
    return connection.scalar(text("SHOW idle_in_transaction_session_timeout"))


def test_receipts_of_years_may_be_looked_at_for_longer_than_a_minute(
    postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 2.5 ms for each signature an order of three years has the server wait so long for the next question:
    it ended the audit, and nothing was known of the book."""
    seen = []

    def looked_at(connection: Connection) -> None:
        seen.append(bound_s(connection))
        check_receipts(connection)

    monkeypatch.setattr(audits, "check_receipts", looked_at)
    with fresh_store(postgres_databases) as store:
        with store.read() as connection:
            assert bound_s(connection) == "1min"
            audits.verify(connection)
        with store.read() as connection:
            assert bound_s(connection) == "1min", "of this audit alone"
    assert seen == ["0"]
