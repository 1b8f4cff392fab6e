"""How far the books have taken each journal, which is a log of its own now; and what it knows them by."""

import secrets

from alembic import op
from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, text

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import only_grows

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Create the table, and name the book."""
    create_table(
        "journal_positions",
        words("writer"),
        number("number"),
        words("digest"),
        number("moment_s"),
        number("until_number"),
        number("rows_done"),
        number("transactions"),
        number("accepted"),
        number("before"),
        PrimaryKeyConstraint("writer", name="pk_journal_positions"),
        CheckConstraint("length(digest) = 32", name="ck_journal_positions_digest"),
        CheckConstraint(
            "number >= 0 AND until_number >= number AND rows_done >= 0", name="ck_journal_positions_number"
        ),
        CheckConstraint("accepted >= 0 AND transactions >= 0", name="ck_journal_positions_accepted"),
    )
    only_grows(
        "journal_positions",
        ("writer",),
        ("number", "moment_s", "until_number", "transactions", "accepted"),
    )
    op.add_column("book", words("uid", nullable=True))
    op.get_bind().execute(text("UPDATE book SET uid = :uid"), {"uid": secrets.token_hex(16)})
