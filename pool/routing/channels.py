"""New channels, of any shape, on the pool's engine.

Invariant: no two have the same number; those of one shape as the pool's own work share its extranonces, so
that sessions move between them with their next job. Must not know: what is mined on them.
"""

import random

from stratum._engine import Engine
from stratum.miners.channel import Channel, JobIds, WorkSource
from stratum.miners.distribution import Distribution
from stratum.miners.extranonce import ExtranonceSpace


class Channels:
    """`own` is the pool's own work, which has the first number."""

    def __init__(self, own: Channel, *, engine: Engine, job_ids: JobIds, distribution: Distribution) -> None:
        self._own = own
        self._engine = engine
        self._job_ids = job_ids
        self._distribution = distribution
        self._numbers = own.number

    def like_own(self, source: WorkSource) -> Channel:
        """One with the shape of the pool's own work."""
        channel = self.new(source, self._own.extranonces.size, self._own.extranonce2_size)
        channel.version_mask = self._own.version_mask
        return channel

    def new(
        self,
        source: WorkSource,
        prefix_bytes: int,
        miner_bytes: int,
        space: ExtranonceSpace | None = None,
    ) -> Channel:
        """One of a shape, served until it is removed; `space`: prefixes to share, where it is not the own."""
        self._numbers += 1
        own = self._own
        if (prefix_bytes, miner_bytes) == (own.extranonces.size, own.extranonce2_size):
            space = own.extranonces
        elif space is None:
            # Not from 0 at every start: an upstream may give us the extranonce1 that it gave us before.
            space = ExtranonceSpace(prefix_bytes, first=random.getrandbits(8 * prefix_bytes))
        channel = Channel(
            self._numbers,
            source,
            engine=self._engine,
            job_ids=self._job_ids,
            extranonces=space,
            extranonce2_size=miner_bytes,
        )
        self._distribution.add_channel(channel)
        return channel
