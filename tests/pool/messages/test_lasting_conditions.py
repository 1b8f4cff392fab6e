"""What is listed as long as it is wrong: told once, not every hour, and told when it is over."""

from collections.abc import Sequence

from pool.books.energy_books import UnpricedEnergy
from pool.messages.lasting_conditions import lasting_conditions
from pool.messages.lasting_looks import given_up, uncounted, unpriced
from pool.messages.look import LastingLook, Look
from pool.messages.message import Message
from pool.messages.teller import Memory, Teller
from pool.power.control.contract import MachineName
from pool.power.control.held import Standing
from pool.power.curtailment.told_books import MeterHour

GONE = Standing(given_up_machines=1, given_up=(MachineName("acme", "c07", "u12"),))
HOUR = 497_000
WHY = "it says the same all the time"


class Told:
    """A look a minute."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.minute = 0

    def look(self, *lasting: LastingLook) -> list[Message]:
        self.minute += 1
        teller = Teller(self.memory, remind_s=8 * 3600.0)
        look = Look(running_s=0.0, job_age_s=0.0, lasting=lasting)
        return teller.look(lasting_conditions(look, teller.raised), [], (), self.minute * 60)

    def titles(self, *lasting: LastingLook) -> list[str]:
        return [it.title for it in self.look(*lasting)]


def hours(*whys: str, hour: int = HOUR) -> Sequence[MeterHour]:
    return [MeterHour(meter=f"m{at}", hour=hour, why=why) for at, why in enumerate(whys)]


def test_a_machine_that_was_given_up_is_told_once_and_so_is_its_end() -> None:
    told = Told()
    (message,) = told.look(given_up(GONE, whole=True))
    assert (message.title, message.subjects) == (
        "machine acme.c07.u12 was given up",
        ("machine/acme.c07.u12",),
    )
    assert message.text == "acme.c07.u12: it was told to mine for a week, does not, and is told no more"
    assert told.titles(given_up(GONE, whole=True)) == []
    assert told.titles(given_up(Standing(), whole=True)) == ["machine acme.c07.u12 is no longer given up"]
    assert told.titles(given_up(Standing(), whole=True)) == []


def test_of_a_site_that_has_not_answered_since_the_start_no_machine_is_back() -> None:
    told = Told()
    told.look(given_up(GONE, whole=True))
    assert told.titles(given_up(Standing(), whole=False)) == []
    assert told.titles(given_up(GONE, whole=True)) == []


def test_a_meter_that_did_not_count_is_not_told_every_hour_again() -> None:
    told = Told()
    (message,) = told.look(uncounted(hours(WHY, "")))
    assert message.title == "meter m0 did not count for an hour"
    assert message.text == f"m0: the hour from 2026-09-12 08:00 UTC is booked by work: {WHY}"
    assert told.titles(uncounted(None)) == []
    assert told.titles(uncounted(hours("it has 600 of 3600 s: no readings", "", hour=HOUR + 1))) == []
    assert told.titles(uncounted(hours("", "", hour=HOUR + 2))) == ["meter m0 counts again"]


def test_a_hall_of_meters_that_do_not_count_is_one_message() -> None:
    assert Told().titles(uncounted(hours(*[WHY] * 56))) == ["56 meters did not count for an hour"]


def test_energy_without_a_price_is_told_once_until_there_is_one() -> None:
    def of(hours: int) -> LastingLook:
        its = (UnpricedEnergy(tenant_id=1, hours=hours, joules=hours * 36_000_000, whys=("no tariff",)),)
        return unpriced(its, {1: "acme"}.get)

    told = Told()
    (message,) = told.look(of(1))
    assert message.title == "energy of acme has no price"
    assert message.text == "acme: 10.000 kWh of 1 hours are not charged: no tariff"
    assert [told.titles(of(it)) for it in (2, 3)] == [[], []]
    assert told.titles(unpriced(None, str)) == []
    assert told.titles(unpriced((), str)) == ["energy of acme is charged"]
