"""A file of a journal may go when the books have each whole record that is in it, and not before."""

from pathlib import Path

import pytest

from pool.journal.frames import Place, framed
from tests.simulation.sites_auditor import Trims

WRITER = "e6bd3f6e10c8489466fdda28a92a7adf"
FIRST = 92


def file_of(directory: Path, *, records: int, torn_bytes: int = 0) -> Path:
    """That begins with record 92, and ends with so many bytes of one more."""
    at, data = Place(number=FIRST - 1), b""
    for _ in range(records):
        packed, at = framed(WRITER, at, b"a body")
        data += packed
    packed, _ = framed(WRITER, at, b"a body")
    path = directory / WRITER / f"{FIRST:020}.log"
    path.parent.mkdir()
    path.write_bytes(data + packed[:torn_bytes])
    return path


def found(path: Path, *, booked: int) -> list[str]:
    trims = Trims(lambda writer: booked)
    trims.removed(WRITER, path)
    return [it.verdict for it in trims.too_early]


@pytest.mark.parametrize("torn_bytes", [0, 30])
def test_a_file_without_a_whole_record_may_go(tmp_path: Path, torn_bytes: int) -> None:
    """A power cut left it, of a record whose sync had failed; the other disk has not even its name."""
    assert found(file_of(tmp_path, records=0, torn_bytes=torn_bytes), booked=FIRST - 1) == []


@pytest.mark.parametrize(("records", "torn_bytes"), [(1, 0), (1, 30), (3, 0)])
def test_a_file_with_a_record_that_is_not_booked_may_not_go(
    tmp_path: Path, records: int, torn_bytes: int
) -> None:
    path = file_of(tmp_path, records=records, torn_bytes=torn_bytes)
    assert found(path, booked=FIRST + records - 2) == ["trimmed before the books had it"]
    assert found(path, booked=FIRST + records - 1) == []
