"""Sums of tallies by machine and day, and by container and hour, of a book that has tallies too.

They are filled a machine after the other, so that memory is bounded and nothing is sorted, and how far it is
gets logged where it takes long: a year of 22,400 machines is a quarter of a thousand million rows.
"""

import time
from collections import defaultdict

import structlog
from alembic import op
from sqlalchemy import CheckConstraint, Connection, ForeignKeyConstraint, PrimaryKeyConstraint, text

from pool.books.migrations.tables import create_table, number
from pool.books.migrations.triggers import only_grows

revision = "0020"
down_revision = "0019"

log = structlog.get_logger()

TOLD_S = 5.0
ACCEPTED = 0
BOX = ("container", "hour", "log2", "verdict", "shares")
DAY = ("worker", "day", "log2", "verdict", "shares", "minutes")
CONTAINERS = "SELECT id FROM containers ORDER BY id"
MACHINES = "SELECT id FROM workers WHERE container_id = :container ORDER BY id"
# In the order of the key: a minute is counted with the first row that has it.
HOURS = """
SELECT hour, difficulty_log2, verdict, shares, minutes FROM tally_hours WHERE worker_id = :worker
ORDER BY hour, rate_id, difficulty_log2, verdict
"""
DAYS = "SELECT day, difficulty_log2, verdict, shares, minutes FROM tally_days WHERE worker_id = :worker"
ADD_DAYS = """
INSERT INTO worker_days (worker_id, day, difficulty_log2, verdict, shares, minutes)
VALUES (:worker, :day, :log2, :verdict, :shares, :minutes)
"""
ADD_HOURS = """
INSERT INTO container_hours (container_id, hour, difficulty_log2, verdict, shares)
VALUES (:container, :hour, :log2, :verdict, :shares)
"""


def upgrade() -> None:
    """Create the tables and fill them."""
    create_table(
        "worker_days",
        number("worker_id"),
        number("day"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        number("minutes"),
        CheckConstraint("shares > 0", name="ck_worker_days_shares"),
        CheckConstraint("minutes >= 0 AND (minutes = 0 OR verdict = 0)", name="ck_worker_days_minutes"),
        ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_worker_days_worker_id"),
        PrimaryKeyConstraint("worker_id", "day", "difficulty_log2", "verdict", name="pk_worker_days"),
        clustered=True,
    )
    create_table(
        "container_hours",
        number("container_id"),
        number("hour"),
        number("difficulty_log2"),
        number("verdict"),
        number("shares"),
        CheckConstraint("shares >= 0", name="ck_container_hours_shares"),
        ForeignKeyConstraint(["container_id"], ["containers.id"], name="fk_container_hours_container_id"),
        PrimaryKeyConstraint("container_id", "hour", "difficulty_log2", "verdict", name="pk_container_hours"),
        clustered=True,
    )
    fill(op.get_bind())
    only_grows("worker_days", ("worker_id", "day", "difficulty_log2", "verdict"), ("shares", "minutes"))


def fill(connection: Connection) -> None:
    """What the sums are of the tallies that there are."""
    containers = connection.scalars(text(CONTAINERS)).all()
    told_s = time.monotonic()
    for done, container in enumerate(containers):
        if time.monotonic() - told_s >= TOLD_S:
            told_s = time.monotonic()
            log.info("sums_of_tallies", containers=done, of=len(containers))
        boxes: dict[tuple[int, int, int], int] = defaultdict(int)
        for worker in connection.scalars(text(MACHINES), {"container": container}).all():
            _sum_up(connection, worker, boxes)
        if boxes:
            added = [dict(zip(BOX, (container, *key, shares), strict=True)) for key, shares in boxes.items()]
            connection.execute(text(ADD_HOURS), added)


def _sum_up(connection: Connection, worker: int, boxes: dict[tuple[int, int, int], int]) -> None:
    """The days of a machine; its hours are added to those of its container."""
    days: dict[tuple[int, int, int], tuple[int, int]] = {}
    present, union = 0, 0
    for hour, log2, verdict, shares, minutes in connection.execute(text(HOURS), {"worker": worker}).all():
        boxes[hour, log2, verdict] += shares
        fresh = 0
        if verdict == ACCEPTED:
            if hour != present:
                present, union = hour, 0
            fresh = (minutes & ~union).bit_count()
            union |= minutes
        before = days.get((hour // 24, log2, verdict), (0, 0))
        days[hour // 24, log2, verdict] = before[0] + shares, before[1] + fresh
    for day, log2, verdict, shares, minutes in connection.execute(text(DAYS), {"worker": worker}).all():
        before = days.get((day, log2, verdict), (0, 0))
        more = minutes if verdict == ACCEPTED else 0
        days[day, log2, verdict] = before[0] + shares, before[1] + more
    if days:
        added = [dict(zip(DAY, (worker, *key, *counts), strict=True)) for key, counts in days.items()]
        connection.execute(text(ADD_DAYS), added)
