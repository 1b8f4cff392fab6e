"""What an auditor asks of the shares that are kept for proofs: every acknowledged one that is hard enough is
kept once, under the name of its machine, and nothing else is; and what is in a closing was settled.

Must not know: anything of the pool's code. He reads the database's tables as they are documented.
"""

import hashlib
import json
import sqlite3
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.simulation.auditor import ACCEPTED, GOOD, Found
from tests.simulation.miners import DIFF1, Share

KEPT_LOG2: Final = -28  # one of sixteen shares of the easiest
TARGET: Final = DIFF1 << -KEPT_LOG2
RECORD: Final = struct.Struct("<80sIIb3x")  # header, worker's row, minute, difficulty
# Of closings that are not made yet, and of those that are.
TABLES: Final = ("share_parts", "share_leaves")


def kept(database: Path, shares: Iterable[Share]) -> list[Found]:
    """All that is wrong."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        return [*_once(books, shares), *_closed(books)]


def _once(books: sqlite3.Connection, shares: Iterable[Share]) -> Iterator[Found]:
    names = {
        number: f"{tenant}.{container}.{unit}"
        for number, tenant, container, unit in books.execute(
            """SELECT workers.id, tenants.name, containers.name, unit FROM workers
            JOIN tenants ON tenants.id = workers.tenant_id
            JOIN containers ON containers.id = workers.container_id"""
        )
    }
    found: Counter[tuple[str, int]] = Counter()
    for table in TABLES:
        for (packed,) in books.execute(f"SELECT packed FROM {table}"):  # noqa: S608 - names of ours
            for header, worker, _, _ in RECORD.iter_unpack(zlib.decompress(packed)):
                digest = hashlib.sha256(hashlib.sha256(header).digest()).digest()
                found[names[worker], int.from_bytes(digest, "little")] += 1
    sure, perhaps = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for share in shares:
        if share.hash_int <= TARGET and share.verdict in (None, "accepted"):
            of = sure if share.verdict == "accepted" and not share.may_be_lost else perhaps
            of[share.worker, share.hash_int] += 1
    for key in sorted({*sure, *found}):
        name, words = f"{key[0]}: {key[1]:064x}", f"{found[key]} times, acknowledged {sure[key]} times"
        if found[key] < sure[key]:
            yield Found("a share that proves work is not kept", f"{name}: {words}")
        elif found[key] > min(1, sure[key] + perhaps[key]):
            yield Found("a share that proves no work is kept", f"{name}: {words}")


def _closed(books: sqlite3.Connection) -> Iterator[Found]:
    """Of a rate's hour no more of a difficulty is kept than was settled in the end, or is good and was not
    taken by an upstream: an hour is settled in parts here, and what is kept may be in an earlier closing.
    """
    kept_of: dict[tuple[int, int], Counter[int]] = {}
    good: dict[tuple[int, int], Counter[int]] = {}
    query = """SELECT rate_id, hour, kept FROM share_roots
        JOIN settlements ON settlements.seq = share_roots.settlement_seq"""
    for rate, hour, words in books.execute(query):
        counts = Counter({int(log2): count for log2, count in json.loads(words).items()})
        kept_of.setdefault((rate, hour), Counter()).update(counts)
    query = """SELECT rate_id, hour, difficulty_log2, shares FROM settled_shares
        JOIN settlements ON settlements.seq = settled_shares.settlement_seq"""
    for rate, hour, log2, count in books.execute(query):
        good.setdefault((rate, hour), Counter())[log2] += count
    query = "SELECT rate_id, minute / 60, difficulty_log2, verdict, shares FROM tally_minutes"
    for rate, hour, log2, verdict, count in books.execute(query):
        if verdict in GOOD and verdict != ACCEPTED:
            good.setdefault((rate, hour), Counter())[log2] += count
    for of, counts in kept_of.items():
        if more := counts - good.get(of, Counter()):
            yield Found("more shares are kept than were settled", f"rate and hour {of}: {dict(more)} more")
