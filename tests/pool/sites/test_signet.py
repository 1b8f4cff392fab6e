"""Which signet the books of several sites are of: the hub's own node says it, and no edge."""

from pathlib import Path

import pytest
import trio
import trio.testing
from sqlalchemy import select

from payouts.schemas.book import book
from pool.books.book import WrongBook, bind
from pool.books.journal import folding
from pool.books.store import Store
from pool.hub import HubAway
from tests.fakes.bitcoinds import SIGNET
from tests.stages.answering_hub import SOUTH, House

ANNS, THIEFS = "51", "52"  # challenges of two signets


@pytest.fixture
async def signet_house(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> House:
    """Its node is of ann's, but does not answer yet."""
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    bind(store, "signet")
    made = House(store, tmp_path, "signet")
    made.node.template_changes = SIGNET | {"signet_challenge": ANNS}
    await made.start()
    return made


def signet_of(house: House) -> str | None:
    with house.hub.store.read() as connection:
        return connection.scalar(select(book.c.signet_challenge))


async def test_an_edge_that_speaks_first_chooses_no_signet(
    signet_house: House, nursery: trio.Nursery
) -> None:
    """The books were bound to what it said, for ever: each honest edge, and the hub's own node, was of
    another one from then on."""
    house = signet_house
    with pytest.raises(HubAway, match="no node of the hub answers"):
        await house.north.bind_signet(THIEFS)
    assert signet_of(house) is None
    await nursery.start(house.nodes.run)
    await house.nodes.chosen()
    with pytest.raises(WrongBook, match="the hub's node has challenge 51, the edge's is 52"):
        await house.north.bind_signet(THIEFS)
    await house.answers(SOUTH).bind_signet(ANNS)
    assert signet_of(house) == ANNS


@pytest.mark.sqlite_suffices
async def test_a_node_that_is_asked_once_says_it_for_all(signet_house: House, nursery: trio.Nursery) -> None:
    house = signet_house
    await nursery.start(house.nodes.run)
    await house.nodes.chosen()
    house.node.calls.clear()
    for _ in range(5):
        await house.answers(SOUTH).bind_signet(ANNS)
    assert [method for method, *_ in house.node.calls if method == "getblocktemplate"] == ["getblocktemplate"]


@pytest.mark.sqlite_suffices
async def test_books_of_another_chain_have_no_signet(store: Store, tmp_path: Path) -> None:
    """The database refused it, which was a traceback in the hub's log for each word."""
    house = House(store, tmp_path)
    await house.start()
    with pytest.raises(WrongBook, match="a book of regtest, which is no signet"):
        await house.north.bind_signet(THIEFS)
