"""A look at every endpoint of an upstream: what it would give, or why it is of no use.

Must not know: where upstreams are kept, and how the result is shown.
"""

from collections.abc import Sequence

import msgspec
import trio

from stratum.upstream.connection import Connect
from stratum.upstream.endpoint import BadUpstream, UpstreamEndpoint
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.probe import UnusableUpstream, UpstreamFacts, probe_upstream


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: `facts`, or else `reason`."""

    number: int
    endpoint: UpstreamEndpoint
    facts: UpstreamFacts | None = None
    reason: str = ""


async def try_endpoints(
    settings: UpstreamSettings,
    endpoints: Sequence[tuple[int, UpstreamEndpoint]],
    *,
    connect: Connect = trio.open_tcp_stream,
) -> list[Trial]:
    """Look at all of them at once, for some seconds; results in their order."""
    trials: dict[int, Trial] = {}

    async def probe_one(number: int, endpoint: UpstreamEndpoint) -> None:
        try:
            facts = await probe_upstream(endpoint, settings, connect=connect)
        except (UnusableUpstream, BadUpstream) as error:
            reason = str(error).removeprefix(f"{endpoint.address}: ")
            trials[number] = Trial(number=number, endpoint=endpoint, reason=reason)
        else:
            trials[number] = Trial(number=number, endpoint=endpoint, facts=facts)

    async with trio.open_nursery() as nursery:
        for number, endpoint in endpoints:  # an upstream has at most 16
            nursery.start_soon(probe_one, number, endpoint)
    return [trials[number] for number, _ in endpoints]
