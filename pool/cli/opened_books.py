"""Opening the books that a command means: for who reads, for who writes beside the pool, and the settings.

What settings are made of takes as long to import as books do: who names books without them has no need of it.
But every table is known here, of rooms above the books' too: who audits a book looks at all of them, and who
moves it takes all of them along.

Must not know: what a command does with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pool.power.control.schema
import pool.power.curtailment.schema  # noqa: F401
from pool.admin.client import lent_epoch
from pool.books.book import bound_network
from pool.books.store import Store, open_store
from pool.cli.books import Books
from pool.cli.logs import set_up_logs
from pool.data_dir import database_url
from pool.power.curtailment.durations import USUAL, Durations
from pool.requests.policy import Approval
from pool.settings_file import BadConfig

if TYPE_CHECKING:
    from payouts.proof.key import ProofKey
    from pool.config import PoolConfig


class Place(NamedTuple):
    """Where books are; of which network, and who has to agree to changes, and how long events of power
    are, where settings say it."""

    url: str
    data_dir: Path | None
    network: str | None
    policy: Approval | None = None
    durations: Durations = USUAL


def place_of(books: Books) -> Place:
    """Raises BadConfig."""
    if books.config is not None:
        settings = settings_of(books)
        return Place(
            settings.database_url, settings.data_dir, settings.network, settings.approval, settings.durations
        )
    if books.database is not None:
        return Place(books.database, books.data_dir, None)
    assert books.data_dir is not None
    return Place(database_url(books.data_dir), books.data_dir, None)


def settings_of(books: Books) -> PoolConfig:
    """Raises BadConfig where the books are named without settings."""
    from pool.config import load_config

    if books.config is None:
        raise BadConfig("this needs the settings, and not the books alone: give --config")
    return load_config(books.config)


def proof_key_of(books: Books) -> ProofKey | None:
    """What statements are signed with, where settings say so. Raises BadConfig."""
    if books.config is None or (settings := settings_of(books)).proof_key_file is None:
        return None
    from pool.proof_key import read_proof_key

    return read_proof_key(settings.proof_key_file, settings.proof_former_files, settings.proof_lost_key)


@contextmanager
def opened_to_read(books: Books) -> Iterator[Store]:
    """The database, which is not made where there is none. Raises BadConfig, StoreError."""
    with _opened(place_of(books)) as store:
        yield store


@contextmanager
def opened_to_write(books: Books) -> Iterator[tuple[Store, str | None]]:
    """The database, to write beside the pool that runs on it, and its network if it is of one. Raises
    BadConfig, StoreError."""
    place = place_of(books)
    with _opened(place) as store:
        if place.data_dir is not None and (epoch := lent_epoch(place.data_dir)) is not None:
            store.borrow_lease(epoch)
        yield store, bound_network(store, place.network)


@contextmanager
def _opened(place: Place) -> Iterator[Store]:
    set_up_logs()
    store = open_store(place.url, new=False)
    try:
        yield store
    finally:
        store.close()
