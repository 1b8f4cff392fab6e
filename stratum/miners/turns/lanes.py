"""The four lanes that turns are given in: handshakes of sources that have mined since the start, those of
them that are dear, the talk of these sources, and all that is of strangers, which has a tenth of a core while
anybody mines.

Costs are in lines that Python answers, of which one is some 10 us. Must not know: what a turn is for.
"""

from stratum.miners.turns.connection_limits import ConnectionLimits, Place, Standing
from stratum.miners.turns.turns import Lane, Waiting

# Turns that are given before everybody else comes to his. A site that comes back shakes hands as fast as that
# goes; while anybody mines half of the time, nearly, is for others: 22,400 machines shake hands in 9 s.
HANDSHAKE_COST_PER_ROUND = 256
HANDSHAKE_COST_BESIDE_MINERS = 128
HANDSHAKE_REST_S = 0.001
# Of known sources too, what takes arithmetic: a machine costs five times what one of V1 does until it mines.
# While anybody mines three quarters of the time are for others, and who comes on V1 does not wait behind it.
DEAR_COST_BESIDE_MINERS = 64
DEAR_REST_S = 0.002
# Of sources that nobody knows, while anybody mines: some 400 connections a second. The first of a new site
# have mined after some ten seconds, and then it is known.
STRANGER_COST_BESIDE_MINERS = 16
STRANGER_REST_S = 0.002
STRANGERS_CROWD = 64  # so many wait: who has left by his turn is not served any more
# Who has authorised has time, and leaves it to the others: all the talk of all connections takes a tenth of a
# core.
TALK_COST_PER_ROUND = 16
TALK_REST_S = 0.002


class Lanes:
    """Who waits is in one of them, by what its source has shown when it came."""

    def __init__(self, connection_limits: ConnectionLimits) -> None:
        self._connection_limits = connection_limits
        self._handshakes = Lane(
            cost=HANDSHAKE_COST_PER_ROUND,
            cost_beside_miners=HANDSHAKE_COST_BESIDE_MINERS,
            rest_s=HANDSHAKE_REST_S,
        )
        self.dear = Lane(
            cost=HANDSHAKE_COST_PER_ROUND,
            cost_beside_miners=DEAR_COST_BESIDE_MINERS,
            rest_s=DEAR_REST_S,
        )
        self.strangers = Lane(
            cost=HANDSHAKE_COST_PER_ROUND,
            cost_beside_miners=STRANGER_COST_BESIDE_MINERS,
            rest_s=STRANGER_REST_S,
        )
        self._talk = Lane(
            cost=TALK_COST_PER_ROUND,
            cost_beside_miners=TALK_COST_PER_ROUND,
            rest_s=TALK_REST_S,
            always_rests=True,
        )
        self.all = (self._handshakes, self.dear, self.strangers, self._talk)

    @property
    def crowded(self) -> bool:
        """Whether so many strangers wait that some have left by their turn."""
        return len(self.strangers) >= STRANGERS_CROWD

    def add(self, place: Place, waiting: Waiting, *, dear: bool = False) -> None:
        """`take_turn` is called when it is the turn of this one, of all at the place's source. `dear`: what
        it waits for costs as much as many lines, and is to be done soon all the same."""
        lane = self.strangers
        if self._connection_limits.knows(place.source):
            shakes_hands = place.standing in (Standing.WAITING, Standing.HALF_OPEN)
            lane = self.dear if dear else self._handshakes if shakes_hands else self._talk
        lane.add(place.source, waiting, arrives=place.standing is Standing.WAITING)

    def discard(self, place: Place, waiting: Waiting) -> None:
        """It is over, wherever it waits: what a source has shown may have changed since."""
        for lane in self.all:
            lane.discard(place.source, waiting)
