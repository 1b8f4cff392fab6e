"""Odd messages of an upstream: what is plain is taken, what does not matter is logged and skipped.

The connection falls only for what cannot be understood (tests/stratum/upstream/test_hostile.py).
"""

from typing import Any

import pytest
import structlog
import trio

from stratum.difficulty import DIFF1
from stratum.upstream.connection import MESSAGES_LOGGED_MAX
from stratum.upstream.events import ExtranonceChanged, JobReceived, OddMessage, TargetChanged
from stratum.upstream.shares import UpstreamJob
from tests.fakes.upstream_lines import BLOCK_B, call, mining_session, notify, said, share_of, tell
from tests.fakes.upstreams import HonestUpstream
from tests.stages.upstream_clients import mining


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(
    "rest",
    [
        lambda clean: [clean],
        lambda clean: ["extra", clean],  # ten parameters: clean_jobs is the last one
        lambda clean: [7, clean],
        lambda clean: [None, clean],
        lambda clean: [not clean, clean],
        lambda clean: ["a", {}, clean],
        lambda clean: [clean, "extra"],
        lambda clean: [int(clean)],
        lambda clean: [str(clean)],
        lambda clean: [str(clean).lower()],
    ],
    ids=["as usual", "ten", "number", "null", "flag", "eleven", "behind", "0 or 1", "Text", "text"],
)
def test_a_job_may_have_more_parameters_and_its_last_flag_says_whether_it_is_clean(
    clean: bool, rest: Any
) -> None:
    message = notify("j2")
    message["params"][8:] = rest(clean)
    (event,) = tell(mining_session(), message)
    assert isinstance(event, JobReceived)
    assert event.clean is clean


def test_a_job_without_the_flag_is_not_clean_unless_it_is_on_another_block() -> None:
    session = mining_session()
    for block, clean in [("aa" * 32, False), (BLOCK_B, True)]:
        message = notify("j2", block=block)
        del message["params"][8:]
        (event,) = tell(session, message)
        assert isinstance(event, JobReceived)
        assert event.clean is clean


def test_a_job_id_may_be_a_number() -> None:
    session = mining_session()
    message = notify("j2")
    message["params"][0] = 17
    tell(session, message)
    session.submit(share_of(session), 0.0)
    assert said(session)[0]["params"][1] == "17"
    assert session.work is not None
    assert isinstance(session.work.origin, UpstreamJob)


def test_numbers_may_be_text() -> None:
    session = mining_session()
    events = tell(session, call("mining.set_difficulty", "512"), notify("j2"))
    assert events[0] == TargetChanged(DIFF1 // 512)
    events = tell(session, call("mining.set_extranonce", "aabb", "8"), notify("j3"))
    assert isinstance(events[0], ExtranonceChanged)
    assert events[0].split.upstream_bytes == 8


@pytest.mark.parametrize(
    "message",
    [
        call("mining.set_goal", "north"),
        call("mining.notify2", "j2"),
        call("client.reconnect", "a", "b"),
        call("client.reconnect", "a", 1 << 20),
        call("client.reconnect", []),
        call("client.reconnect", "a", 1, "9" * 5_000 + "x"),
        call("x" * 4_000),
    ],
)
def test_what_does_not_matter_is_skipped_in_words_without_the_account(message: dict[str, Any]) -> None:
    session = mining_session()
    (odd,) = tell(session, message)
    assert isinstance(odd, OddMessage)
    assert 0 < len(odd.words) <= 200
    assert [type(event) for event in tell(session, notify("j2"))] == [JobReceived]
    session.submit(share_of(session), 0.0)
    assert said(session)[0]["method"] == "mining.submit"


def test_a_mask_where_none_was_granted_is_skipped_whatever_it_is() -> None:
    session = mining_session(mask=False)
    masks: list[Any] = ["1fffe000", None, 5, []]
    for mask in masks:
        assert [type(event) for event in tell(session, call("mining.set_version_mask", mask))] == [OddMessage]
    assert session.mask is None


async def test_odd_messages_fill_no_log_and_cost_no_connection(autojump_clock: object) -> None:
    pool = HonestUpstream()
    with structlog.testing.capture_logs() as logs:
        async with mining(a=pool) as client:
            for _ in range(3 * MESSAGES_LOGGED_MAX):
                await pool.call.tell("mining.set_goal", "north")
                await trio.sleep(1)
            assert client.upstream.serving is not None
            assert client.submit(1) is None
            await client.answers(1)
            assert len(pool.calls) == 1
    assert sum(it["event"] == "upstream_message_skipped" for it in logs) == MESSAGES_LOGGED_MAX
