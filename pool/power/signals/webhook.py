"""The webhook: signed calls, one at a time, by a secret that is read each time.

Must not know: HTTP.
"""

from pathlib import Path
from typing import Final

import trio

from pool.power.signals.call import BadCall
from pool.power.signals.intake import Answer, Intake
from pool.power.signals.secret_file import BadSecret, secret_in
from pool.power.signals.signed_calls import NotSigned, SignedCalls, TooMany

SOURCE: Final = "webhook"


class NoSecret(Exception):
    """The file of the secret is not what it has to be; whoever looks at the signals is told why."""


class Webhook:
    """`path`: of the secret."""

    def __init__(self, signed: SignedCalls, intake: Intake, path: Path) -> None:
        self._signed, self._intake, self._path = signed, intake, path
        self._one_at_a_time = trio.CapacityLimiter(1)

    def signed_now(self, shown: str) -> None:
        """Raises NotSigned for what cannot be a signature of now, without a look at the rest."""
        self._signed.signed_s(shown)

    async def answer(self, shown: str, body: bytes) -> Answer:
        """What became of it. Raises NotSigned, BadCall, TooMany, NoSecret, and what the books raise."""
        return await trio.to_thread.run_sync(self._answer, shown, body, limiter=self._one_at_a_time)

    def _answer(self, shown: str, body: bytes) -> Answer:
        try:
            return self._signed.answer(shown, body, secret_in(self._path))
        except BadSecret as error:
            self._intake.refuse(SOURCE, error)
            raise NoSecret from None
        except NotSigned as error:
            if not error.guess:
                self._intake.refuse(SOURCE, error)
            raise
        except (BadCall, TooMany) as error:  # of whoever has the secret
            self._intake.refuse(SOURCE, error)
            raise
