"""Schemes by which blocks are divided over the work before them: whose a block is, over what it was divided,
and who got what of it.
"""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from pool.books.migrations.tables import INTEGER, create_table, number, words
from pool.books.migrations.triggers import append_only, is_postgresql, never_replaced

revision = "0034"
down_revision = "0033"

DIVIDING = "'pplns1', 'pplns2', 'pplns4', 'pplns8', 'tides'"
BEFORE = "scheme IN ('pps', 'fpps', 'solo', 'proxy')"
SCHEMES = f"scheme IN ('pps', 'fpps', 'solo', 'proxy', {DIVIDING})"
WITH_SCHEMES = ("rates", "tenant_terms")
# Append-only, by what no other row may have.
APPEND_ONLY = {
    "block_funds": (("block_hash",),),
    "divisions": (("seq",), ("block_hash",)),
    "division_works": (("division_seq", "rate_id"),),
    "division_parts": (("division_seq", "tenant_id"), ("transaction_seq",)),
}


def upgrade() -> None:
    """Let terms and rates have the schemes, create the tables with their triggers, and the account."""
    for name in WITH_SCHEMES:
        _allow(name)
    _create_tables()
    append_only(APPEND_ONLY)
    if not is_postgresql():
        for name, keys in APPEND_ONLY.items():
            never_replaced(name, keys)
    account = "INSERT INTO ledger_accounts (name, kind) VALUES ('pool.blocks_divided', 'blocks_divided')"
    op.execute(text(account))


def _allow(name: str) -> None:
    """SQLite cannot change a check, and rates are named by millions of rows, all of which would be looked at
    if the table were made anew. So its definition is changed, as SQLite's documentation (lang_altertable, 7)
    says for what changes no row: a check that allows more than before.
    """
    if is_postgresql():
        op.drop_constraint(f"ck_{name}_scheme", name)
        op.create_check_constraint(f"ck_{name}_scheme", name, SCHEMES)
        return
    bind = op.get_bind()
    version = bind.execute(text("PRAGMA schema_version")).scalar_one()
    bind.execute(text("PRAGMA writable_schema = ON"))
    changed = text(
        "UPDATE sqlite_schema SET sql = replace(sql, :before, :now) WHERE type = 'table' AND name = :name"
    )
    bind.execute(changed, {"before": BEFORE, "now": SCHEMES, "name": name})
    bind.execute(text(f"PRAGMA schema_version = {version + 1}"))
    bind.execute(text("PRAGMA writable_schema = RESET"))


def _create_tables() -> None:
    create_table(
        "block_funds",
        words("block_hash"),
        words("scheme"),
        number("nbits"),
        number("mined_at_s"),
        words("ahead"),
        CheckConstraint(f"scheme IN ({DIVIDING})", name="ck_block_funds_scheme"),
        CheckConstraint("nbits BETWEEN 1 AND 4294967295", name="ck_block_funds_nbits"),
        ForeignKeyConstraint(["block_hash"], ["blocks.hash"], name="fk_block_funds_block_hash"),
        PrimaryKeyConstraint("block_hash", name="pk_block_funds"),
        clustered=True,
    )
    create_table(
        "divisions",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        words("block_hash"),
        number("first_hour", nullable=True),
        number("last_hour", nullable=True),
        number("divided_at_s"),
        CheckConstraint("(first_hour IS NULL) = (last_hour IS NULL)", name="ck_divisions_hours"),
        ForeignKeyConstraint(["block_hash"], ["block_funds.block_hash"], name="fk_divisions_block_hash"),
        PrimaryKeyConstraint("seq", name="pk_divisions"),
        UniqueConstraint("block_hash", name="uq_divisions_block_hash"),
    )
    create_table(
        "division_works",
        number("division_seq"),
        number("rate_id"),
        words("blocks"),
        ForeignKeyConstraint(["division_seq"], ["divisions.seq"], name="fk_division_works_division_seq"),
        ForeignKeyConstraint(["rate_id"], ["rates.id"], name="fk_division_works_rate_id"),
        PrimaryKeyConstraint("division_seq", "rate_id", name="pk_division_works"),
        clustered=True,
    )
    _create_parts()


def _create_parts() -> None:
    below_one = (
        "credit_psat",
        "carry_in_psat",
        "carry_out_psat",
        "fee_psat",
        "fee_carry_in_psat",
        "fee_carry_out_psat",
    )
    create_table(
        "division_parts",
        number("division_seq"),
        number("tenant_id"),
        number("credit_sat"),
        number("credit_psat"),
        number("carry_in_psat"),
        number("posted_sat"),
        number("carry_out_psat"),
        number("fee_sat"),
        number("fee_psat"),
        number("fee_carry_in_psat"),
        number("fee_posted_sat"),
        number("fee_carry_out_psat"),
        number("transaction_seq", nullable=True),
        *(
            CheckConstraint(f"{it} BETWEEN 0 AND 999999999999", name=f"ck_division_parts_{it}")
            for it in below_one
        ),
        CheckConstraint("credit_sat >= 0 AND posted_sat >= 0", name="ck_division_parts_credit_sat"),
        CheckConstraint("fee_sat >= 0 AND fee_posted_sat >= 0", name="ck_division_parts_fee_sat"),
        CheckConstraint(
            "(transaction_seq IS NULL) = (posted_sat + fee_posted_sat = 0)",
            name="ck_division_parts_transaction_seq",
        ),
        ForeignKeyConstraint(["division_seq"], ["divisions.seq"], name="fk_division_parts_division_seq"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_division_parts_tenant_id"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_division_parts_transaction_seq"
        ),
        PrimaryKeyConstraint("division_seq", "tenant_id", name="pk_division_parts"),
        UniqueConstraint("transaction_seq", name="uq_division_parts_transaction_seq"),
        clustered=True,
    )
