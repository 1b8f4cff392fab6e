"""The tables that money is computed from and booked in; `payouts.batches.schema` has those of payout batches.

One MetaData for SQLite and PostgreSQL. Integers are 64 bits on both, tables STRICT on SQLite (where
an overflow would silently become REAL). Times are Unix seconds UTC, `minute`, `hour` and `day` count
whole ones since 1970. Closed sets are CHECKed text, hashes lower-case hex.

Invariants, held by triggers that the migrations create: the tables in APPEND_ONLY take no UPDATE and
no DELETE; `rate_hours`, the base of every credit, only grows. Balances, the state of a block and a
tenant's terms in force are not stored: they are derived from the newest rows.

Must not know: connections, and how to get from one version of itself to the next.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    column,
    func,
    select,
    text,
)
from sqlalchemy import table as named
from sqlalchemy.schema import SchemaItem

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
INTEGER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's is 64 bits, and STRICT has no BIGINT
DIVIDING = ("pplns1", "pplns2", "pplns4", "pplns8", "tides")
SCHEMES = ("pps", "fpps", "solo", "proxy", *DIVIDING)
ORDER_CREDITS = ("pps", "order")
UPSTREAM_RISKS = ("tenant", "pool")


def table(name: str, *items: SchemaItem, clustered: bool = False) -> Table:
    """A STRICT table; the rows of a clustered one live in its primary key (SQLite, WITHOUT ROWID)."""
    return Table(name, metadata, *items, sqlite_strict=True, sqlite_with_rowid=not clustered)


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """A CHECK that the text column is one of the values."""
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def row_id() -> Column[int]:
    """A number that the database gives the row; it may leave some out."""
    return Column("id", INTEGER, primary_key=True)


def counted(name: str, table_name: str) -> Column[int]:
    """A number that is one more than the highest before it: no gaps, the same on every database.

    For what appears in the ledger. There must be no other writer.
    """
    highest = select(func.max(column(name))).select_from(named(table_name)).scalar_subquery()
    return Column(name, INTEGER, primary_key=True, autoincrement=False, default=func.coalesce(highest, 0) + 1)


def number(name: str, *constraints: ForeignKey, nullable: bool = False) -> Column[int]:
    """A 64-bit integer column."""
    return Column(name, INTEGER, *constraints, nullable=nullable)


def words(name: str, *, nullable: bool = False, default: str | None = None) -> Column[str]:
    """A text column; the default is for rows that were there before it."""
    return Column(name, Text, nullable=nullable, server_default=default)


# Registry

tenants = table(
    "tenants",
    counted("id", "tenants"),
    words("name"),
    words("status"),
    number("created_at_s"),
    UniqueConstraint("name"),
    CheckConstraint("length(name) BETWEEN 1 AND 63 AND name NOT LIKE '%.%'", name="name"),
    one_of("status", ("active", "suspended")),
)
# The newest row is in force. upstream_id says where the tenant's machines mine (NULL: for the pool itself),
# order_credit how work that an order sells is credited (as PPS, or by the order's price), upstream_risk who
# bears the shares that an upstream never answered, or rejected.
tenant_terms = table(
    "tenant_terms",
    row_id(),
    number("tenant_id", ForeignKey("tenants.id")),
    words("scheme"),
    number("fee_bps"),
    number("payout_minimum_sat"),
    number("changed_at_s"),
    words("changed_by"),
    number("upstream_id", ForeignKey("upstreams.id"), nullable=True),
    words("order_credit", default="pps"),
    words("upstream_risk", default="tenant"),
    one_of("scheme", SCHEMES),
    one_of("order_credit", ORDER_CREDITS),
    one_of("upstream_risk", UPSTREAM_RISKS),
    CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="fee_bps"),
    CheckConstraint("payout_minimum_sat >= 0", name="payout_minimum_sat"),
    Index(None, "tenant_id"),
)
# The newest row is the address; nothing is paid to it before effective_at_s.
tenant_addresses = table(
    "tenant_addresses",
    row_id(),
    number("tenant_id", ForeignKey("tenants.id")),
    words("address"),
    number("changed_at_s"),
    words("changed_by"),
    number("effective_at_s"),
    CheckConstraint("effective_at_s >= changed_at_s", name="effective_at_s"),
    Index(None, "tenant_id"),
)
sites = table(
    "sites",
    row_id(),
    words("name"),
    number("created_at_s"),
    UniqueConstraint("name"),
)
# A container is a tenant's: where two tenants share one box, each has a row with its part of it.
containers = table(
    "containers",
    row_id(),
    number("tenant_id", ForeignKey("tenants.id")),
    words("name"),
    number("site_id", ForeignKey("sites.id"), nullable=True),
    number("nameplate_units", nullable=True),
    number("nameplate_ths", nullable=True),
    number("nameplate_kw", nullable=True),
    number("created_at_s"),
    number("removed_at_s", nullable=True),  # until a machine of it mines again
    UniqueConstraint("tenant_id", "name"),
    Index(None, "site_id"),
)
workers = table(
    "workers",
    row_id(),
    number("tenant_id", ForeignKey("tenants.id")),
    number("container_id", ForeignKey("containers.id")),
    words("unit"),
    words("agent", nullable=True),
    number("difficulty_log2", nullable=True),  # the last one: where a reconnecting miner starts
    number("first_seen_at_s"),
    number("last_seen_at_s"),
    number("removed_at_s", nullable=True),  # until it mines again
    UniqueConstraint("container_id", "unit"),
    CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="difficulty_log2"),
    Index(None, "tenant_id"),
)

# Rates

# A named list of recent blocks and the trimmed mean of their total fees.
fee_bases = table(
    "fee_bases",
    counted("id", "fee_bases"),
    number("block_fees_sat"),
    number("created_at_s"),
    CheckConstraint("block_fees_sat >= 0", name="block_fees_sat"),
)
fee_basis_blocks = table(
    "fee_basis_blocks",
    number("fee_basis_id", ForeignKey("fee_bases.id")),
    words("block_hash"),
    number("height"),
    number("fees_sat"),
    PrimaryKeyConstraint("fee_basis_id", "block_hash"),
    CheckConstraint("fees_sat >= 0", name="fees_sat"),
    clustered=True,
)
# One row for each change of a tenant's price of work of one source: the pool's own (upstream_id NULL), an
# upstream's, or an order's. height is the first one it was offered for; sat_per_ph_day is the order's price,
# where the tenant is paid by that.
rates = table(
    "rates",
    counted("id", "rates"),
    number("tenant_id", ForeignKey("tenants.id")),
    words("scheme"),
    number("fee_bps"),
    number("nbits"),
    number("height"),
    number("subsidy_sat"),
    number("block_fees_sat"),
    number("fee_basis_id", ForeignKey("fee_bases.id"), nullable=True),
    number("created_at_s"),
    number("upstream_id", ForeignKey("upstreams.id"), nullable=True),
    number("order_id", ForeignKey("orders.id"), nullable=True),
    number("sat_per_ph_day", nullable=True),
    UniqueConstraint("id", "tenant_id"),
    one_of("scheme", SCHEMES),
    CheckConstraint("fee_bps BETWEEN 0 AND 10000", name="fee_bps"),
    CheckConstraint("nbits BETWEEN 1 AND 4294967295", name="nbits"),
    CheckConstraint("height >= 0", name="height"),
    CheckConstraint("subsidy_sat >= 0 AND block_fees_sat >= 0", name="reward"),
    CheckConstraint("fee_basis_id IS NOT NULL OR block_fees_sat = 0", name="fee_basis"),
    CheckConstraint(
        "sat_per_ph_day IS NULL OR (sat_per_ph_day >= 0 AND order_id IS NOT NULL)", name="sat_per_ph_day"
    ),
    Index(None, "tenant_id", "id"),
    Index(None, "scheme", "id"),
    Index(
        None,
        "order_id",
        sqlite_where=text("order_id IS NOT NULL"),
        postgresql_where=text("order_id IS NOT NULL"),
    ),
)

# Journal

# One row for each start of the pool: its batch of that number, and all before, are in the tallies.
journal_writers = table(
    "journal_writers",
    words("writer"),
    number("batch"),
    PrimaryKeyConstraint("writer"),
    CheckConstraint("batch >= 1", name="batch"),
)


def _tallies(name: str, *key: str) -> Table:
    """Shares by verdict (0 is accepted); rate 0 is a share without a known job, never accepted."""
    # Of a minute the taker has found or made the machine's row, in the transaction of its shares: to
    # check it again is half of PostgreSQL's work on a row. `ledger verify` looks for minutes of nobody.
    checked = [ForeignKey("workers.id")] if name != "tally_minutes" else []
    return table(
        name,
        *(number(column, *(checked if column == "worker_id" else [])) for column in key),
        number("rate_id"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        *([number("minutes")] if name != "tally_minutes" else []),
        PrimaryKeyConstraint(*key, "rate_id", "difficulty_log2", "verdict"),
        CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="difficulty_log2"),
        CheckConstraint("verdict BETWEEN 0 AND 255", name="verdict"),
        CheckConstraint("shares > 0", name="shares"),
        CheckConstraint("rate_id > 0 OR (rate_id = 0 AND verdict > 0)", name="rate_id"),
        clustered=True,
    )


# By time first: all workers write the present minute, and what grows old is one range. Older spans by
# worker first: they are written seldom and read by worker. A share is in exactly one of the three.
tally_minutes = _tallies("tally_minutes", "minute", "worker_id")
tally_hours = _tallies("tally_hours", "worker_id", "hour")  # minutes: bit i is set for minute i
tally_days = _tallies("tally_days", "worker_id", "day")  # minutes: how many

# Sums of what has left the minutes, without prices, so that a report of a month does not read all its hours:
# of hours and days by machine, for ever; of hours by container, as long as there are hours. Added to by the
# transactions that move what they sum; an audit compares.
worker_days = table(
    "worker_days",
    number("worker_id", ForeignKey("workers.id")),
    number("day"),
    number("difficulty_log2"),
    number("verdict"),
    number("shares"),
    number("minutes"),  # with accepted shares, each counted once: with the row that had it first
    PrimaryKeyConstraint("worker_id", "day", "difficulty_log2", "verdict"),
    CheckConstraint("shares > 0", name="shares"),
    CheckConstraint("minutes >= 0 AND (minutes = 0 OR verdict = 0)", name="minutes"),
    clustered=True,
)
container_hours = table(
    "container_hours",
    number("container_id", ForeignKey("containers.id")),
    number("hour"),
    number("difficulty_log2"),
    number("verdict"),
    number("shares"),
    PrimaryKeyConstraint("container_id", "hour", "difficulty_log2", "verdict"),
    CheckConstraint("shares >= 0", name="shares"),
    clustered=True,
)

# Accepted shares of a rate in an hour: what there is to settle, kept for ever. Written with the
# tallies, by the same batch. `undelivered` are those of them that no upstream took: credited at the pool's
# risk, and delivered to nobody.
rate_hours = table(
    "rate_hours",
    number("rate_id", ForeignKey("rates.id")),
    number("hour"),
    number("difficulty_log2"),
    number("shares"),
    number("settled"),
    Column("undelivered", INTEGER, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("rate_id", "hour", "difficulty_log2"),
    CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="difficulty_log2"),
    CheckConstraint("settled BETWEEN 0 AND shares", name="settled"),
    CheckConstraint("undelivered BETWEEN 0 AND shares", name="undelivered"),
    Index(
        "ix_rate_hours_unsettled",
        "hour",
        sqlite_where=text("settled < shares"),
        postgresql_where=text("settled < shares"),
    ),
    clustered=True,
)

# Ledger

ledger_accounts = table(
    "ledger_accounts",
    words("name"),
    words("kind"),
    number("tenant_id", ForeignKey("tenants.id"), nullable=True),
    PrimaryKeyConstraint("name"),
    UniqueConstraint("tenant_id", "kind"),
)
ledger_transactions = table(
    "ledger_transactions",
    counted("seq", "ledger_transactions"),
    words("idempotency_key"),
    words("kind"),
    words("memo"),
    number("reverses_seq", ForeignKey("ledger_transactions.seq"), nullable=True),
    number("booked_at_s"),
    words("payload_hash"),
    words("prev_hash"),
    words("hash"),
    UniqueConstraint("idempotency_key"),
    UniqueConstraint("reverses_seq"),
    UniqueConstraint("prev_hash"),
    UniqueConstraint("hash"),
    CheckConstraint("seq >= 1", name="seq"),
    CheckConstraint("(kind = 'reversal') = (reverses_seq IS NOT NULL)", name="reversal"),
)
ledger_transfers = table(
    "ledger_transfers",
    number("transaction_seq", ForeignKey("ledger_transactions.seq")),
    number("position"),
    Column("from_account", Text, ForeignKey("ledger_accounts.name"), nullable=False),
    Column("to_account", Text, ForeignKey("ledger_accounts.name"), nullable=False),
    number("amount_sat"),
    PrimaryKeyConstraint("transaction_seq", "position"),
    CheckConstraint("amount_sat > 0", name="amount_sat"),
    CheckConstraint("from_account <> to_account", name="accounts"),
    # With the amount: a balance is two sums over index entries alone.
    Index(None, "from_account", "amount_sat"),
    Index(None, "to_account", "amount_sat"),
)

# Settlements and blocks

# Part 0 is an hour's settlement; later parts are shares that came after it. For tenant and pool fee
# alike: carry_in + amount (floored to psat) = posted satoshi + carry_out.
settlements = table(
    "settlements",
    counted("seq", "settlements"),
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
    number("transaction_seq", ForeignKey("ledger_transactions.seq"), nullable=True),
    number("settled_at_s"),
    ForeignKeyConstraint(["rate_id", "tenant_id"], ["rates.id", "rates.tenant_id"]),
    UniqueConstraint("rate_id", "hour", "part"),
    UniqueConstraint("transaction_seq"),
    CheckConstraint("part >= 0", name="part"),
    CheckConstraint("(transaction_seq IS NULL) = (posted_sat + fee_posted_sat = 0)", name="transaction_seq"),
    CheckConstraint("credit_sat >= 0 AND posted_sat >= 0", name="credit_sat"),
    CheckConstraint("fee_sat >= 0 AND fee_posted_sat >= 0", name="fee_sat"),
    *(
        CheckConstraint(f"{column} BETWEEN 0 AND 999999999999", name=column)
        for column in (
            "credit_psat",
            "carry_in_psat",
            "carry_out_psat",
            "fee_psat",
            "fee_carry_in_psat",
            "fee_carry_out_psat",
        )
    ),
    Index(None, "tenant_id", "seq"),
    Index(None, "tenant_id", "hour"),
)
settled_shares = table(
    "settled_shares",
    number("settlement_seq", ForeignKey("settlements.seq")),
    number("difficulty_log2"),
    number("shares"),
    PrimaryKeyConstraint("settlement_seq", "difficulty_log2"),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)
blocks = table(
    "blocks",
    words("hash"),
    number("height"),
    number("worker_id", ForeignKey("workers.id"), nullable=True),
    number("income_sat"),  # what its coinbase pays the pool: of a solo tenant's block the fee at most
    number("found_at_s"),
    PrimaryKeyConstraint("hash"),
    CheckConstraint("height >= 0 AND income_sat >= 0", name="income_sat"),
)
# Blocks whose coinbase pays a tenant (solo), and the pool its fee at most, which is the block's income.
solo_blocks = table(
    "solo_blocks",
    Column("block_hash", Text, ForeignKey("blocks.hash"), nullable=False),
    number("tenant_id", ForeignKey("tenants.id")),
    words("address"),
    number("amount_sat"),  # to the tenant
    PrimaryKeyConstraint("block_hash"),
    CheckConstraint("amount_sat >= 0", name="amount_sat"),
    Index(None, "tenant_id"),
    clustered=True,
)
# The newest row is the block's status.
block_events = table(
    "block_events",
    Column("block_hash", Text, ForeignKey("blocks.hash"), nullable=False),
    number("position"),
    words("status"),
    number("at_s"),
    number("transaction_seq", ForeignKey("ledger_transactions.seq"), nullable=True),
    PrimaryKeyConstraint("block_hash", "position"),
    UniqueConstraint("transaction_seq"),
    one_of("status", ("found", "pending", "matured", "orphaned")),
)
# Reports of siblings, for a day: one that is told again, since its answer was lost, is no other.
sibling_reports = table(
    "sibling_reports", words("report"), number("at_s"), PrimaryKeyConstraint("report"), clustered=True
)
# Blocks of ours that followed a parent which another of ours did, and that were never submitted: only one can
# be in the chain. Luck found them, the books have nothing of them.
sibling_blocks = table(
    "sibling_blocks",
    words("parent_hash"),
    number("worker_id"),  # 0: nobody who is known
    number("pays_pool"),
    number("height"),
    number("found_at_s"),  # the first time that they were counted
    number("blocks"),
    PrimaryKeyConstraint("parent_hash", "worker_id", "pays_pool"),
    CheckConstraint("pays_pool IN (0, 1)", name="pays_pool"),
    CheckConstraint("height >= 0 AND blocks > 0", name="blocks"),
    clustered=True,
)

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
    "solo_blocks",
    "block_events",
)
