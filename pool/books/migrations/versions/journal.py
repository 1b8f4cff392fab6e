"""Journal batches, and the epochs that their rate numbers stand for."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
)

from pool.books.migrations.tables import INTEGER, create_table
from pool.books.migrations.triggers import append_only

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables and their triggers."""
    create_table(
        "journal_batches",
        Column("seq", INTEGER, nullable=False, autoincrement=False),
        Column("minute", INTEGER, nullable=False),
        Column("tallies", LargeBinary, nullable=False),
        PrimaryKeyConstraint("seq", name="pk_journal_batches"),
        CheckConstraint("length(tallies) > 0", name="ck_journal_batches_tallies"),
    )
    create_table(
        "rate_epochs",
        Column("epoch", INTEGER, nullable=False, autoincrement=False),
        Column("nbits", INTEGER, nullable=False),
        Column("height", INTEGER, nullable=False),
        Column("subsidy_sat", INTEGER, nullable=False),
        Column("fee_basis_id", INTEGER, nullable=True),
        Column("created_at_s", INTEGER, nullable=False),
        PrimaryKeyConstraint("epoch", name="pk_rate_epochs"),
        ForeignKeyConstraint(["fee_basis_id"], ["fee_bases.id"], name="fk_rate_epochs_fee_basis_id"),
        CheckConstraint("epoch BETWEEN 1 AND 4294967295", name="ck_rate_epochs_epoch"),
    )
    create_table(
        "rate_epoch_tenants",
        Column("epoch", INTEGER, nullable=False),
        Column("tenant_id", INTEGER, nullable=False),
        Column("rate_id", INTEGER, nullable=False),
        PrimaryKeyConstraint("epoch", "tenant_id", name="pk_rate_epoch_tenants"),
        ForeignKeyConstraint(["epoch"], ["rate_epochs.epoch"], name="fk_rate_epoch_tenants_epoch"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_rate_epoch_tenants_tenant_id"),
        ForeignKeyConstraint(["rate_id"], ["rates.id"], name="fk_rate_epoch_tenants_rate_id"),
        clustered=True,
    )
    append_only(("rate_epochs", "rate_epoch_tenants"))
