"""The table of changes: who changed what by a command, when, from where, what it was and what it became; and
that of the keys that changes were asked for under (`pool.books.changes.keys`).

Changes are append-only, by triggers that the migrations create, and chained by hash. `was` and `became` are
JSON objects of what differs, without anything secret; NULL where there was nothing before, or is nothing
after. `source` is empty where the change is of before there was one. The newest has the highest number, no
number is left out, and the book's own row has the newest's number and hash.

Must not know: which commands there are.
"""

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint

from payouts.schemas.money import counted, number, table, words

changes = table(
    "changes",
    counted("id", "changes"),
    number("changed_at_s"),
    words("changed_by"),
    words("source"),
    words("command"),
    words("subject"),
    words("was", nullable=True),
    words("became", nullable=True),
    words("hash"),
    CheckConstraint("length(changed_by) > 0", name="changed_by"),
    CheckConstraint("was IS NOT NULL OR became IS NOT NULL", name="became"),
)

# Of changes that were asked for under a key: what it was, and what was answered. They go by themselves.
change_keys = table(
    "change_keys",
    words("caller"),
    words("key"),
    words("digest"),  # SHA-256 of what was asked for
    number("change"),
    number("made_at_s"),
    words("answer", nullable=True),
    PrimaryKeyConstraint("caller", "key"),
    CheckConstraint("length(digest) = 64", name="digest"),
    Index(None, "caller", "change"),
    Index(None, "made_at_s"),
)

APPEND_ONLY = ("changes",)
