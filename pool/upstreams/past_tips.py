"""Previous blocks that work of upstreams has been on.

An upstream may belong to who is credited for its work. If it went back to a block whose credited shares we do
not know any more, with a job that it gave before, all that was found on it could be sent, and credited, once
more. (Work of our own is never the same twice: its coinbases carry a salt.)

Must not know: channels, shares.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from pool.books.journal.credit_book import TIPS_MAX

NAME_BYTES: Final = 8  # of a block's hash: enough to tell so many apart


class PastTips:
    """For all upstreams of the process. `remembers`: the engine knows what was credited on a block.

    `credited`: blocks that an earlier process has credited work on.
    """

    def __init__(self, remembers: Callable[[bytes], bool], credited: Iterable[bytes] = ()) -> None:
        self._remembers = remembers
        self._seen: OrderedDict[bytes, None] = OrderedDict((tip[:NAME_BYTES], None) for tip in credited)

    def __len__(self) -> int:
        """How many are known."""
        return len(self._seen)

    def admit(self, prevhash_internal: bytes) -> bool:
        """Whether work on this block may be mined on; it is known from now on."""
        name = prevhash_internal[:NAME_BYTES]
        if name in self._seen:
            return self._remembers(prevhash_internal)
        self._seen[name] = None
        if len(self._seen) > TIPS_MAX:
            self._seen.popitem(last=False)
        return True
