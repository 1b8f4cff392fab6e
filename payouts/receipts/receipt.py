"""A receipt: what an hour of an order came to, or what came later than its receipt; and how it is made.

Work is counted in 1/65,535 of a hash. Of those a share of difficulty 2^k stands for 2^(48+k), and a TH is
65,535 * 10^12, so that every sum is a whole number. The buyer owes the order's price of what was delivered:
a receipt adds the price of all work up to its own, rounded down to a psat, less the same of before it. So
nothing is lost by the hour. Where the order makes good what is missing (`making_good`), it is the price of
what was sold that he owes, and a receipt says what is made good.

Invariants: pure; the same counts after the same receipt give the same bytes. Must not know: the database, and
whose key it is.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from payouts.ledger import GENESIS_HASH
from payouts.proof.angara_verify import RECEIPT_VERSION, receipt_hash
from payouts.proof.key import ProofKey
from payouts.rates import HPS_PER_THS
from payouts.receipts.hours import HOUR_S, Counts
from payouts.receipts.making_good import Carried, Given, MakeGood, Settled, Tolerance, settled
from payouts.statements.period import utc

CARRIED: Final = ("billed", "short", "granted")
EXTENDED: Final = ("extended", "forgone")
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

    make_good: MakeGood | UnsetType = UNSET
    tolerances: tuple[Tolerance, ...] | UnsetType = UNSET
    extension_h: int | UnsetType = UNSET  # how long after its end it delivers what it owes


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the upstream said of shares that met one target of it, of which each stands for 2^256 / target
    hashes."""

    target: str
    accepted: int
    rejected: dict[str, int]  # by reason
    unanswered: int


class CarriedWork(msgspec.Struct, frozen=True, kw_only=True):
    """Of the period of a tolerance that is not over, as a receipt tells it."""

    billed: Whole
    short: Whole
    granted: Whole


class MadeGood(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is billed, and what is made good of it; for each tolerance what is carried in and out."""

    away_s: int  # of the seconds that were sold: nobody could reach the buyer's upstream
    refused: Whole  # that it was sent, and rejected or never answered
    billed: Whole
    short: Whole
    surplus: Whole
    granted: Whole  # made good now
    billed_before: Whole
    granted_before: Whole
    carried_before: tuple[CarriedWork, ...]
    carried: tuple[CarriedWork, ...]
    due_psat: int  # what is to be paid back of it

    # Of an extension: owed work that is delivered now, and billed; and that was offered, and not taken.
    extended: Whole | UnsetType = UNSET
    forgone: Whole | UnsetType = UNSET
    extended_before: Whole | UnsetType = UNSET
    forgone_before: Whole | UnsetType = UNSET


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
    made_good: MadeGood | UnsetType = UNSET
    bill_psat: int  # below zero where more is made good than billed
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
    offered_s = seconds or (0 if part else extension_seconds(sale, hour))
    good = _made_good(sale, before, hour, seconds, offered_s, counts)
    owed_before, owed = (work_before, work_before + work) if good is UNSET else _owed(sale.terms, good)
    billed_before_psat = psat_of(owed_before, sale.terms.sat_per_ph_day)
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
        sold=str(sold_work(sale.terms, seconds)),
        delivered=_by_exponent(counts, "delivered"),
        undelivered=_by_exponent(counts, "undelivered"),
        targets=_said(counts),
        work=str(work),
        work_before=str(work_before),
        made_good=good,
        bill_psat=psat_of(owed, sale.terms.sat_per_ph_day) - billed_before_psat,
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
    if receipt.made_good is not UNSET:
        counts["away",] = receipt.made_good.away_s
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


def refused_work(counts: Counts) -> int:
    """Of shares that were sent and not taken: as difficult as others of the hour, or as the upstream asks
    where that is less, or there are no others. Rounded down."""
    shares = sum(count for what, count in counts.items() if what[0] == "delivered")
    refused = Fraction(0)
    for what, count in counts.items():
        if what[0] in ("rejected", "unanswered"):
            asked = Fraction(WORK_PER_HASH << 256, int(what[1], 16))
            refused += count * (min(asked, Fraction(work_of(counts), shares)) if shares else asked)
    return int(refused)


def work_of(counts: Counts) -> int:
    """Of what was delivered."""
    return sum(
        shares << SHARE_LOG2 + int(what[1]) for what, shares in counts.items() if what[0] == "delivered"
    )


def sold_work(terms: Terms, seconds: int) -> int:
    return terms.hashrate_ths * HPS_PER_THS * seconds * WORK_PER_HASH


def sold_seconds(sale: Sale, hour: int) -> int:
    """Of that hour, as far as it is known that the order was ended."""
    ends_s = at_s(sale.terms.until_utc if sale.ended_utc is UNSET else sale.ended_utc)
    begins_s = max(at_s(sale.terms.from_utc), hour * HOUR_S)
    return max(min(ends_s, (hour + 1) * HOUR_S) - begins_s, 0)


def extension_seconds(sale: Sale, hour: int) -> int:
    """Of an hour that begins after the order's end: those in which it may deliver what it owes."""
    if hour * HOUR_S < at_s(sale.terms.until_utc):
        return 0
    return max(min(extends_until_s(sale), (hour + 1) * HOUR_S) - hour * HOUR_S, 0)


def extends_until_s(sale: Sale) -> int:
    """Until when what is owed as work may be delivered: the order's end where nothing is, or it was ended
    before its time."""
    if sale.ended_utc is not UNSET:
        return at_s(sale.ended_utc)
    hours = 0 if sale.terms.extension_h is UNSET else sale.terms.extension_h
    return at_s(sale.terms.until_utc) + hours * HOUR_S


def owed_work(receipt: Receipt | None) -> int:
    """What is owed as work after it: made good, and neither delivered nor left by the buyer."""
    if receipt is None or receipt.made_good is UNSET or receipt.made_good.extended is UNSET:
        return 0
    good = receipt.made_good
    return _total(good, "granted") - sum(_total(good, it) for it in EXTENDED)


def extended_work(receipt: Receipt | None) -> int:
    """What was delivered up to it of what was owed as work."""
    return 0 if receipt is None else _total(receipt.made_good, "extended")


def at_s(utc_text: str) -> int:
    """Seconds since 1970."""
    return int(datetime.fromisoformat(utc_text).timestamp())


def psat_of(work: int, sat_per_ph_day: int) -> int:
    """What work costs, rounded down to 10^-12 sat."""
    return work * sat_per_ph_day // WORK_PER_PSAT


def _made_good(
    sale: Sale, before: Receipt | None, hour: int, seconds: int, offered_s: int, counts: Counts
) -> MadeGood | UnsetType:
    terms = sale.terms
    if terms.tolerances is UNSET:
        return UNSET
    last = before.made_good if before else UNSET
    carried = tuple(Carried() for _ in terms.tolerances)
    if last is not UNSET:
        carried = tuple(Carried(**{it: int(getattr(one, it)) for it in CARRIED}) for one in last.carried)
    ends_s = at_s(terms.until_utc if sale.ended_utc is UNSET else sale.ended_utc)
    away_s = min(counts["away",], offered_s)
    given = Given(
        expected=sold_work(terms, seconds - away_s) if seconds else 0,
        delivered=work_of(counts),
        refused=refused_work(counts),
        missed=0 if seconds else sold_work(terms, away_s),
    )
    # What came later than its hour, or after the order's end, ends no period.
    hours = hour + 1 - at_s(terms.from_utc) // HOUR_S if seconds else 0
    # Of the hour in which it ends, too: what comes after its end is not told apart there.
    extends = ends_s < (hour + 1) * HOUR_S and hour * HOUR_S < extends_until_s(sale)
    found = settled(
        terms.tolerances,
        carried,
        given,
        hours,
        over=(hour + 1) * HOUR_S >= ends_s,
        owed=owed_work(before) if extends else 0,
        after=hour * HOUR_S >= ends_s,
    )
    billed_before = _total(last, "billed")
    granted_before = _total(last, "granted")
    due_psat = 0
    if terms.make_good == MakeGood.REFUND:
        due_psat = psat_of(granted_before + found.granted, terms.sat_per_ph_day)
        due_psat -= psat_of(granted_before, terms.sat_per_ph_day)
    return MadeGood(
        away_s=away_s,
        refused=str(given.refused),
        billed=str(found.billed),
        short=str(found.short),
        surplus=str(found.surplus),
        granted=str(found.granted),
        billed_before=str(billed_before),
        granted_before=str(granted_before),
        carried_before=_carried(carried),
        carried=_carried(found.carried),
        due_psat=due_psat,
        **(_extended(last, found) if terms.make_good == MakeGood.EXTENSION else {}),
    )


def _extended(last: MadeGood | UnsetType, found: Settled) -> dict[str, str]:
    """The fields of an extension."""
    before = {f"{it}_before": str(_total(last, it)) for it in EXTENDED}
    return before | {it: str(getattr(found, it)) for it in EXTENDED}


def _total(good: MadeGood | UnsetType, name: str) -> int:
    """Up to a receipt, and with it; nothing before the first."""
    if good is UNSET or getattr(good, name) is UNSET:
        return 0
    return int(getattr(good, f"{name}_before")) + int(getattr(good, name))


def _owed(terms: Terms, good: MadeGood) -> tuple[int, int]:
    """Work that the buyer owes the price of, before a receipt and with it."""
    before, billed = int(good.billed_before), int(good.billed)
    if terms.make_good != MakeGood.REFUND:
        before, billed = before - int(good.granted_before), billed - int(good.granted)
    if good.extended is not UNSET and good.extended_before is not UNSET:
        before, billed = before + int(good.extended_before), billed + int(good.extended)
    return before, before + billed


def _carried(carried: Iterable[Carried]) -> tuple[CarriedWork, ...]:
    return tuple(CarriedWork(**{it: str(getattr(one, it)) for it in CARRIED}) for one in carried)


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
