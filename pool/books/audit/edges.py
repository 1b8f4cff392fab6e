"""The audit of edges: each is what the changes made of it, and its journal has the numbers that are its.

Must not know: what edges send.
"""

from typing import Final

from sqlalchemy import Connection, or_, select

from payouts.audit.finding import Found
from pool.books.audit.people import made_by
from pool.books.edges.late import BOOK_LATE
from pool.books.edges.rows import kept_of, load_edges
from pool.books.edges.schema import edge_writers, edges

OF_EDGES: Final = ("edge.add", "edge.set", "edge.reset", "edge.release", BOOK_LATE, "edge.retire")


def check_edges(connection: Connection) -> None:
    """Raises Found for the first row that is wrong. After the check of changes."""
    made = made_by(connection, OF_EDGES)
    there = {it.name: kept_of(it) for it in load_edges(connection)}
    for name in sorted(made.keys() | there.keys()):
        if name not in there:
            raise Found("edges", name, "it is missing")
        said = made.get(name, {})
        if {it: said.get(it) for it in there[name]} != there[name]:
            raise Found("edges", name, "no change made it what it is")
    began = edge_writers.c
    other = or_(began.edge_id != edges.c.id, began.part != edges.c.part, began.ended_at_s.is_not(None))
    in_use = edges.c.writer.is_not(None) & edges.c.retired_at_s.is_(None)
    query = select(edges.c.name).outerjoin(edge_writers, began.writer == edges.c.writer).where(in_use)
    other_one = connection.scalar(
        query.where(or_(began.writer.is_(None), other)).order_by(edges.c.name).limit(1)
    )
    if other_one is not None:
        raise Found("edge_writers", other_one, "the journal of that edge did not begin with its numbers")
