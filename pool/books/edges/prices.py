"""What an edge's prices may be: those of the chain that our own nodes have, by terms that its tenants had.

The journal of an edge says what its shares are worth. Whoever has taken over a site, or its bitcoind, would
say a difficulty of 1, the subsidy of 2009, fees that no block paid, a fee of before, or that the pool pays
what an upstream has paid already. So before a window of it is booked:

* the bits of each price are those of its height, as its subsidy is (`pool.books.journal.rate_rows`);
* no share is of a later time than the price that it has: its difficulty, its subsidy, its order;
* block fees are those of 144 blocks, one after the other, of which the last is not old;
* what a tenant is paid by follows from terms that were in force then or, since a site that is alone has not
  heard of newer ones, in the week before: for the pool's own work until it has (`pool.books.edges.told`).

Of when a share is the edge says, but what is new cannot be old while we hear of the edge (`Heard`). Not
stopped: who lets nothing be heard for days, and says that he had worked at the beginning of them.

What was over is taken all the same where a payer allowed it (`Late`).

What our nodes do not know yet waits (NotYet), and nothing is lost by it. Must not know: how they are asked.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final

import numpy as np
import structlog
from sqlalchemy import Connection, func, select

from payouts.rates import Scheme, UpstreamRisk, fee_basis_sat
from payouts.schemas.orders import orders
from pool.books.edges.late import Late
from pool.books.edges.owed import shares_in, worth_sat
from pool.books.edges.paid_terms import ALONE_S, LATE_S, all_terms, check_terms, check_told
from pool.books.edges.told import SILENT_S, Told
from pool.books.journal.rate_epochs import by_fees, unpacked_basis
from pool.books.journal.window import Window
from pool.books.store import StoreError
from pool.chain.difficulties import Offered
from pool.chain.paid_fees import misshapen
from pool.chain.price_history import PriceHistory
from pool.chain.templates import HEIGHT_MAX
from pool.journal.records import Machine, Paid, Rate
from stratum.difficulty import target_from_nbits
from stratum.tallies import MINED

log = structlog.get_logger()

LATE_TOLD_S: Final = 2 * 3600
# A node that does not say for a day what blocks paid, and clocks: each edge asks its own every hour.
FEES_OLD_S: Final = 2 * 86_400
FEES_OLD_BLOCKS: Final = 432  # the same, of a price that is allowed late: it has the fees of its own time
# What comes of an edge was on its way as long as nothing was heard of it: after a week alone a line needs
# a day at most for what has gathered. And a stream between us may stand for some hours.
CATCHES_UP: Final = 8  # times as fast as it gathers
STREAM_STANDS_S: Final = 6 * 3600
MAIN: Final = "main"
BLOCK_S: Final = 600  # of its, on average
TH: Final = 10**12
# Since when what comes is of later than when: a moment in ten minutes, of half a day.
HEARD_S: Final = 600
HEARD_MAX: Final = 72
# Prices that may be new at once: no process has more that are mined at (pool.books.journal.prices).
RATES_MAX: Final = 4_000


class NotYet(Exception):
    """What came is not to be taken now, and may be later: in words."""


class Heard:
    """How late what comes of an edge can be, and so of when it is at least. `last_s` is when it was heard of
    before us, and nothing of it is of before `since_s`."""

    def __init__(self, since_s: int, last_s: int) -> None:
        self._last_s = last_s
        self._late_s = ALONE_S  # what had gathered by then is not known
        # What is behind that record is of no earlier moment; both ascend. Replaced, for other threads ask.
        self._known = [(-1, since_s)]

    def note(self, have: int, now_s: int) -> None:
        """It lives, and up to that record we have all of it."""
        passed_s = now_s - self._last_s
        if passed_s < 0:
            return  # our clock stepped back
        self._last_s = now_s
        self._late_s += passed_s if passed_s > SILENT_S else -min(CATCHES_UP * passed_s, self._late_s)
        self._put(have, now_s - self._late_s - STREAM_STANDS_S)

    def not_before_s(self, number: int) -> int:
        """Of that record."""
        known = self._known
        return known[max(bisect_left(known, number, key=itemgetter(0)) - 1, 0)][1]

    def _put(self, number: int, moment_s: int) -> None:
        if number < self._known[-1][0] or moment_s <= self._known[-1][1]:
            return
        known = self._known.copy()
        if number == known[-1][0] or (len(known) > 2 and moment_s - known[-2][1] < HEARD_S):
            known[-1] = number, moment_s
        else:
            known.append((number, moment_s))
        if len(known) > HEARD_MAX:
            del known[1]
        self._known = known


class EdgePrices:
    """Of one edge; `history` is what our nodes say, None where nobody asks them; `late` what was allowed;
    `told` when it heard of changes."""

    def __init__(
        self, edge: str, history: PriceHistory | None, told: Told, late: Sequence[Late] = ()
    ) -> None:
        self._edge, self._history, self._told_of, self._late = edge, history, told, late
        self._told: set[int] = set()  # rates of which shares were late
        self._whose: tuple[Window, dict[int, set[str]]] | None = None  # of the window that was looked at

    def look(self, window: Window, meanings: Mapping[int, Rate], named: Mapping[int, Machine]) -> None:
        """Before the transaction: what the chain says. Raises NotYet at the first that is not known, so that
        an edge asks about one at a time, and StoreError."""
        if self._history is None:
            return
        whose = self._whose_of(window, named)
        defined = {it.number for part in window.parts for it in part.rates}
        if len(defined) > RATES_MAX:
            raise StoreError(f"the journal has {len(defined)} new rates at once")
        for number in sorted((defined | window.used.keys() | window.untaken.keys()) & meanings.keys()):
            rate = meanings[number]
            if not 0 <= rate.height <= HEIGHT_MAX:
                raise StoreError(f"rate {number} is of height {rate.height}, which no block ever has")
            by_difficulty = _by_difficulty(rate, whose.get(number, set()))
            used_s = _last_use_s(window, rate) if by_difficulty else None
            self._look(self._history, rate, used_s, self._is_allowed(self._history, window, rate))

    def _is_allowed(self, history: PriceHistory, window: Window, rate: Rate) -> bool:
        """Whenever it was used."""
        end = history.difficulties.end
        return any(
            window.last.number <= it.until and it.height <= rate.height < end(it.height) for it in self._late
        )

    def _whose_of(self, window: Window, named: Mapping[int, Machine]) -> dict[int, set[str]]:
        """It is asked before a transaction, and in it."""
        if self._whose is None or self._whose[0] is not window:
            self._whose = window, _whose(window, named)
        return self._whose[1]

    def _look(self, history: PriceHistory, rate: Rate, used_s: int | None, allowed: bool) -> None:
        offered = history.difficulties.of(rate.height, rate.nbits)
        if offered is None:
            raise NotYet(f"our nodes have not said what bits {rate.nbits:08x} at height {rate.height} are")
        if offered.nbits is not None and rate.nbits not in offered.nbits:
            theirs = " and ".join(f"{it:08x}" for it in sorted(offered.nbits))
            raise StoreError(
                f"rate {rate.number} has bits {rate.nbits:08x} at height {rate.height}, where our nodes have"
                f" {theirs}. Were they those of a stale block, our node takes its header (submitheader)"
            )
        if used_s is not None and not allowed:
            self._look_when(rate, offered, used_s)
        if rate.basis:  # also of what is never used: the books keep the list
            _look_at_fees(history, rate, used_s, allowed)

    def _look_when(self, rate: Rate, offered: Offered, used_s: int) -> None:
        late_s = used_s - offered.until_s
        if not offered.over:
            if late_s > LATE_S:
                raise NotYet(f"our nodes have not said whether the price of height {rate.height} is over")
        elif late_s > LATE_S:
            raise StoreError(
                f"rate {rate.number} is the price of height {rate.height}, which was over"
                f" {late_s // 3600} hours before shares that it has"
            )
        elif late_s > LATE_TOLD_S and rate.number not in self._told:
            self._told.add(rate.number)
            log.error("edge_price_late", edge=self._edge, rate=rate.number, height=rate.height, late_s=late_s)

    def network_ths(self, window: Window, meanings: Mapping[int, Rate]) -> int | None:
        """What all of its machines do, by the hardest of these prices' bits, which were looked at; None where
        nobody looks, and on chains whose coins are worth nothing: one machine there may do more than all
        others."""
        under_way = {it.epoch for part in window.parts for it in part.noted}
        used = (window.used.keys() | window.untaken.keys() | under_way) & meanings.keys()
        if not used or self._history is None or self._history.chain != MAIN:
            return None
        target = min(target_from_nbits(meanings[it].nbits) for it in used)
        return max(1, (1 << 256) // target // BLOCK_S // TH)

    def owed_sat(
        self,
        connection: Connection,
        window: Window,
        meanings: Mapping[int, Rate],
        named: Mapping[int, Machine],
    ) -> int | None:
        """What its shares come to at most, on those chains; None elsewhere."""
        if self._history is None or self._history.chain == MAIN:
            return None
        shares, whose = shares_in(window.parts), _whose(window, named)
        for part in window.parts:
            for it in part.noted:
                whose.setdefault(it.epoch, set()).add(named[it.worker].tenant)
        used = {number: meanings[number] for number, _ in shares if number in meanings}
        by_difficulty = [it for it, rate in used.items() if _by_difficulty(rate, whose.get(it, set()))]
        sold = {number: rate.order for number, rate in used.items() if rate.order is not None}
        of = orders.c
        sold_at = dict(
            connection.execute(
                select(of.name, func.max(of.sat_per_ph_day))
                .where(of.name.in_(sold.values()))
                .group_by(of.name)
            ).all()
        )
        return worth_sat(
            shares, used, by_difficulty, {it: sold_at.get(order, 0) for it, order in sold.items()}
        )

    def check(
        self,
        connection: Connection,
        window: Window,
        meanings: Mapping[int, Rate],
        named: Mapping[int, Machine],
    ) -> None:
        """In the transaction: what the books say. Raises StoreError."""
        defined = {it.number: it for part in window.parts for it in part.rates}
        for rate in defined.values():
            if rate.opened_at_s > window.moment_s:
                raise StoreError(f"rate {rate.number} is dated later than what it is with")
            if not rate.basis and any(by_fees(it) for it in rate.paid):
                raise StoreError(f"rate {rate.number} goes by the fees of blocks, and names none")
        whose, self._whose = self._whose_of(window, named), None
        looked_at = defined | {it: meanings[it] for it in whose.keys() & meanings.keys()}
        terms = all_terms(connection) if looked_at else {}
        for rate in looked_at.values():
            used_s = _last_use_s(window, rate)
            users = whose.get(rate.number, set())
            check_terms(connection, rate, terms, users, used_s)
            allowed = self._history is not None and self._is_allowed(self._history, window, rate)
            found_s = [it[rate.number] for it in (window.used, window.untaken) if rate.number in it]
            if found_s and not allowed:
                check_told(connection, rate, terms, users, max(found_s), self._told_of)


def _last_use_s(window: Window, rate: Rate) -> int | None:
    """When the last share was found that is paid by it."""
    used = [window.used[rate.number]] if rate.number in window.used else []
    if rate.number in window.untaken and any(it.upstream_risk == UpstreamRisk.POOL for it in rate.paid):
        used.append(window.untaken[rate.number] - ALONE_S)
    return max(used, default=None)


def _by_difficulty(rate: Rate, users: set[str]) -> bool:
    """Whether what one of them is paid follows from the difficulty: not where it is nothing, or an order's.
    Who is not named is paid by his terms."""
    if rate.solo:
        return False
    others = {it.tenant for it in rate.paid if not _by_chance(it)}
    return bool(users - others)


def _by_chance(paid: Paid) -> bool:
    """Of a block: what it is paid at once, or what it is paid of the blocks to come."""
    scheme = Scheme(paid.scheme)
    return (scheme.accrues or scheme.divides) and paid.sat_per_ph_day is None


def _look_at_fees(history: PriceHistory, rate: Rate, used_s: int | None, allowed: bool) -> None:
    blocks = unpacked_basis(rate.basis)
    if words := misshapen(blocks):
        raise StoreError(f"the fees that rate {rate.number} goes by: {words}")
    top, fees_sat = max(it.height for it in blocks), fee_basis_sat(blocks)
    paid = history.fees.up_to(top)
    if paid is not None and not paid.settled and not paid.is_like(fees_sat):
        paid = history.fees.up_to(top, again=True)
    if paid is None:
        raise NotYet(f"our nodes have not said what the blocks up to {top} paid")
    if not paid.is_like(fees_sat):
        raise StoreError(
            f"rate {rate.number} goes by {fees_sat} sat that blocks up to {top} paid on average, and by our"
            f" nodes they paid {paid.fees_sat} sat"
        )
    if allowed:
        if rate.height - top > FEES_OLD_BLOCKS:
            raise StoreError(
                f"rate {rate.number} of height {rate.height} goes by what blocks paid up to {top}, which was"
                " days before"
            )
    elif used_s is not None and used_s > paid.at_s + FEES_OLD_S:
        raise StoreError(
            f"rate {rate.number} goes by what blocks paid up to {top}, {(used_s - paid.at_s) // 86_400} days"
            " before shares that it has"
        )


def _whose(window: Window, named: Mapping[int, Machine]) -> dict[int, set[str]]:
    """Whose good shares have which rate."""
    found: dict[int, set[str]] = {}
    for part in window.parts:
        if part.tallies is None:
            continue
        mined = part.tallies[np.isin(part.tallies["verdict"], MINED)]
        pairs = np.unique(mined["rate"].astype(np.int64) << 32 | mined["worker"])
        rates, numbers = (pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist()
        begins = (np.flatnonzero(np.diff(pairs >> 32)) + 1).tolist()
        for begin, end in pairwise([0, *begins, len(numbers)]):
            if whose := {named[it].tenant for it in numbers[begin:end] if it in named}:
                found.setdefault(rates[begin], set()).update(whose)
    return found
