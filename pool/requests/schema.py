"""The tables of requests: what somebody asked for, and what became of it.

Invariants, held by triggers and keys: append-only; a request is approved once and ends once. Its parameters
are without secrets. Those (an upstream's password) are beside it for as long as it may be carried out, in the
one table here of which rows are deleted, and are in no answer. That it has ended by its time is no row.

Must not know: which commands there are, and who may agree.
"""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, PrimaryKeyConstraint

from payouts.schemas.money import INTEGER, counted, number, one_of, table, words

WHATS = ("approved", "carried_out", "withdrawn", "refused")

requests = table(
    "requests",
    counted("id", "requests"),
    words("command"),
    words("subject"),
    words("params"),  # JSON
    words("was", nullable=True),  # JSON: all that the books said of the subject
    words("became", nullable=True),  # JSON: all that they would say
    number("people"),  # who have to agree, with who asks
    words("said_by"),
    number("user_id", ForeignKey("users.id"), nullable=True),  # NULL: an account that needs no user
    number("token_id", ForeignKey("tokens.id"), nullable=True),
    words("source"),
    number("at_s"),
    number("earliest_at_s"),
    number("expires_at_s"),
    CheckConstraint("length(said_by) > 0", name="said_by"),
    CheckConstraint("people >= 1", name="people"),
    CheckConstraint("at_s <= earliest_at_s AND earliest_at_s < expires_at_s", name="expires_at_s"),
    Index(None, "expires_at_s"),
)
request_events = table(
    "request_events",
    Column("request_id", INTEGER, ForeignKey("requests.id"), nullable=False, autoincrement=False),
    number("ends"),  # 0: it was approved; 1: it is over
    words("what"),
    words("said_by"),
    number("user_id", ForeignKey("users.id"), nullable=True),
    number("token_id", ForeignKey("tokens.id"), nullable=True),
    words("source"),
    number("at_s"),
    words("why"),  # it was refused or withdrawn; empty else
    PrimaryKeyConstraint("request_id", "ends"),
    one_of("what", WHATS),
    CheckConstraint("ends IN (0, 1) AND (what = 'approved') = (ends = 0)", name="ends"),
    CheckConstraint("length(said_by) > 0", name="said_by"),
)
request_secrets = table(
    "request_secrets",
    Column("request_id", INTEGER, ForeignKey("requests.id"), primary_key=True, autoincrement=False),
    words("params"),  # JSON, with them
)

APPEND_ONLY = ("requests", "request_events")
