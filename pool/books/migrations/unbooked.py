"""Shares that a version of before committed to the books' own journal and did not book: no later one can.

Only that version knows what they were worth. Its upgrade is refused, and `angara check` says so before it.
"""

from sqlalchemy import Connection, inspect, text


def words_of_unbooked(connection: Connection) -> str | None:
    """Why the book cannot be upgraded, and the way out; None where nothing waits."""
    if not inspect(connection).has_table("journal_batches"):
        return None
    waiting = connection.execute(text("SELECT count(*) FROM journal_batches")).scalar_one()
    if not waiting:
        return None
    return (
        f"journal_batches has {waiting} rows of shares that the version of before has not booked: start"
        " that version, stop it, which books them, and upgrade then"
    )
