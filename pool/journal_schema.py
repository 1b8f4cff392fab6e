"""The tables of the journal: batches of tallies as they were committed, and what their rate numbers mean.

A batch is one row: the engine's packed tallies of some 20 ms. It is deleted by the transaction that folds it
into the minutes of `payouts.tallies`, so a share is in exactly one of the two.

Must not know: who writes and who folds.
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, LargeBinary, PrimaryKeyConstraint

from payouts.schema import INTEGER, number, table

journal_batches = table(
    "journal_batches",
    Column("seq", INTEGER, primary_key=True, autoincrement=False),
    number("minute"),  # since 1970, at the commit
    Column("tallies", LargeBinary, nullable=False),
    CheckConstraint("length(tallies) > 0", name="tallies"),
)
# What the engine's rate number stands for: the work's side of a price. A row for each change, and one for
# each start of the pool.
rate_epochs = table(
    "rate_epochs",
    Column("epoch", INTEGER, primary_key=True, autoincrement=False),
    number("nbits"),
    number("height"),
    number("subsidy_sat"),
    number("fee_basis_id", ForeignKey("fee_bases.id"), nullable=True),
    number("created_at_s"),
    CheckConstraint("epoch BETWEEN 1 AND 4294967295", name="epoch"),
)
# The tenants' side: under which rate of its own each tenant's shares of that epoch are booked.
rate_epoch_tenants = table(
    "rate_epoch_tenants",
    number("epoch", ForeignKey("rate_epochs.epoch")),
    number("tenant_id", ForeignKey("tenants.id")),
    number("rate_id", ForeignKey("rates.id")),
    PrimaryKeyConstraint("epoch", "tenant_id"),
    clustered=True,
)

APPEND_ONLY = ("rate_epochs", "rate_epoch_tenants")
