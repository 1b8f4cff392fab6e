"""The tables of the journal: how far the books have taken each one, and what its rate numbers mean.

Counted shares are in the log (`pool.journal`) until the books take them: into the minutes of
`payouts.tallies` and the hours of `payouts.schemas.orders`, in the transaction that notes how far it went. A
share that was forwarded to an upstream is in no tally until it is resolved: until then it is a row here.

Must not know: who writes and who takes.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from payouts.schemas.money import INTEGER, UPSTREAM_RISKS, number, one_of, table, words

# How far the books have taken each writer's journal. A window of records is taken in several transactions,
# each of some rows: `rows_done` of those up to `until_number` are in the books beside all up to `number`.
journal_positions = table(
    "journal_positions",
    words("writer"),
    number("number"),
    words("digest"),  # of that record: another one of its number is refused
    number("moment_s"),  # all of the writer's that is of before it is in the books
    number("until_number"),
    number("rows_done"),
    number("transactions"),  # its batches in journal_writers
    number("accepted"),  # shares of it that are in rate_hours
    # Accepted shares of rate_hours that are of no journal; less than none in books that were put back.
    number("before"),
    # Of the rows that are under way: nothing of them is dated before it.
    Column("floor_s", INTEGER, nullable=False, server_default=text("0")),
    # Of the accepted ones: another writer's, or too late.
    Column("refused", INTEGER, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("writer"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("number >= 0 AND until_number >= number AND rows_done >= 0", name="number"),
    CheckConstraint("accepted >= 0 AND transactions >= 0", name="accepted"),
)
# What was booked of each journal by the hours that its own records are of, whenever that was: the last record
# of the hour, how many there are, and the shares in them. Hour 0 has what was booked before there was this.
journal_hours = table(
    "journal_hours",
    words("writer"),
    number("hour"),
    number("number"),
    words("digest"),
    number("records"),
    PrimaryKeyConstraint("writer", "hour"),
    CheckConstraint("length(digest) = 32", name="digest"),
    CheckConstraint("records > 0 AND number > 0", name="records"),
)
journal_hour_shares = table(
    "journal_hour_shares",
    words("writer"),
    number("hour"),
    number("difficulty_log2"),
    number("verdict"),
    number("shares"),
    PrimaryKeyConstraint("writer", "hour", "difficulty_log2", "verdict"),
    CheckConstraint("shares > 0", name="shares"),
    clustered=True,
)
# What the engine's rate number stands for: the work's side of a price, and whose work it is (NULL: the
# pool's own). A row for each change, and one for each start of the pool.
rate_epochs = table(
    "rate_epochs",
    Column("epoch", INTEGER, primary_key=True, autoincrement=False),
    number("nbits"),
    number("height"),
    number("subsidy_sat"),
    number("fee_basis_id", ForeignKey("fee_bases.id"), nullable=True),
    number("created_at_s"),
    number("upstream_id", ForeignKey("upstreams.id"), nullable=True),
    number("order_id", ForeignKey("orders.id"), nullable=True),
    Column(
        "solo", INTEGER, nullable=False, server_default=text("0")
    ),  # 1: its blocks pay the tenant that mines them
    CheckConstraint("solo IN (0, 1)", name="solo"),
    CheckConstraint("epoch BETWEEN 1 AND 4294967295", name="epoch"),
)
# The tenants' side: under which rate of its own each tenant's shares of that epoch are booked, and who bears
# those that an upstream did not take.
rate_epoch_tenants = table(
    "rate_epoch_tenants",
    number("epoch", ForeignKey("rate_epochs.epoch")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("rate_id", ForeignKey("rates.id")),
    words("upstream_risk", default="tenant"),
    PrimaryKeyConstraint("epoch", "tenant_id"),
    one_of("upstream_risk", UPSTREAM_RISKS),
    clustered=True,
)
# Shares that were forwarded to an upstream and are not resolved; those of a pool that died are resolved as
# unanswered by the next one.
upstream_submits = table(
    "upstream_submits",
    words("key"),  # hex
    number("worker_id", ForeignKey("workers.id")),
    number("epoch", ForeignKey("rate_epochs.epoch")),
    number("difficulty_log2"),
    number("counted"),  # 1: it is in the tallies already
    words("target"),  # the upstream's: 64 hex digits
    number("noted_at_s"),
    words("writer", default=""),  # whose journal noted it; none for those of a version of before
    PrimaryKeyConstraint("writer", "key"),
    CheckConstraint("difficulty_log2 BETWEEN -32 AND 63", name="difficulty_log2"),
    CheckConstraint("counted IN (0, 1)", name="counted"),
    CheckConstraint("length(target) = 64", name="target"),
    clustered=True,
)

# Previous blocks that work of upstreams was credited on, and the header hashes of it as the engine packs
# them, those that one transaction took a row. They go when every engine has forgotten the block; that it was
# there stays.
upstream_tips = table(
    "upstream_tips",
    Column("id", INTEGER, primary_key=True, autoincrement=False),
    words("prevhash"),  # internal order: 64 hex digits
    number("forgotten"),
    UniqueConstraint("prevhash"),
    CheckConstraint("length(prevhash) = 64", name="prevhash"),
    CheckConstraint("forgotten IN (0, 1)", name="forgotten"),
)
upstream_credits = table(
    "upstream_credits",
    Column("seq", INTEGER, primary_key=True, autoincrement=False),
    number("tip_id", ForeignKey("upstream_tips.id")),
    Column("hashes", LargeBinary, nullable=False),
    words("writer", default=""),  # whose journal was taken first with them; none for those of before
    Index(None, "tip_id", "seq"),
)
# Forwarded shares that another writer has credited, or that are of a block that was over: until they are in a
# tally. Then, and for others at once, what is to be refused of tallies of the window that is taken.
refused_credits = table(
    "refused_credits",
    words("writer"),
    words("hash"),  # its first bytes, in hex
    number("reason"),  # the verdict that it has then
    PrimaryKeyConstraint("writer", "hash"),
    clustered=True,
)
refused_shares = table(
    "refused_shares",
    words("writer"),
    number("minute"),
    number("worker"),  # as the journal numbers it, like the rate
    number("rate"),
    number("difficulty_log2"),
    number("verdict"),
    number("reason"),
    number("shares"),
    PrimaryKeyConstraint("writer", "minute", "worker", "rate", "difficulty_log2", "verdict", "reason"),
    clustered=True,
)

APPEND_ONLY = ("rate_epochs", "rate_epoch_tenants")
