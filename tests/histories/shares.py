"""Hours of shares that were kept, settled and closed; and their files, as thieves alter them."""

import json
import random
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import insert

from payouts.book_time import book_time
from payouts.proof import angara_verify
from payouts.proof.angara_verify import as_written, closing_hash, reaches, settled_leaf, share_leaf
from payouts.proof.closings import Closing, closed, closings, due, note
from payouts.proof.key import ProofKey
from payouts.proof.key_changes import changes_of_keys
from payouts.proof.share_proofs import shares_of_hour
from payouts.proof.share_tree import Share, packed
from payouts.schemas.proof import share_parts
from payouts.tallies import Tally
from pool.books.store import Store
from pool.cli.bookkeeping.proof import with_changes
from tests.histories.proof import KEY, ClosedBook
from tests.histories.statements import ACME, BOREALIS, HOUR

FROM_LOG2 = -30  # every fourth share of EASIEST is kept
EASIEST_LOG2 = -32
UNITS = {ACME * 100: "acme", ACME * 100 + 1: "acme", BOREALIS * 100: "borealis"}


class MinedHours(ClosedBook):
    """A closed book that goes on: `mine_hour` has machines find shares, `close_hours` settles and closes."""

    def __init__(self, store: Store, seed: int = 1) -> None:
        super().__init__(store, by_hand=False)
        self.chance, self._kept = random.Random(seed), 0
        self.rates = {tenant: self.rate(tenant_id=tenant) for tenant in (ACME, BOREALIS)}
        self.close_hours()  # of what the book began with, without shares

    def mine_hour(
        self,
        hour: int,
        shares: int = 24,
        workers: Iterable[int] = tuple(UNITS),
        *,
        counted: int | None = None,
        from_log2: int = FROM_LOG2,
    ) -> list[Share]:
        """So many shares of each machine in that hour of the book's, of which so many are `counted`; those
        that are kept."""
        kept: list[Share] = []
        for worker in workers:
            tenant = worker // 100
            minute = hour * 60 + self.chance.randrange(60)
            found = [it for it in self.found(worker, minute, shares) if reaches(it.hash, from_log2)]
            kept += found
            tally = Tally(
                worker_id=worker,
                rate_id=self.rates[tenant],
                minute=minute,
                difficulty_log2=EASIEST_LOG2,
                verdict=0,
                shares=shares if counted is None else counted,
            )
            self.tally([tally])
            self.keep(self.rates[tenant], hour, found, from_log2)
        return kept

    def found(self, worker: int, minute: int, shares: int) -> list[Share]:
        """Headers by chance, of that minute, each of which is a share."""
        made: list[Share] = []
        while len(made) < shares:
            header = bytearray(self.chance.randbytes(80))
            header[68:72] = (minute * 60 + 7).to_bytes(4, "little")
            it = Share(bytes(header), worker, minute, EASIEST_LOG2)
            if reaches(it.hash, EASIEST_LOG2):
                made.append(it)
        return made

    def keep(self, rate: int, hour: int, shares: list[Share], from_log2: int = FROM_LOG2) -> None:
        self._kept += 1
        row = {"writer": "pool", "booking": self._kept, "rate_id": rate, "hour": hour}
        row |= {"from_log2": from_log2, "packed": packed(shares)}
        with self.store.write() as connection:
            connection.execute(insert(share_parts).values(row))

    def close_hours(self, now_s: int | None = None, from_log2: int = FROM_LOG2) -> list[Closing]:
        """Settle and close what is due, as a pool does it."""
        if now_s is not None:
            with self.store.write() as connection:
                book_time(connection, now_s)
            self.settle(now_s)
        new: list[Closing] = []
        while True:
            with self.store.read() as connection:
                found = due(connection)
                if found is None:
                    return new
                made = closed(connection, self.key, *found, from_log2)
            with self.store.write() as connection:
                assert note(connection, made)
            new.append(made.closing)

    def shares_file(self, hour: int, tenant: str = "acme", share: bytes | None = None) -> bytes:
        with self.store.read() as connection:
            return as_written(msgspec.to_builtins(shares_of_hour(connection, tenant, hour, share=share)))

    def published_closings(self) -> list[dict[str, Any]]:
        with self.store.read() as connection:
            found: list[dict[str, Any]] = msgspec.to_builtins(closings(connection))
            changes: list[dict[str, Any]] = msgspec.to_builtins(changes_of_keys(connection))
            return with_changes(found, changes, "closing")


FIRST = HOUR + 5 * 24  # the hour of most tests: after all that the book began with


def closed_again(value: dict[str, Any], key: ProofKey = KEY) -> bytes:
    """As the pool itself writes it when it cheats: every root and signature is that of what it says."""
    value = json.loads(json.dumps(value))
    (row,) = value["closings"]
    for entry in value["settlements"]:
        of = entry["settlement"]
        leaves = [
            share_leaf(
                bytes.fromhex(it["header"]),
                it["difficulty_log2"],
                angara_verify.moment(it, "minute_utc") // 60,
                it["worker"],
            )
            for it in entry["shares"]
        ]
        of["root"] = angara_verify.root_of(leaves).hex()
        of["kept"] = {}
        for it in entry["shares"]:
            log2 = str(it["difficulty_log2"])
            of["kept"][log2] = of["kept"].get(log2, 0) + 1
        entry["path"] = []
    (entry,) = value["settlements"]
    row["first_settlement"] = row["last_settlement"] = entry["settlement"]["settlement"]
    row["root"] = settled_leaf(entry["settlement"]).hex()
    row |= {"key": key.public.hex()}
    digest = closing_hash(row)
    row |= {"hash": digest.hex(), "signature": key.sign(digest).hex()}
    return as_written(value)
