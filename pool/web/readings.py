"""`POST /api/v1/readings`: readings of a meter, pushed by a program that shows a token.

    {"meter": "c07", "readings": [{"at_s": 1795773600, "watts": 1312000, "counter_wh": 90133500}]}

Who pushes is an operator, or the user that the meter names; a tenant's user never, because that is what he is
charged by. A reading that is sent again is no other, so who did not hear what became of it sends it again.

Must not know: what becomes of readings.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.registry_error import RegistryError
from pool.http_server import body_of, failure, json_response
from pool.people.authentication import Authentication
from pool.people.roles import Caller, NotPermitted, Role
from pool.power.energy.meters import find_meter, take_readings
from pool.power.energy.readings import Reading
from pool.web.access import Access, Told, WebRoute
from stratum.unreadable import NOT_READ

PATH: Final = "/api/v1/readings"
READINGS_MAX: Final = 500  # of one push, which has 64 KiB: hours that a gateway kept while its line was down
# Each takes its turn at the database, a few milliseconds. A thousand meters once a minute are 17 in a second.
WAITING_MAX: Final = 32


class Pushed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Readings of one meter: of each the moment, what it draws, what its counter has."""

    meter: str
    readings: Annotated[tuple[Reading, ...], Meta(min_length=1, max_length=READINGS_MAX)]


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """How many were new."""

    meter: str
    taken: int


def readings_route(
    store: Store, authentication: Authentication, wall_clock: Callable[[], float] = time.time
) -> WebRoute:
    alone, waiting = trio.CapacityLimiter(1), 0

    def take(number: int, address: str, pushed: Pushed) -> Taken:
        """In a thread. Raises RegistryError."""
        caller = authentication.caller(number, address)
        caller.demand(Role.VIEWER, "readings")
        with store.read() as connection:
            meter = find_meter(connection, pushed.meter)
        _demand(caller, meter.pusher, meter.kind)  # who may not keeps nobody from the books
        with store.write() as connection:
            meter = find_meter(connection, pushed.meter)
            _demand(caller, meter.pusher, meter.kind)
            taken = take_readings(connection, meter, pushed.readings, by=caller.name, now_s=int(wall_clock()))
        return Taken(meter=meter.name, taken=taken)

    async def push(request: Request) -> Response:
        nonlocal waiting
        try:
            pushed = msgspec.json.decode(await body_of(request), type=Pushed)
        except HTTPException as error:
            return failure(error.status_code, error.detail)
        except NOT_READ as error:
            return failure(400, f"readings: {error}")
        if waiting >= WAITING_MAX:
            return failure(503, "there are too many readings at once: send them again in a minute")
        waiting += 1
        try:
            job = partial(take, request.state.token, request.state.caller.address, pushed)
            return json_response(await trio.to_thread.run_sync(job, limiter=alone))
        except NotPermitted as error:
            return failure(403, str(error))
        except RegistryError as error:
            return failure(400, str(error))
        except DATABASE_ERRORS as error:
            return failure(503, f"the database does not do its work: {words_of(error)}")
        finally:
            waiting -= 1

    told = Told(words="Take readings of a meter, each once.", result=Taken, takes=Pushed)
    return WebRoute(PATH, Access.BEARER, push, method="POST", told=told)


def _demand(caller: Caller, pusher: str | None, kind: str) -> None:
    if kind != "push":
        raise RegistryError("nobody pushes for this meter: it is read in another way")
    if caller.role.rank < Role.OPERATOR.rank and (pusher is None or caller.name != pusher):
        raise NotPermitted(f"{caller.name} may not push for this meter")
