"""Shares that were kept, as the books have them until their hour is settled and closed.

They are written in the transaction of a window that comes before the one with their tallies, or in the same:
so what is settled of an hour has its shares. One that is not the work that it says, or that another writer
had claimed, is in no root, whatever its tally became.

Everything is done in the caller's transaction. Must not know: what becomes of them then.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import structlog
from sqlalchemy import Connection, insert

from payouts.proof.angara_verify import reaches, sha256d
from payouts.proof.share_tree import Share, packed
from payouts.schemas.proof import share_parts
from pool.books.journal.claims import Claims
from pool.books.journal.machine_rows import MachineRows
from pool.books.journal.rate_rows import RateRows
from pool.books.journal.window import KeptShares
from stratum.tallies import KEPT

log = structlog.get_logger()

HASH_BYTES = 16  # that a claim is known by


class KeptRows:
    """Of one writer."""

    def __init__(self, writer: str, machines: MachineRows, rates: RateRows, claims: Claims) -> None:
        self._writer, self._machines, self._rates, self._claims = writer, machines, rates, claims

    def book(self, connection: Connection, transaction: int, kept: Iterable[KeptShares]) -> None:
        """A row for each hour of a rate."""
        found: dict[tuple[int, int], list[Share]] = defaultdict(list)
        from_log2: dict[tuple[int, int], int] = {}
        for it in kept:
            for rate_id, share in self._shares(connection, it):
                of = rate_id, share.minute // 60
                found[of].append(share)
                from_log2[of] = max(from_log2.get(of, it.from_log2), it.from_log2)
        rows = [
            {
                "writer": self._writer,
                "booking": transaction,
                "rate_id": rate_id,
                "hour": hour,
                "from_log2": from_log2[rate_id, hour],
                "packed": packed(shares),
            }
            for (rate_id, hour), shares in sorted(found.items())
        ]
        if rows:
            connection.execute(insert(share_parts), rows)

    def _shares(self, connection: Connection, it: KeptShares) -> list[tuple[int, Share]]:
        """Each with the rate that it was credited at."""
        records = np.frombuffer(it.shares, dtype=KEPT)
        ids = self._machines.ids(connection, set(records["worker"].tolist()), it.minute * 60)
        owners = self._machines.tenants(connection, set(ids.values()))
        found: list[tuple[int, int, bytes, Share]] = []
        without_work = 0
        rows: list[Any] = records.tolist()
        for header, worker, rate, log2, _ in rows:
            hash_ = sha256d(header)
            if reaches(hash_, max(log2, it.from_log2)):
                found.append((rate, owners[ids[worker]], hash_, Share(header, ids[worker], it.minute, log2)))
            else:
                without_work += 1
        if without_work:
            log.error("shares_without_work_refused", shares=without_work, writer=self._writer)
        refused = self._refused(connection, [(rate, hash_, share) for rate, _, hash_, share in found])
        rate_ids = {
            pair: self._rates.rate_of(connection, *pair).rate_id for pair in sorted({it[:2] for it in found})
        }
        return [
            (rate_ids[rate, tenant], share) for rate, tenant, hash_, share in found if hash_ not in refused
        ]

    def _refused(self, connection: Connection, shares: Iterable[tuple[int, bytes, Share]]) -> set[bytes]:
        """Those on upstreams' work that are another writer's, or of a block that is over for everybody."""
        by_block: dict[bytes, list[bytes]] = defaultdict(list)
        for rate, hash_, share in shares:
            meaning = self._rates.meanings.get(rate)
            if meaning is not None and meaning.upstream is not None:
                by_block[share.header[4:36]].append(hash_)
        return {
            hash_
            for prevhash, hashes in by_block.items()
            for hash_, refused in zip(
                hashes,
                self._claims.refused(connection, prevhash, [it[:HASH_BYTES] for it in hashes]),
                strict=True,
            )
            if refused
        }
