"""Both ends of a conversation with another pool, line by line, for tests of the session."""

import json
from typing import Any

from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.events import (
    UpstreamEvent,
)
from stratum.upstream.extranonce_split import ExtranonceNeed
from stratum.upstream.session import (
    UpstreamSession,
)
from stratum.upstream.shares import (
    UpstreamJob,
    UpstreamShare,
)

ENDPOINT = UpstreamEndpoint(host="pool.example", port=3333, user="acme.farm7", password="hunter2")
BLOCK_A, BLOCK_B = "aa" * 32, "bb" * 32

CONFIGURED = {"id": 1, "result": {"version-rolling": True, "version-rolling.mask": "1fffe000"}, "error": None}
SUBSCRIBED = {"id": 2, "result": [[["mining.notify", "s1"]], "0a0b0c0d", 8], "error": None}
AUTHORISED = {"id": 3, "result": True, "error": None}


def notify(job_id: str = "j1", *, block: str = BLOCK_A, clean: bool = False) -> dict[str, Any]:
    params = [job_id, block, "01", "02", ["cc" * 32], "20000000", "1d00ffff", "6553f100", clean]
    return {"id": None, "method": "mining.notify", "params": params}


def call(method: str, *params: Any, id_: Any = None) -> dict[str, Any]:
    return {"id": id_, "method": method, "params": list(params)}


def new_session(**options: Any) -> UpstreamSession:
    defaults: dict[str, Any] = {"upstream": "north", "connection": 5, "endpoint": ENDPOINT}
    session = UpstreamSession(**defaults | {"need": ExtranonceNeed()} | options)
    session.open()
    return session


def tell(session: UpstreamSession, *said: dict[str, Any]) -> list[UpstreamEvent]:
    session.receive_data(b"".join(json.dumps(message).encode() + b"\n" for message in said))
    return events_of(session)


def events_of(session: UpstreamSession) -> list[UpstreamEvent]:
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def said(session: UpstreamSession) -> list[dict[str, Any]]:
    return [json.loads(line) for line in session.data_to_send().splitlines()]


def mining_session(*, mask: bool = True, **options: Any) -> UpstreamSession:
    session = new_session(**options)
    refused = {"id": 1, "result": None, "error": [20, "what?", None]}
    tell(session, CONFIGURED if mask else refused, SUBSCRIBED, AUTHORISED, notify())
    session.data_to_send()
    return session


def share_of(
    session: UpstreamSession, *, key: bytes = b"k", rolled: int = 0, is_block: bool = False
) -> UpstreamShare:
    """A share on the newest job; nobody looks at its hash."""
    assert session.work is not None
    job = session.work.origin
    assert isinstance(job, UpstreamJob)
    return UpstreamShare(
        key=key,
        job=job,
        extranonce2=bytes(8),
        ntime=0x6553F101,
        nonce=0xABC,
        version=session.work.version ^ rolled,
        is_block=is_block,
    )
