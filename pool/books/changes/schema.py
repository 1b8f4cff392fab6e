"""The table of changes: who changed what by a command, when, from where, what it was and what it became.

Append-only, by triggers that the migrations create, and chained by hash. `was` and `became` are JSON objects
of what differs, without anything secret; NULL where there was nothing before, or is nothing after. `source`
is empty where the change is of before there was one. The newest has the highest number, no number is left
out, and the book's own row has the newest's number and hash.

Must not know: which commands there are.
"""

from sqlalchemy import CheckConstraint

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

APPEND_ONLY = ("changes",)
