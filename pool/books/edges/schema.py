"""The tables of edges: what each is, what it may count for, which journals it has had, and which hubs have
copies of those.

A journal is an edge's for ever, and so is the part of numbers that it was written with: `part` of 256 of the
extranonces, and of the numbers of machines. The hub's own is 0.

Must not know: how edges are reached.
"""

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint

from payouts.schemas.money import counted, number, table, words

# What holds a journal back (`held`) is in words; its lease is whose process it is, and until when.
edges = table(
    "edges",
    counted("id", "edges"),
    words("name"),
    words("nkey"),  # public: who shows that he has the other half of it is the edge
    number("part"),  # of its next journal, and of the one that it has
    number("epoch"),  # counted up by each process that begins: whatever former ones say is refused
    words("writer", nullable=True),  # its journal; NULL: of the next one that it comes with
    number("ths", nullable=True),  # what its machines do together: more is told
    words("host", nullable=True),
    words("process", nullable=True),
    number("lease_until_s"),
    number("created_at_s"),
    words("created_by"),
    number("retired_at_s", nullable=True),
    words("held", nullable=True),
    number("held_at_s", nullable=True),
    UniqueConstraint("name"),
    UniqueConstraint("nkey"),
    CheckConstraint("length(name) > 0", name="name"),
    CheckConstraint("length(nkey) = 56", name="nkey"),
    CheckConstraint("part BETWEEN 1 AND 255", name="part"),
    CheckConstraint("epoch >= 0", name="epoch"),
    CheckConstraint("ths >= 0", name="ths"),
    CheckConstraint("(held IS NULL) = (held_at_s IS NULL)", name="held"),
    CheckConstraint("(host IS NULL) = (process IS NULL)", name="host"),
)
# Whom it may count for: all of a tenant's machines, or those of one container.
edge_places = table(
    "edge_places",
    number("edge_id", ForeignKey("edges.id")),
    number("tenant_id", ForeignKey("tenants.id")),
    words("container"),  # empty: all of them
    PrimaryKeyConstraint("edge_id", "tenant_id", "container"),
    clustered=True,
)
edge_writers = table(
    "edge_writers",
    words("writer"),
    number("edge_id", ForeignKey("edges.id")),
    number("part"),
    number("began_at_s"),
    number("ended_at_s", nullable=True),  # nothing is taken of it any more
    PrimaryKeyConstraint("writer"),
    CheckConstraint("part BETWEEN 1 AND 255", name="part"),
    Index(None, "edge_id"),
)
# Hubs that may have acknowledged more of a journal than is booked: `number` is what each had when it said so.
edge_copies = table(
    "edge_copies",
    words("writer"),
    words("hub"),
    number("number"),
    PrimaryKeyConstraint("writer", "hub"),
    CheckConstraint("number >= 0", name="number"),
    clustered=True,
)
