"""A curtailment that is over and in the books: one machine of tenant 1 was off for an hour."""

from sqlalchemy import Connection

from payouts.energy.events import Event, EventBooks, EventPart, book_event


def booked_curtailment(connection: Connection, number: int, now_s: int) -> None:
    event = Event(
        event_id=number,
        site="Bratsk",
        source="cli",
        reference=f"call {number}",
        asked_by="olga",
        from_s=now_s - 7_200,
        ended_at_s=now_s - 3_600,
        watts_asked=3_000,
    )
    part = EventPart(
        tenant_id=1,
        machines=1,
        machines_off=1,
        off_s=3_600,
        watts_shed=3_400,
        joules_shed=3_400 * 3_600,
        difficulty=240 << 18,
        forgone_sat=20_000,
        forgone_psat=0,
        error_sat=60,
    )
    assert book_event(connection, EventBooks(event, (part,)), now_s)
