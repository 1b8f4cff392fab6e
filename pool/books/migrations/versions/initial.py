"""The first schema: registry, rates, journal, ledger, settlements and blocks."""

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
from pool.books.migrations.triggers import append_only, create_refusal, only_grows

revision = "0001"
down_revision = None

APPEND_ONLY = (
    "tenant_terms",
    "tenant_addresses",
    "fee_bases",
    "fee_basis_blocks",
    "rates",
    "ledger_accounts",
    "ledger_transactions",
    "ledger_transfers",
    "settlements",
    "settled_shares",
    "blocks",
    "block_events",
)
POOL_ACCOUNTS = (
    "pool.pps_expense",
    "pool.fee_income",
    "pool.block_income_pending",
    "pool.block_income_matured",
    "pool.node_fees",
    "pool.rounding",
    "pool.coins",
)


def upgrade() -> None:
    """Create every table, its triggers, and the accounts of the pool."""
    _create_registry()
    _create_places()
    _create_rates()
    _create_tallies()
    _create_journal()
    _create_ledger()
    _create_settlements()
    _create_blocks()
    create_refusal()
    append_only(APPEND_ONLY)
    only_grows("rate_hours", ("rate_id", "hour", "difficulty_log2"), ("shares", "settled"))
    for name in POOL_ACCOUNTS:
        account = text("INSERT INTO ledger_accounts (name, kind) VALUES (:name, :kind)")
        op.get_bind().execute(account, {"name": name, "kind": name.removeprefix("pool.")})


def _create_registry() -> None:
    create_table(
        "tenants",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        words("name"),
        words("status"),
        number("created_at_s"),
        CheckConstraint("length(name) BETWEEN 1 AND 63 AND name NOT LIKE '%.%'", name="ck_tenants_name"),
        CheckConstraint("status IN ('active', 'suspended')", name="ck_tenants_status"),
        PrimaryKeyConstraint("id", name="pk_tenants"),
        UniqueConstraint("name", name="uq_tenants_name"),
    )
    create_table(
        "tenant_terms",
        number("id"),
        number("tenant_id"),
        words("scheme"),
        number("fee_bps"),
        number("payout_minimum_sat"),
        number("changed_at_s"),
        words("changed_by"),
        CheckConstraint("scheme IN ('pps', 'fpps', 'solo', 'proxy')", name="ck_tenant_terms_scheme"),
        CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="ck_tenant_terms_fee_bps"),
        CheckConstraint("payout_minimum_sat >= 0", name="ck_tenant_terms_payout_minimum_sat"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_tenant_terms_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_tenant_terms"),
    )
    op.create_index("ix_tenant_terms_tenant_id", "tenant_terms", ["tenant_id"])
    create_table(
        "tenant_addresses",
        number("id"),
        number("tenant_id"),
        words("address"),
        number("changed_at_s"),
        words("changed_by"),
        number("effective_at_s"),
        CheckConstraint("effective_at_s >= changed_at_s", name="ck_tenant_addresses_effective_at_s"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_tenant_addresses_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_tenant_addresses"),
    )
    op.create_index("ix_tenant_addresses_tenant_id", "tenant_addresses", ["tenant_id"])


def _create_places() -> None:
    create_table(
        "sites",
        number("id"),
        words("name"),
        number("created_at_s"),
        PrimaryKeyConstraint("id", name="pk_sites"),
        UniqueConstraint("name", name="uq_sites_name"),
    )
    create_table(
        "containers",
        number("id"),
        number("tenant_id"),
        words("name"),
        number("site_id", nullable=True),
        number("nameplate_units", nullable=True),
        number("nameplate_ths", nullable=True),
        number("nameplate_kw", nullable=True),
        number("created_at_s"),
        ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_containers_site_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_containers_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_containers"),
        UniqueConstraint("tenant_id", "name", name="uq_containers_tenant_id_name"),
    )
    op.create_index("ix_containers_site_id", "containers", ["site_id"])
    create_table(
        "workers",
        number("id"),
        number("tenant_id"),
        number("container_id"),
        words("unit"),
        words("agent", nullable=True),
        number("difficulty_log2", nullable=True),
        number("first_seen_at_s"),
        number("last_seen_at_s"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_workers_difficulty_log2"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_workers_container_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_workers_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_workers"),
        UniqueConstraint("container_id", "unit", name="uq_workers_container_id_unit"),
    )
    op.create_index("ix_workers_tenant_id", "workers", ["tenant_id"])


def _create_rates() -> None:
    create_table(
        "fee_bases",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("block_fees_sat"),
        number("created_at_s"),
        CheckConstraint("block_fees_sat >= 0", name="ck_fee_bases_block_fees_sat"),
        PrimaryKeyConstraint("id", name="pk_fee_bases"),
    )
    create_table(
        "fee_basis_blocks",
        number("fee_basis_id"),
        words("block_hash"),
        number("height"),
        number("fees_sat"),
        CheckConstraint("fees_sat >= 0", name="ck_fee_basis_blocks_fees_sat"),
        ForeignKeyConstraint(["fee_basis_id"], ["fee_bases.id"], name="fk_fee_basis_blocks_fee_basis_id"),
        PrimaryKeyConstraint("fee_basis_id", "block_hash", name="pk_fee_basis_blocks"),
        clustered=True,
    )
    create_table(
        "rates",
        Column("id", INTEGER, autoincrement=False, nullable=False),
        number("tenant_id"),
        words("scheme"),
        number("fee_bps"),
        number("nbits"),
        number("height"),
        number("subsidy_sat"),
        number("block_fees_sat"),
        number("fee_basis_id", nullable=True),
        number("created_at_s"),
        CheckConstraint("scheme IN ('pps', 'fpps', 'solo', 'proxy')", name="ck_rates_scheme"),
        CheckConstraint("fee_basis_id IS NOT NULL OR block_fees_sat = 0", name="ck_rates_fee_basis"),
        CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="ck_rates_fee_bps"),
        CheckConstraint("height >= 0", name="ck_rates_height"),
        CheckConstraint("nbits BETWEEN 1 AND 4294967295", name="ck_rates_nbits"),
        CheckConstraint("subsidy_sat >= 0 AND block_fees_sat >= 0", name="ck_rates_reward"),
        ForeignKeyConstraint(["fee_basis_id"], ["fee_bases.id"], name="fk_rates_fee_basis_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_rates_tenant_id"),
        PrimaryKeyConstraint("id", name="pk_rates"),
        UniqueConstraint("id", "tenant_id", name="uq_rates_id_tenant_id"),
    )
    op.create_index("ix_rates_tenant_id_id", "rates", ["tenant_id", "id"])


def _create_tallies() -> None:
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
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_tally_minutes_worker_id"),
        PrimaryKeyConstraint(
            "minute", "worker_id", "rate_id", "difficulty_log2", "verdict", name="pk_tally_minutes"
        ),
        clustered=True,
    )
    create_table(
        "tally_hours",
        number("worker_id"),
        number("hour"),
        number("rate_id"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        number("minutes"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_tally_hours_difficulty_log2"),
        CheckConstraint("rate_id > 0 OR (rate_id = 0 AND verdict > 0)", name="ck_tally_hours_rate_id"),
        CheckConstraint("shares > 0", name="ck_tally_hours_shares"),
        CheckConstraint("verdict BETWEEN 0 AND 255", name="ck_tally_hours_verdict"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_tally_hours_worker_id"),
        PrimaryKeyConstraint(
            "worker_id", "hour", "rate_id", "difficulty_log2", "verdict", name="pk_tally_hours"
        ),
        clustered=True,
    )
    create_table(
        "tally_days",
        number("worker_id"),
        number("day"),
        number("rate_id"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        number("minutes"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_tally_days_difficulty_log2"),
        CheckConstraint("rate_id > 0 OR (rate_id = 0 AND verdict > 0)", name="ck_tally_days_rate_id"),
        CheckConstraint("shares > 0", name="ck_tally_days_shares"),
        CheckConstraint("verdict BETWEEN 0 AND 255", name="ck_tally_days_verdict"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_tally_days_worker_id"),
        PrimaryKeyConstraint(
            "worker_id", "day", "rate_id", "difficulty_log2", "verdict", name="pk_tally_days"
        ),
        clustered=True,
    )


def _create_journal() -> None:
    create_table(
        "journal_writers",
        words("writer"),
        number("batch"),
        CheckConstraint("batch >= 1", name="ck_journal_writers_batch"),
        PrimaryKeyConstraint("writer", name="pk_journal_writers"),
    )
    create_table(
        "rate_hours",
        number("rate_id"),
        number("hour"),
        number("difficulty_log2"),
        number("shares"),
        number("settled"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="ck_rate_hours_difficulty_log2"),
        CheckConstraint("settled BETWEEN 0 AND shares", name="ck_rate_hours_settled"),
        ForeignKeyConstraint(["rate_id"], ["rates.id"], name="fk_rate_hours_rate_id"),
        PrimaryKeyConstraint("rate_id", "hour", "difficulty_log2", name="pk_rate_hours"),
        clustered=True,
    )
    op.create_index(
        "ix_rate_hours_unsettled",
        "rate_hours",
        ["hour"],
        sqlite_where=text("settled < shares"),
        postgresql_where=text("settled < shares"),
    )


def _create_ledger() -> None:
    create_table(
        "ledger_accounts",
        words("name"),
        words("kind"),
        number("tenant_id", nullable=True),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_ledger_accounts_tenant_id"),
        PrimaryKeyConstraint("name", name="pk_ledger_accounts"),
        UniqueConstraint("tenant_id", "kind", name="uq_ledger_accounts_tenant_id_kind"),
    )
    create_table(
        "ledger_transactions",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        words("idempotency_key"),
        words("kind"),
        words("memo"),
        number("reverses_seq", nullable=True),
        number("booked_at_s"),
        words("payload_hash"),
        words("prev_hash"),
        words("hash"),
        CheckConstraint(
            "(kind = 'reversal') = (reverses_seq IS NOT NULL)", name="ck_ledger_transactions_reversal"
        ),
        CheckConstraint("seq >= 1", name="ck_ledger_transactions_seq"),
        ForeignKeyConstraint(
            ["reverses_seq"], ["ledger_transactions.seq"], name="fk_ledger_transactions_reverses_seq"
        ),
        PrimaryKeyConstraint("seq", name="pk_ledger_transactions"),
        UniqueConstraint("hash", name="uq_ledger_transactions_hash"),
        UniqueConstraint("idempotency_key", name="uq_ledger_transactions_idempotency_key"),
        UniqueConstraint("prev_hash", name="uq_ledger_transactions_prev_hash"),
        UniqueConstraint("reverses_seq", name="uq_ledger_transactions_reverses_seq"),
    )
    create_table(
        "ledger_transfers",
        number("transaction_seq"),
        number("position"),
        words("from_account"),
        words("to_account"),
        number("amount_sat"),
        CheckConstraint("amount_sat > 0", name="ck_ledger_transfers_amount_sat"),
        CheckConstraint("from_account <> to_account", name="ck_ledger_transfers_accounts"),
        ForeignKeyConstraint(
            ["from_account"], ["ledger_accounts.name"], name="fk_ledger_transfers_from_account"
        ),
        ForeignKeyConstraint(["to_account"], ["ledger_accounts.name"], name="fk_ledger_transfers_to_account"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_ledger_transfers_transaction_seq"
        ),
        PrimaryKeyConstraint("transaction_seq", "position", name="pk_ledger_transfers"),
    )
    op.create_index(
        "ix_ledger_transfers_from_account_amount_sat", "ledger_transfers", ["from_account", "amount_sat"]
    )
    op.create_index(
        "ix_ledger_transfers_to_account_amount_sat", "ledger_transfers", ["to_account", "amount_sat"]
    )


def _create_settlements() -> None:
    create_table(
        "settlements",
        Column("seq", INTEGER, autoincrement=False, nullable=False),
        number("tenant_id"),
        number("rate_id"),
        number("hour"),
        number("part"),
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
        number("settled_at_s"),
        CheckConstraint(
            "(transaction_seq IS NULL) = (posted_sat + fee_posted_sat = 0)",
            name="ck_settlements_transaction_seq",
        ),
        CheckConstraint("carry_in_psat BETWEEN 0 AND 999999999999", name="ck_settlements_carry_in_psat"),
        CheckConstraint("carry_out_psat BETWEEN 0 AND 999999999999", name="ck_settlements_carry_out_psat"),
        CheckConstraint("credit_psat BETWEEN 0 AND 999999999999", name="ck_settlements_credit_psat"),
        CheckConstraint("credit_sat >= 0 AND posted_sat >= 0", name="ck_settlements_credit_sat"),
        CheckConstraint(
            "fee_carry_in_psat BETWEEN 0 AND 999999999999", name="ck_settlements_fee_carry_in_psat"
        ),
        CheckConstraint(
            "fee_carry_out_psat BETWEEN 0 AND 999999999999", name="ck_settlements_fee_carry_out_psat"
        ),
        CheckConstraint("fee_psat BETWEEN 0 AND 999999999999", name="ck_settlements_fee_psat"),
        CheckConstraint("fee_sat >= 0 AND fee_posted_sat >= 0", name="ck_settlements_fee_sat"),
        CheckConstraint("part >= 0", name="ck_settlements_part"),
        ForeignKeyConstraint(
            ["rate_id", "tenant_id"], ["rates.id", "rates.tenant_id"], name="fk_settlements_rate_id_tenant_id"
        ),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_settlements_transaction_seq"
        ),
        PrimaryKeyConstraint("seq", name="pk_settlements"),
        UniqueConstraint("rate_id", "hour", "part", name="uq_settlements_rate_id_hour_part"),
        UniqueConstraint("transaction_seq", name="uq_settlements_transaction_seq"),
    )
    op.create_index("ix_settlements_tenant_id_hour", "settlements", ["tenant_id", "hour"])
    op.create_index("ix_settlements_tenant_id_seq", "settlements", ["tenant_id", "seq"])
    create_table(
        "settled_shares",
        number("settlement_seq"),
        number("difficulty_log2"),
        number("shares"),
        CheckConstraint("shares > 0", name="ck_settled_shares_shares"),
        ForeignKeyConstraint(
            ["settlement_seq"], ["settlements.seq"], name="fk_settled_shares_settlement_seq"
        ),
        PrimaryKeyConstraint("settlement_seq", "difficulty_log2", name="pk_settled_shares"),
        clustered=True,
    )


def _create_blocks() -> None:
    create_table(
        "blocks",
        words("hash"),
        number("height"),
        number("worker_id", nullable=True),
        number("income_sat"),
        number("found_at_s"),
        CheckConstraint("height >= 0 AND income_sat >= 0", name="ck_blocks_income_sat"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_blocks_worker_id"),
        PrimaryKeyConstraint("hash", name="pk_blocks"),
    )
    create_table(
        "block_events",
        words("block_hash"),
        number("position"),
        words("status"),
        number("at_s"),
        number("transaction_seq", nullable=True),
        CheckConstraint("status IN ('pending', 'matured', 'orphaned')", name="ck_block_events_status"),
        ForeignKeyConstraint(["block_hash"], ["blocks.hash"], name="fk_block_events_block_hash"),
        ForeignKeyConstraint(
            ["transaction_seq"], ["ledger_transactions.seq"], name="fk_block_events_transaction_seq"
        ),
        PrimaryKeyConstraint("block_hash", "position", name="pk_block_events"),
        UniqueConstraint("transaction_seq", name="uq_block_events_transaction_seq"),
    )
