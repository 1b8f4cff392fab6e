"""Bugs that a pool could have with those who speak Stratum V2, each put into production code for the length
of a `with`.

`ROUTE_VERDICTS` says as what each is found by a world of routes.
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from stratum.miners.liveness import UNTAKEN
from stratum.sv2.channel_session import ChannelSession
from stratum.sv2.connection import Sv2Connection
from stratum.sv2.language import ChannelLanguage
from stratum.sv2.mining_channel import MiningChannel


def leave_who_passes_close_channel_over(patch: pytest.MonkeyPatch) -> None:
    """Who was told to open another channel, and opens none, is believed to have no use for one."""

    def stays_away(it: Sv2Connection, channel: MiningChannel) -> bool:
        why = channel.session.closing
        return why == UNTAKEN or (why == "moved" and channel.told_to_leave is None)

    patch.setattr(Sv2Connection, "_stays_away", stays_away)


def keep_a_new_prefix_from_the_machine(patch: pytest.MonkeyPatch) -> None:
    """A channel that is moved is not told the extranonces that it is judged by."""
    extranonce = ChannelLanguage.extranonce

    def silent(it: ChannelLanguage, *told: Any) -> bytes:
        extranonce(it, *told)
        return b""

    patch.setattr(ChannelLanguage, "extranonce", silent)


def credit_the_channel_for_all_behind_it(patch: pytest.MonkeyPatch) -> None:
    """Whoever a share names, it is the machine's that the channel was opened for."""
    patch.setattr(ChannelSession, "_named", lambda it, worker: it.name)


ROUTES_PLANTED: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    it.__name__: it
    for it in (
        leave_who_passes_close_channel_over,
        keep_a_new_prefix_from_the_machine,
        credit_the_channel_for_all_behind_it,
    )
}
ROUTE_VERDICTS: Final = {
    "leave_who_passes_close_channel_over": "a machine does not mine",
    "keep_a_new_prefix_from_the_machine": "refused below a difficulty that it reaches",
    "credit_the_channel_for_all_behind_it": "not counted once",
}
