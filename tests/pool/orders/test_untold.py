"""Who may have worked for an order and not told: what is left of a deposit waits for it, not for ever."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from payouts.batches.rows import Act
from payouts.ledger import LedgerError
from payouts.rates import Scheme
from payouts.sales.payments import CHARGED_S, say_refund
from payouts.schemas.book import book
from pool.admin.payouts import commands
from pool.books.edges.leases import Asked, begin
from pool.books.edges.remote_edge import Standing
from pool.books.edges.rows import EdgePlace, add_edge, reset_edge, retire_edge
from pool.books.journal.hour_rows import note_hours
from pool.books.journal.hours import Hour
from pool.books.journal.positions import Position, write_position
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.fleet.rows import TenantTerms, add_tenant
from pool.journal.frames import Place
from pool.orders.rows import end_order
from pool.orders.untold import UNTOLD_S, check_told
from tests.histories.orders import HOUR_S
from tests.histories.sales import Sale
from tests.histories.statements import ACME, DAY_S
from tests.histories.statements import HOUR as HOUR_0
from tests.payouts.sales.test_prepaid import PREPAID, work
from tests.stages.people import give
from tests.stages.site_journal import new_nkey

pytestmark = pytest.mark.sqlite_suffices
ENDS_S = DAY_S + 12 * HOUR_S
WRITERS = {"north": "a" * 32, "south": "b" * 32}
SAT = 2_000


@pytest.fixture
def sale(store: Store) -> Sale:
    """Of two hours, paid for, and delivered by edge north, of which the books have nothing; south counts for
    somebody who supplies nothing, and north2 never had a journal."""
    made = Sale(store, billing=PREPAID, from_s=DAY_S + 10 * HOUR_S, until_s=ENDS_S)
    made.pay(SAT, "wire 1", DAY_S)
    with store.write() as connection:
        places = {"north": EdgePlace("acme"), "north2": EdgePlace("acme"), "south": EdgePlace("citadel")}
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        add_tenant(connection, "citadel", terms, by="ann", now_s=DAY_S)
        for name, place in places.items():
            add_edge(connection, name, new_nkey(), [place], ths=None, by="ann", now_s=DAY_S)
        for name, writer in WRITERS.items():
            begin(connection, Asked(edge=name, host="h", process="p", writer=writer), Place(), DAY_S)
        connection.execute(update(book).values(latest_s=ENDS_S))
    return made


def stands(**change: Any) -> dict[str, Standing]:
    """North serves, has nothing to do, and all of it is booked."""
    now: dict[str, Any] = {
        "edge": "north",
        "epoch": 1,
        "have": 7,
        "booked": 7,
        "heard_age_s": 1.0,
        "moment_s": ENDS_S,
    }
    now |= {"inbox_bytes": 0, "untaken_bytes": 0, "held": None, "waits": None, "beyond_at_s": None}
    now |= {"here_age_s": 1.0, "booked_age_s": 1.0, "hub": "hub1", "unbooked": False}
    return {"north": Standing(**(now | change))}


def refuses(sale: Sale, at_s: int, standing: dict[str, Standing] | None = None) -> str:
    with sale.store.read() as connection:
        try:
            check_told(connection, sale.blue.id, standing or {}, at_s)
        except LedgerError as error:
            return str(error)
    return ""


def refunded(sale: Sale, at_s: int) -> int:
    """What two persons give back at that time, all that is left."""
    left = -sale.standing(at_s).owed_sat
    for by in ("olga", "dmitri"):
        with sale.store.write() as connection:
            check_told(connection, sale.blue.id, {}, at_s)
            say_refund(connection, sale.blue.id, left, ACME, "the rest", Act(by, at_s))
    return left


def test_who_cuts_off_the_site_that_supplies_him_is_given_nothing_back_before_it_tells(sale: Sale) -> None:
    """He asks for it when he may first, and the site comes back a day later: two hours were his for nothing,
    382 sat of 2,000."""
    with pytest.raises(LedgerError, match="edge north may have worked for it and has not told"):
        refunded(sale, ENDS_S + CHARGED_S)
    for hour in (10, 11):
        work(sale, hour)
    sale.settle(ENDS_S + 86_400)
    with sale.store.write() as connection:
        note_hours(connection, WRITERS["north"], [of_hour(12)])
    given_sat = refunded(sale, ENDS_S + 86_400)
    assert SAT - given_sat == sale.standing(ENDS_S).charged_sat == 382
    assert sale.standing(ENDS_S).owed_sat == 0


def test_it_is_not_held_for_ever(sale: Sale) -> None:
    assert refuses(sale, ENDS_S + UNTOLD_S - 1)
    assert refunded(sale, ENDS_S + UNTOLD_S) == SAT


@pytest.mark.parametrize("over", [retire_edge, reset_edge])
def test_nor_for_an_edge_of_which_nothing_comes_any_more(sale: Sale, over: Callable[..., Any]) -> None:
    with sale.store.write() as connection:
        over(connection, "north", ENDS_S)
    assert not refuses(sale, ENDS_S + CHARGED_S)


@pytest.mark.parametrize(
    ("change", "told"),
    [({}, True), ({"moment_s": ENDS_S - 1}, False), ({"booked": 6}, False), ({"held": "torn"}, False)],
)
def test_an_edge_that_has_nothing_to_do_says_so(sale: Sale, change: dict[str, Any], told: bool) -> None:
    assert (refuses(sale, ENDS_S + CHARGED_S, stands(**change)) == "") is told


def test_of_an_order_that_was_ended_it_is_what_a_site_was_told_that_is_paid(sale: Sale) -> None:
    """It goes on until then, where it does not hear of the end."""
    with sale.store.write() as connection:
        end_order(connection, "blue", by="olga", now_s=DAY_S + 10 * HOUR_S + 60)
        note_hours(connection, WRITERS["north"], [of_hour(11)])
    assert refuses(sale, ENDS_S + CHARGED_S)
    with sale.store.write() as connection:
        note_hours(connection, WRITERS["north"], [of_hour(12)])
    assert not refuses(sale, ENDS_S + CHARGED_S)


def test_books_that_have_not_come_to_its_end_wait_as_well(sale: Sale) -> None:
    with sale.store.write() as connection:
        note_hours(connection, WRITERS["north"], [of_hour(12)])
        write_position(connection, Position(writer="c" * 32, moment_s=ENDS_S - 1))
    assert "the books have not come to its end" in refuses(sale, ENDS_S + CHARGED_S)


def test_the_command_looks(sale: Sale, monkeypatch: pytest.MonkeyPatch) -> None:
    refund = {"name": "blue", "sat": 1, "tenant": "acme", "why": "the rest"}
    for at_s, words in ((ENDS_S - 1, "2 hours after its end"), (ENDS_S + CHARGED_S, "edge north may have")):
        monkeypatch.setattr(commands, "wall_s", lambda: at_s)  # noqa: B023
        with pytest.raises(RegistryError, match=words):
            give(sale.store, "order.refund", refund)


def of_hour(hour: int) -> Hour:
    return Hour(hour=HOUR_0 + hour, last=Place(hour, b"7" * 16), records=1, shares={})
