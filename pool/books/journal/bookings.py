"""What the journal counted, as rows of the books: prices, machines, minutes, the hours of rates and of
upstreams, shares on their way.

Everything is done in the caller's transaction. Must not know: where records come from, and how far they are
taken.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, delete, insert

from payouts.rates import UpstreamRisk
from payouts.tallies import ACCEPTED, record
from payouts.tally_rows import NO_ROWS, Rows
from pool.books.journal import upstream_verdicts
from pool.books.journal.claims import Claims
from pool.books.journal.credit_rows import write_credits
from pool.books.journal.kept_rows import KeptRows
from pool.books.journal.machine_rows import MachineRows
from pool.books.journal.rate_rows import RateRows
from pool.books.journal.schema import upstream_submits
from pool.books.journal.window import Part, accepted_in
from pool.journal.records import Noted
from stratum.tallies import NOT_TAKEN, Records


class Booked(msgspec.Struct, frozen=True):
    """So many shares of the writer's are accepted, as it says, and so many of those are refused here."""

    accepted: int
    refused: int


class Bookings:
    """Of one writer."""

    def __init__(self, writer: str, machines: MachineRows, rates: RateRows) -> None:
        self._writer, self._machines, self._rates = writer, machines, rates
        self._claims = Claims(writer)
        self._kept = KeptRows(writer, machines, rates, self._claims)

    def book(
        self, connection: Connection, transaction: int, parts: Iterable[Part], now_s: int
    ) -> Booked | None:
        """What is booked of these rows; None where that transaction was booked before."""
        parts, tallies = tuple(parts), [NO_ROWS]
        accepted = refused = 0
        for part in parts:
            self._rates.insert(connection, part.rates)
            self._machines.insert(connection, part.machines, now_s)
            self._claims.credit(connection, part.credited)
            if part.answered:
                self._claims.answer(connection, part.answered)
            if part.tallies is not None:
                accepted += accepted_in(part.tallies)
                records = self._claims.without_refused(connection, part.minute, part.tallies)
                refused += accepted_in(part.tallies) - accepted_in(records)
                tallies.append(self._tallies(connection, part.minute, records))
            if part.upstream:
                self._upstream(connection, part)
            for key in part.resolved:
                self._resolve(connection, key)
            if part.noted:
                ids = self._machines.ids(connection, [it.worker for it in part.noted], now_s)
                submits = [
                    _submit_row(
                        it, self._writer, ids[it.worker], self._rates.row(connection, it.epoch), now_s
                    )
                    for it in part.noted
                ]
                connection.execute(insert(upstream_submits), submits)
            write_credits(connection, part.credits)
        self._kept.book(connection, transaction, [it for part in parts for it in part.kept])
        booked = record(connection, self._writer, transaction, np.concatenate(tallies))
        return Booked(accepted, refused) if booked else None

    def taken(self, connection: Connection) -> None:
        """All of a window is booked."""
        self._claims.taken(connection)

    def _resolve(self, connection: Connection, key: bytes) -> None:
        """Of this writer, or of a version of before, which did not say whose it was."""
        of = upstream_submits.c
        connection.execute(
            delete(upstream_submits).where(of.key == key.hex(), of.writer.in_((self._writer, "")))
        )

    def _tallies(self, connection: Connection, minute: int, records: Records) -> Rows:
        numbers, of = np.unique(records["worker"], return_inverse=True)
        ids = self._machines.ids(connection, numbers.tolist(), minute * 60)
        rows = np.array([ids[number] for number in numbers.tolist()], dtype=np.int64)[of]
        owners = self._machines.tenants(connection, set(ids.values()))
        tenant = np.array([owners[ids[number]] for number in numbers.tolist()], dtype=np.int64)[of]
        pairs, of = np.unique(records["rate"].astype(np.int64) << 32 | tenant, return_inverse=True)
        rate_ids, at_our_risk = [], []
        for pair in pairs.tolist():
            rate = self._rates.rate_of(connection, pair >> 32, pair & 0xFFFFFFFF) if pair >> 32 else None
            rate_ids.append(0 if rate is None else rate.rate_id)
            at_our_risk.append(rate is not None and rate.upstream_risk is UpstreamRisk.POOL)
        undelivered = np.array(at_our_risk, dtype=bool)[of] & np.isin(records["verdict"], NOT_TAKEN)
        columns = (
            rows,
            np.array(rate_ids, dtype=np.int64)[of],
            np.full(len(records), minute, dtype=np.int64),
            records["difficulty_log2"],
            np.where(undelivered, ACCEPTED, records["verdict"]),
            records["count"],
            undelivered,
        )
        return np.column_stack([it.astype(np.int64) for it in columns])

    def _upstream(self, connection: Connection, part: Part) -> None:
        said = upstream_verdicts.unpack([part.upstream])
        ids = self._machines.ids(connection, {it.worker for it in said}, part.minute * 60)
        owners = self._machines.tenants(connection, set(ids.values()))
        counts: Counter[upstream_verdicts.UpstreamTally] = Counter()  # two numbers may be one price here
        for it, count in said.items():
            row = self._rates.row(connection, it.epoch)
            counts[msgspec.structs.replace(it, worker=ids[it.worker], epoch=row)] += count
        upstream_verdicts.record(
            connection, [(part.minute, upstream_verdicts.pack(counts))], owners.__getitem__
        )


def _submit_row(share: Noted, writer: str, worker_id: int, epoch: int, now_s: int) -> dict[str, Any]:
    return {
        "key": share.key.hex(),
        "worker_id": worker_id,
        "epoch": epoch,
        "difficulty_log2": share.difficulty_log2,
        "counted": int(share.counted),
        "target": share.target.hex(),
        "noted_at_s": now_s,
        "writer": writer,
    }
