"""Minutes without a foreign key to machines: to check it was half of what PostgreSQL did for a row.

Rows come from the taker alone, which has found or made the machine's row in the same transaction, and
`ledger verify` looks for minutes of nobody.
"""

from alembic import op
from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, text

from pool.books.migrations.tables import create_table, number
from pool.books.migrations.triggers import is_postgresql

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Drop it. SQLite makes the table anew: it has the rows of two hours."""
    if is_postgresql():
        op.drop_constraint("fk_tally_minutes_worker_id", "tally_minutes", type_="foreignkey")
        return
    op.rename_table("tally_minutes", "tally_minutes_before")
    create_table(
        "tally_minutes",
        number("minute"),
        number("worker_id"),
        number("rate_id"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_tally_minutes_difficulty_log2"),
        CheckConstraint("rate_id > 0 OR (rate_id = 0 AND verdict > 0)", name="ck_tally_minutes_rate_id"),
        CheckConstraint("shares > 0", name="ck_tally_minutes_shares"),
        CheckConstraint("verdict BETWEEN 0 AND 255", name="ck_tally_minutes_verdict"),
        PrimaryKeyConstraint(
            "minute", "worker_id", "rate_id", "difficulty_log2", "verdict", name="pk_tally_minutes"
        ),
        clustered=True,
    )
    op.execute(text("INSERT INTO tally_minutes SELECT * FROM tally_minutes_before"))
    op.drop_table("tally_minutes_before")
