"""An auditor who believes the miners' lists and the chain, and computes with integers and fractions.

What he asks of the books, when everything has come to rest:

* every share that was acknowledged is booked once, at the difficulty and the price of its job; what was never
  answered may be, once; and nothing else is;
* no two sessions ever were given the same work;
* what is credited on another pool's work is what that pool has counted;
* a share is refused only for what it was: not as another's, and not below a difficulty that it reaches;
* of each parent on which a block of ours was acknowledged, a block of ours was brought to a node, and each
  that a node took is in the books, with whoever found it;
* the ledger's transfers are what the shares are worth, to the satoshi, and no tenant's account is in debt.

Must not know: anything of the pool's code. He reads the database's tables as they are documented.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

import msgspec

from tests.simulation.bitcoinds import Bitcoind, subsidy_sat, target_of
from tests.simulation.miners import DIFF1, Job, Share

ACCEPTED: Final = 0
ELSEWHERE_HEIGHT: Final = 1_000_000  # of all that the other pool has; our chain is at some hundred
# What is said of a share that is refused: in V1, and in V2.
DUPLICATE: Final = ("Duplicate share", "duplicate-share")
LOW: Final = ("Low difficulty share", "difficulty-too-low")
GOOD: Final = (0, 11, 12)  # accepted; no upstream answered; it said no. To the miner all are good


class Found(msgspec.Struct, frozen=True):
    """Something that must not be."""

    verdict: str
    words: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.words}"


class Works:
    """Whom each search was given to."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[object, ...], set[int]] = {}
        self.twice: list[Found] = []

    def told(self, session: int, job: Job, *, resumed: bool) -> None:
        sessions = self._sessions.setdefault(job.space, set())
        if sessions and session not in sessions and not resumed:
            words = f"sessions {min(sessions)} and {session} have extranonce1 {job.extranonce1.hex()}"
            self.twice.append(Found("the same work twice", f"{words} on job {job.job_id}"))
        sessions.add(session)


class Counted(msgspec.Struct, frozen=True):
    """What a share is booked as."""

    worker: str
    difficulty: Fraction
    price: (
        tuple[int, int] | None
    )  # nBits and subsidy; None on another pool's work, which has the price of ours


# What shares are told apart by, and what it means where fewer or more of them are booked than were sent: each
# is looked at only where those before it go together.
LOOKS: Final[tuple[tuple[Callable[[Counted], object], str, str], ...]] = (
    (lambda it: it.worker, "acknowledged and lost", "booked more than once"),
    (lambda it: (it.worker, it.difficulty), "booked at another difficulty", "booked at another difficulty"),
    (lambda it: it, "booked at another price", "booked at another price"),
)


class Row(msgspec.Struct, frozen=True):
    """Of the books: so many shares of one worker at one price."""

    of: Counted
    nbits: int
    subsidy_sat: int
    tenant: str
    verdict: int
    shares: int
    fee_bps: int
    scheme: str


class Audit:
    """`shares` are the miners' lists, `nodes` what the chain saw, `fees_bps` what tenants agreed to, one
    after the other."""

    def __init__(
        self,
        database: Path,
        shares: list[Share],
        works: Works,
        nodes: list[Bitcoind],
        fees_bps: Mapping[str, Collection[int]],
        upstream_counted: int,
    ) -> None:
        self._books = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        self._shares, self._works, self._nodes, self._fees_bps = shares, works, nodes, fees_bps
        self._upstream_counted = upstream_counted
        self._rows = list(self._booked())

    def findings(self) -> list[Found]:
        """All that is wrong, the worst first; nothing where all is well."""
        try:
            return [
                *self._works.twice,
                *self._counted(),
                *self._refused(),
                *self._delivered(),
                *self._blocks(),
                *self._ledger(),
            ]
        finally:
            self._books.close()

    # Shares

    def _booked(self) -> Iterator[Row]:
        names = " || '.' || ".join(("tenants.name", "containers.name", "workers.unit"))
        for table in ("tally_minutes", "tally_hours", "tally_days"):
            query = f"""
                SELECT {names}, tally.difficulty_log2, rates.upstream_id, nbits, subsidy_sat, tenants.name,
                verdict, shares, fee_bps, scheme
                FROM {table} AS tally JOIN rates ON rates.id = tally.rate_id
                JOIN workers ON workers.id = tally.worker_id
                JOIN containers ON containers.id = workers.container_id
                JOIN tenants ON tenants.id = workers.tenant_id"""  # noqa: S608 - names of ours
            for name, log2, upstream, nbits, subsidy, *rest in self._books.execute(query):
                price = (nbits, subsidy) if upstream is None else None
                yield Row(Counted(name, Fraction(2) ** log2, price), nbits, subsidy, *rest)

    def _counted(self) -> Iterator[Found]:
        """By worker at first, so that a share that is gone is told from one that is booked as another."""
        booked: Counter[Counted] = Counter()
        for row in self._rows:
            if row.verdict in GOOD:
                booked[row.of] += row.shares
        sure: Counter[Counted] = Counter()
        perhaps: Counter[Counted] = Counter()
        for share in self._shares:
            if share.verdict == "accepted" and not share.may_be_lost:
                sure[_counted(share)] += 1
            elif share.verdict in (None, "accepted"):
                perhaps[_counted(share)] += 1
        for of, lost, more in LOOKS:
            least, most, found = _by(of, sure), _by(of, sure + perhaps), _by(of, booked)
            wrong = [key for key in {**most, **found} if not least[key] <= found[key] <= most[key]]
            for key in wrong:
                words = f"{least[key]} acknowledged, {most[key] - least[key]} of which nobody can say"
                verdict = lost if found[key] < least[key] else more
                yield Found(verdict, f"{_words(key)}: {words}, {found[key]} booked")
            if wrong:
                return

    def _refused(self) -> Iterator[Found]:
        sent: Counter[int] = Counter(share.hash_int for share in self._shares)
        for share in self._shares:
            if share.verdict in (None, "accepted"):
                if share.verdict == "accepted" and share.hash_int > share.job.target:
                    yield Found("accepted below its difficulty", f"{share.worker}: {share.hash_int:064x}")
                continue
            reaches = share.hash_int <= share.job.target
            if share.verdict in DUPLICATE and sent[share.hash_int] == 1:
                yield Found("refused for another's share", f"{share.worker}: {share.hash_int:064x}")
            if share.verdict in LOW and reaches:
                yield Found(
                    "refused below a difficulty that it reaches", f"{share.worker}: {share.hash_int:064x}"
                )
        accepted = Counter(share.hash_int for share in self._shares if share.verdict == "accepted")
        for found, times in accepted.items():
            if times > 1:
                yield Found("one share acknowledged twice", f"{found:064x}")

    def _delivered(self) -> Iterator[Found]:
        """What is accepted on another pool's work is what it has counted, or less: answers are lost."""
        accepted = sum(it.shares for it in self._rows if it.of.price is None and it.verdict == ACCEPTED)
        if accepted > self._upstream_counted:
            words = f"{accepted} shares, of which it has counted {self._upstream_counted}"
            yield Found("credited on another pool's work and not counted there", words)

    # Blocks

    def _blocks(self) -> Iterator[Found]:
        brought = {it.parent_hex for node in self._nodes for it in node.submitted}
        parents = {
            share.prevhash[::-1].hex()
            for share in self._shares
            if share.verdict == "accepted" and share.hash_int <= target_of(share.nbits)
        }
        for parent in sorted(parents - brought):
            yield Found("a block was not submitted", f"on parent {parent}")
        names = " || '.' || ".join(("tenants.name", "containers.name", "workers.unit"))
        query = f"""
            SELECT hash, {names} FROM blocks LEFT JOIN workers ON workers.id = blocks.worker_id
            LEFT JOIN containers ON containers.id = workers.container_id
            LEFT JOIN tenants ON tenants.id = workers.tenant_id"""  # noqa: S608 - names of ours
        known = dict(self._books.execute(query).fetchall())
        taken = {
            it.hash_hex for node in self._nodes for it in node.submitted if it.verdict in (None, "duplicate")
        }
        for block in sorted(taken - known.keys()):
            yield Found("a block is not in the books", block)
        finders = {f"{it.hash_int:064x}": it.worker for it in self._shares}
        for block in sorted(known.keys() & finders.keys()):
            if known[block] != finders[block]:
                words = f"{block} of {finders[block]} is booked as {known[block] or 'nobody'}'s"
                yield Found("a block has another finder", words)
        for node in self._nodes:
            for it in node.submitted:
                if it.verdict in ("high-hash", "bad-txnmrklroot"):
                    yield Found("a node refused a block", f"{node.name}: {it.verdict} {it.hash_hex}")

    # Money

    def _ledger(self) -> Iterator[Found]:
        balances: Counter[str] = Counter()
        transfers = "SELECT from_account, to_account, amount_sat FROM ledger_transfers"
        for debit, credit, sat in self._books.execute(f"{transfers} ORDER BY transaction_seq, position"):
            if sat <= 0:
                yield Found("a transfer of nothing", f"{sat} sat from {debit} to {credit}")
            balances[debit] -= sat
            balances[credit] += sat
            if debit.startswith("tenant.") and balances[debit] < 0:
                yield Found("a tenant in debt", debit)
        if sum(balances.values()):
            yield Found("the ledger does not balance", f"it is off by {sum(balances.values())} sat")
        (settlements,) = self._books.execute("SELECT count(*) FROM settlements").fetchone()
        slack_sat = 1 + Fraction(settlements, 10**12)  # each settlement is rounded down, and carries
        for number, tenant in self._books.execute("SELECT id, name FROM tenants ORDER BY id").fetchall():
            worth = self._worth_sat(tenant)
            if worth is None:
                yield Found("booked at another fee", tenant)
                continue
            paid = balances[f"tenant.{number}.payable"]
            if not worth - slack_sat < paid <= worth:
                yield Found(
                    "credited otherwise than it worked",
                    f"{tenant}: {paid} sat for work of {float(worth):.3f} sat",
                )

    def _worth_sat(self, tenant: str) -> Fraction | None:
        """What its booked shares are worth to it; None where they have a fee that it never agreed to."""
        worth = Fraction(0)
        for row in self._rows:
            if row.tenant != tenant or row.verdict != ACCEPTED or row.scheme not in ("pps", "fpps"):
                continue
            if row.fee_bps not in self._fees_bps[tenant]:
                return None
            chance = min(Fraction(1), row.of.difficulty * target_of(row.nbits) / DIFF1)
            worth += row.shares * chance * row.subsidy_sat * (10_000 - row.fee_bps) / 10_000
        return worth


def _counted(share: Share) -> Counted:
    """What its job says: the height is in the coinbase (BIP 34)."""
    height = height_of(share.job)
    elsewhere = height >= ELSEWHERE_HEIGHT
    price = None if elsewhere else (share.nbits, subsidy_sat(height))
    return Counted(share.worker, share.job.difficulty, price)


def height_of(job: Job) -> int:
    """After version, count, outpoint and the length of the script comes the push of the height."""
    script = job.coinbase1[4 + 1 + 36 + 1 :]
    if 0x51 <= script[0] <= 0x60:
        return script[0] - 0x50
    return int.from_bytes(script[1 : 1 + script[0]], "little")


def _by(of: Callable[[Counted], object], counts: Counter[Counted]) -> Counter[object]:
    sums: Counter[object] = Counter()
    for key, count in counts.items():
        sums[of(key)] += count
    return sums


def _words(key: object) -> str:
    if isinstance(key, Counted):
        return f"{key.worker} at {key.difficulty}, for {key.price}"
    return " at ".join(map(str, key)) if isinstance(key, tuple) else str(key)
