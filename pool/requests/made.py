"""That a change was asked for, and not made: in a module of its own, which costs the command line nothing."""

from collections.abc import Mapping
from typing import Any, Final

REQUEST_MADE: Final = 202  # the status of that answer over HTTP: accepted, and not done
GLASS: Final = "break-glass"  # the query parameter with the reason, for what must not wait


class RequestMade(Exception):
    """What was to be changed waits now: `answer` has the `request`, as `request.show` tells it, and `words`.

    Raised and not returned, so that nobody takes the change for made."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(answer["words"])
        self.answer = dict(answer)
