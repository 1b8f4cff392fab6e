"""`POST /api/v1/power/signal`: a signed call for curtailment, of who has the secret and no user here.

What is wrong is answered in the same words whatever is wrong with it, and counted as a wrong token is.
Nothing is here until the settings have a secret for it.

Must not know: what is signed, and what a call may ask for.
"""

from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.handler import wrong_token
from pool.books.store import DATABASE_ERRORS, words_of
from pool.http_server import Code, body_of, failure, json_response
from pool.people.authentication import Authentication
from pool.power.signals.call import BadCall
from pool.power.signals.signed_calls import CALL_BYTES_MAX, HEADER, NotSigned, SignedCall, TooMany
from pool.power.signals.webhook import NoSecret, Webhook
from pool.web.access import Access, Told, WebRoute

PATH: Final = "/api/v1/power/signal"
NOT_SIGNED: Final = f"{HEADER} is wrong, or is not of now"


class Taken(msgspec.Struct, frozen=True):
    """What became of it: `asked`, `changed`, `restored`, `the same` as before, or `over`."""

    reference: str
    words: str


SIGNAL = Told(
    words=f"A call for curtailment, or the end of one, proven by the header {HEADER}: docs/power.md.",
    result=Taken,
    takes=SignedCall,
)


def signal_route(webhook: Webhook | None, authentication: Authentication) -> WebRoute:
    """`webhook`: None where the settings have no secret for it."""

    async def signal(request: Request) -> Response:
        if webhook is None:
            return failure(404, "there is nothing at this path")
        address = request.state.caller.address
        shown = request.headers.get(HEADER, "")
        try:
            webhook.signed_now(shown)  # who shows nothing is not read
            body = await body_of(request)
            if len(body) > CALL_BYTES_MAX:
                return failure(413, f"a call has at most {CALL_BYTES_MAX} bytes")
            answer = await webhook.answer(shown, body)
        except NotSigned as error:
            if not error.guess:
                request.state.caller.let_in()
                return failure(400, str(error))
            return wrong_token(authentication.guessed(address), NOT_SIGNED)
        except HTTPException as error:
            return failure(error.status_code, error.detail)
        except NoSecret:
            return failure(503, "the pool's secret for this cannot be read", Code.OURS)
        except DATABASE_ERRORS as error:
            return failure(503, f"the database does not do its work: {words_of(error)}")
        except (BadCall, TooMany) as error:
            request.state.caller.let_in()
            return failure(400, str(error))
        request.state.caller.let_in()
        if not answer.taken:
            return failure(400, answer.words)
        return json_response(Taken(answer.reference, answer.words))

    return WebRoute(PATH, Access.ANYBODY, signal, method="POST", told=SIGNAL)
