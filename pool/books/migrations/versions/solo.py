"""Solo work: epochs whose blocks pay the tenant, and whose the blocks are that did."""

from alembic import op
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, text

from pool.books.migrations.tables import create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """All epochs so far are of work that paid the pool, whatever the scheme of a tenant was."""
    kind = "BIGINT" if is_postgresql() else "INTEGER"
    check = "CONSTRAINT ck_rate_epochs_solo CHECK (solo IN (0, 1))"
    op.execute(text(f"ALTER TABLE rate_epochs ADD COLUMN solo {kind} DEFAULT 0 NOT NULL {check}"))
    create_table(
        "solo_blocks",
        words("block_hash"),
        number("tenant_id"),
        words("address"),
        number("amount_sat"),
        CheckConstraint("amount_sat >= 0", name="ck_solo_blocks_amount_sat"),
        ForeignKeyConstraint(["block_hash"], ["blocks.hash"], name="fk_solo_blocks_block_hash"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_solo_blocks_tenant_id"),
        PrimaryKeyConstraint("block_hash", name="pk_solo_blocks"),
        clustered=True,
    )
    op.create_index("ix_solo_blocks_tenant_id", "solo_blocks", ["tenant_id"])
    append_only(("solo_blocks",))
