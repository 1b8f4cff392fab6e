"""One look at an upstream: whether it would serve, and what it would give. For `test`, and at start.

Must not know: other endpoints, miners.
"""

import msgspec
import trio

from stratum.job import Work
from stratum.upstream.connection import Connect, Fault, UpstreamLink
from stratum.upstream.endpoint import UpstreamEndpoint, tls_context
from stratum.upstream.events import UpstreamEvent
from stratum.upstream.extranonce_split import ExtranonceSplit
from stratum.upstream.failover import UpstreamSettings
from stratum.upstream.session import UpstreamSession


class UnusableUpstream(Exception):
    """An upstream that does not serve; the text says why."""


class UpstreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream gives. `mask` 0: no version rolling."""

    extranonce1: bytes
    split: ExtranonceSplit
    mask: int
    target: int
    work: Work
    took_s: float


async def probe_upstream(
    endpoint: UpstreamEndpoint, settings: UpstreamSettings, *, connect: Connect = trio.open_tcp_stream
) -> UpstreamFacts:
    """Connect, subscribe, authorize, wait for the first job, leave. Raises UnusableUpstream, BadUpstream."""
    began_s = trio.current_time()
    session = UpstreamSession(
        upstream=settings.name,
        connection=0,
        endpoint=endpoint,
        need=settings.need,
        suggest_difficulty=settings.suggest_difficulty,
    )
    link = UpstreamLink(
        name=settings.name,
        endpoint=endpoint,
        address=(endpoint.host, endpoint.port),
        session=session,
        tls=tls_context(endpoint.ca_file) if endpoint.tls else None,
        limits=settings.link,
        connect=connect,
        on_event=_ignore,
        on_up=_ignore,
        on_end=_ignore,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await link.decided.wait()
        link.end(Fault.ENDED, "seen enough")
    assert link.failure is not None
    if session.work is None or session.split is None or link.failure.fault is not Fault.ENDED:
        raise UnusableUpstream(f"{endpoint.address}: {link.failure.reason}")
    return UpstreamFacts(
        extranonce1=session.extranonce1,
        split=session.split,
        mask=session.mask or 0,
        target=session.target,
        work=session.work,
        took_s=trio.current_time() - began_s,
    )


def _ignore(link: UpstreamLink, event: UpstreamEvent | None = None) -> None:
    pass
