"""A receipt: what an hour of an order came to, or what came later than its receipt; and how it is made.

Work is counted in 1/65,535 of a hash. Of those a share of difficulty 2^k stands for 2^(48+k), and a TH is
65,535 * 10^12, so that every sum is a whole number. The buyer owes the order's price of what was delivered:
a receipt adds the price of all work up to its own, rounded down to a psat, less the same of before it. So
nothing is lost by the hour.

Invariants: pure; the same counts after the same receipt give the same bytes. Must not know: the database, and
whose key it is.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import RECEIPT_VERSION, receipt_hash
from payouts.proof.key import ProofKey
from payouts.rates import HPS_PER_THS
from payouts.receipts.hours import HOUR_S, Counts
from payouts.statements.period import utc

WORK_PER_HASH: Final = 65_535
SHARE_LOG2: Final = 48  # of the work of a share of difficulty 1
# Work of a PH/s for a day, over 10^12: psat = work * sat_per_ph_day // this.
WORK_PER_PSAT: Final = WORK_PER_HASH * 1_000 * 86_400
Whole = Annotated[str, Meta(pattern=r"^-?[0-9]{1,60}$")]  # JSON's readers do not agree on numbers so large


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What was sold."""

    hashrate_ths: int
    sat_per_ph_day: int
    from_utc: str
    until_utc: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream said of shares that met one target of it, of which each stands for 2^256 / target
    hashes."""

    target: str
    accepted: int
    rejected: dict[str, int]  # by reason
    unanswered: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """As it is hashed and signed: `hash` and `signature` are over all the rest."""

    version: int
    number: int  # of the order's receipts
    book: str
    order: str
    buyer: str
    upstream: str
    terms: Terms
    ended_utc: str | UnsetType = UNSET  # before its time
    hour_utc: str
    part: int  # 0: the hour's; others: what was booked in it later
    seconds: int  # of the hour that were sold
    sold: Whole
    delivered: dict[str, int]  # shares by 2's exponent of their difficulty
    undelivered: dict[str, int]  # the same: credited to sellers at the pool's risk, and taken by no upstream
    targets: tuple[Said, ...]
    work: Whole  # of what was delivered
    work_before: Whole  # of all receipts before
    bill_psat: int
    billed_before_psat: int
    key: str  # empty where there was none
    previous: str
    hash: str = ""
    signature: str = ""


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """What all receipts of an order have in common."""

    book: str
    order: str
    buyer: str
    upstream: str
    terms: Terms
    ended_utc: str | UnsetType = UNSET


def next_receipt(
    sale: Sale, before: Receipt | None, hour: int, part: int, counts: Counts, key: ProofKey | None
) -> Receipt:
    """Behind that one, of these counts. Raises NoSigning."""
    work, seconds = work_of(counts), 0 if part else sold_seconds(sale, hour)
    work_before = int(before.work_before) + int(before.work) if before else 0
    billed_before_psat = psat_of(work_before, sale.terms.sat_per_ph_day)
    made = Receipt(
        version=RECEIPT_VERSION,
        number=before.number + 1 if before else 1,
        book=sale.book,
        order=sale.order,
        buyer=sale.buyer,
        upstream=sale.upstream,
        terms=sale.terms,
        ended_utc=sale.ended_utc,
        hour_utc=utc(hour * HOUR_S),
        part=part,
        seconds=seconds,
        sold=str(sale.terms.hashrate_ths * HPS_PER_THS * seconds * WORK_PER_HASH),
        delivered=_by_exponent(counts, "delivered"),
        undelivered=_by_exponent(counts, "undelivered"),
        targets=_said(counts),
        work=str(work),
        work_before=str(work_before),
        bill_psat=psat_of(work_before + work, sale.terms.sat_per_ph_day) - billed_before_psat,
        billed_before_psat=billed_before_psat,
        key=key.public.hex() if key else "",
        previous=before.hash if before else GENESIS_HASH,
    )
    digest = receipt_hash(msgspec.to_builtins(made))
    signature = key.sign(digest).hex() if key else ""
    return msgspec.structs.replace(made, hash=digest.hex(), signature=signature)


def counts_of(receipt: Receipt) -> Counts:
    """What it was made of."""
    counts: Counts = Counter()
    for name in ("delivered", "undelivered"):
        counts.update({(name, log2): shares for log2, shares in getattr(receipt, name).items()})
    for it in receipt.targets:
        counts.update({("accepted", it.target): it.accepted, ("unanswered", it.target): it.unanswered})
        counts.update({("rejected", it.target, reason): shares for reason, shares in it.rejected.items()})
    return counts


def without(counts: Counts, told: Iterable[Receipt]) -> Counts:
    """What is not in those receipts; less than nothing where they have what is not in the books."""
    left = Counter(counts)
    for it in told:
        left.subtract(counts_of(it))
    return left


def work_of(counts: Counts) -> int:
    """Of what was delivered."""
    return sum(
        shares << SHARE_LOG2 + int(what[1]) for what, shares in counts.items() if what[0] == "delivered"
    )


def sold_seconds(sale: Sale, hour: int) -> int:
    """Of that hour, as far as it is known that the order was ended."""
    ends_s = at_s(sale.terms.until_utc if sale.ended_utc is UNSET else sale.ended_utc)
    begins_s = max(at_s(sale.terms.from_utc), hour * HOUR_S)
    return max(min(ends_s, (hour + 1) * HOUR_S) - begins_s, 0)


def at_s(utc_text: str) -> int:
    """Seconds since 1970."""
    return int(datetime.fromisoformat(utc_text).timestamp())


def psat_of(work: int, sat_per_ph_day: int) -> int:
    """What work costs, rounded down to 10^-12 sat."""
    return work * sat_per_ph_day // WORK_PER_PSAT


def _by_exponent(counts: Counts, name: str) -> dict[str, int]:
    return {what[1]: shares for what, shares in sorted(counts.items()) if what[0] == name}


def _said(counts: Counts) -> tuple[Said, ...]:
    """By target, the hardest first."""
    of: dict[str, dict[str, Any]] = {}
    for what, shares in sorted(counts.items()):
        if what[0] in ("accepted", "rejected", "unanswered"):
            said = of.setdefault(what[1], {"accepted": 0, "rejected": {}, "unanswered": 0})
            if what[0] == "rejected":
                said["rejected"][what[2]] = shares
            else:
                said[what[0]] = shares
    return tuple(Said(target=target, **said) for target, said in sorted(of.items()))
