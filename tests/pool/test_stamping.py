"""Calendars that do not do what they should: none keeps a round up, and none has a stranger asked."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from payouts.proof.stamps import ANSWER_BYTES_MAX, BadStamp, Stamp
from pool.stamping import ANSWER_S, PAUSE_S, TRIES, WAITING_MAX, Calendars, StampFiles, stamp_roots
from tests.stages.calendar import commitment_of, promise

DIGEST = bytes(range(32))
GOOD, BAD, STRANGER = "https://good.example", "https://bad.example", "http://169.254.169.254"
Says = Callable[[httpx.Request], httpx.Response]


def said(status: int, content: bytes = b"", **headers: str) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=headers)


class Strangers(httpx.AsyncBaseTransport):
    """`good` promises; what `bad` does is the test's. `asked`: how often which host was."""

    def __init__(self, bad: Says | None = None) -> None:
        self._bad = bad
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        request.url.host.encode("idna")  # as a socket has it
        if request.url.host == "bad.example":
            if self._bad is None:
                await trio.sleep_forever()
            else:
                return self._bad(request)
        if request.method == "GET":
            return said(404)
        return said(200, promise(await request.aread(), GOOD))


def fails(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("it is gone")


def says(status: int, content: bytes = b"", **headers: str) -> Says:
    return lambda _: said(status, content, **headers)


@pytest.mark.parametrize(
    ("bad", "words", "asked"),
    [
        (None, f"no complete answer within {ANSWER_S:g} s", TRIES),
        (fails, "it cannot be asked: ReadError", TRIES),
        (says(503), "it answers with status 503", TRIES),
        (says(302, location=f"{STRANGER}/latest"), "it answers with status 302", TRIES),
        (says(302, location="https:nowhere"), "it answers with status 302", TRIES),
        (says(302, location="//xn--"), "it answers with status 302", TRIES),
        (says(404), "it answers with status 404", TRIES),
        (says(200, bytes(ANSWER_BYTES_MAX + 1)), f"its answer has more than {ANSWER_BYTES_MAX} bytes", TRIES),
        (says(200, b"<html>"), "what it answers is none: it is no stamp: ", 1),
    ],
)
async def test_a_calendar_that_does_not_answer_costs_the_others_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, bad: Says | None, words: str, asked: int
) -> None:
    strangers, files = Strangers(bad), StampFiles(tmp_path)
    began_s = trio.current_time()
    found = await stamp_roots(Calendars([BAD, GOOD], strangers), files, {1: bytes(32), 2: DIGEST})
    assert trio.current_time() - began_s <= TRIES * ANSWER_S + PAUSE_S
    assert (found.changed, [it.calendar for it in found.trouble]) == ((2,), [BAD])
    assert found.trouble[0].words.startswith(words)
    assert strangers.asked.count("bad.example") == asked
    assert set(strangers.asked) == {"good.example", "bad.example"}
    assert [it.calendar for it in files.read(2, DIGEST).promises] == [GOOD]
    assert files.numbers() == [2], "the newest has those before it in its hash"


@pytest.mark.parametrize("url", ["https://calendar..example", "https://calendar.example:8o"])
async def test_a_calendar_that_can_be_nowhere_costs_the_others_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, url: str
) -> None:
    """A dot typed twice, or an o for a nought: no name of a host, and no port."""
    strangers, files = Strangers(), StampFiles(tmp_path)
    found = await stamp_roots(Calendars([url, GOOD], strangers), files, {1: DIGEST})
    assert [it.calendar for it in found.trouble] == [url]
    assert found.trouble[0].words.startswith("it cannot be asked: ")
    assert [it.calendar for it in files.read(1, DIGEST).promises] == [GOOD]


async def test_nobody_is_asked_whom_the_settings_do_not_name(tmp_path: Path) -> None:
    """A calendar's answer says where to go on: within the pool's network, or to a thousand places."""
    strangers, files = Strangers(says(200, promise(DIGEST, f"{STRANGER}/x"))), StampFiles(tmp_path)
    for _ in range(2):
        found = await stamp_roots(Calendars([BAD], strangers), files, {1: DIGEST})
        assert found.trouble == ()
    assert strangers.asked == ["bad.example"]
    assert [it.calendar for it in files.read(1, DIGEST).promises] == [f"{STRANGER}/x"]


async def test_one_that_is_gone_is_asked_for_one_stamp_and_not_for_all_that_wait(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    files, digests = StampFiles(tmp_path), {number: number.to_bytes(32, "big") for number in range(1, 151)}
    for number, digest in digests.items():
        bad = Stamp.promised(digest, promise(digest, BAD))
        files.write(number, Stamp.promised(digest, promise(digest, GOOD), bad))
    strangers = Strangers(None)
    found = await stamp_roots(Calendars([BAD, GOOD], strangers), files, digests)
    assert (found.changed, len(found.trouble)) == ((), 1)
    assert (strangers.asked.count("bad.example"), strangers.asked.count("good.example")) == (
        TRIES,
        WAITING_MAX,
    )


async def test_a_file_of_another_root_is_not_written_over(tmp_path: Path) -> None:
    files = StampFiles(tmp_path)
    files.write(1, Stamp.promised(DIGEST, promise(DIGEST, GOOD)))
    (tmp_path / "root-1.ots.old").write_text("none of ours")
    with pytest.raises(BadStamp, match=r"root-1\.ots: it is of another hash"):
        await stamp_roots(Calendars([GOOD], Strangers()), files, {1: bytes(32)})
    assert files.read(1, DIGEST).promises[0].commitment == commitment_of(DIGEST)
    assert files.numbers() == [1]
