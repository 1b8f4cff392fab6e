"""Having hashes stamped by calendars of OpenTimestamps, and the directory in which the stamps are.

A calendar is told the hash of a root, which is published anyway, and nothing else. Only those are asked that
the settings name, whatever another one's answer says. One that does not answer is left for this round: the
next one asks again.

Invariants: a file is a whole stamp of its root or not there, and never has less in it than before. Must not
know: what a root is, which blocks there are.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import msgspec
import trio

from payouts.proof.stamps import ANSWER_BYTES_MAX, STAMP_BYTES_MAX, BadStamp, Stamp
from pool.redirections import leads_nowhere
from pool.whole_file import write_whole

ANSWER_S: Final = 20.0  # for all of it: calendars gather hashes for a second
TRIES: Final = 2  # in one round, with a pause between; the next round is another day's, or hour's
PAUSE_S: Final = 2.0
WAITING_MAX: Final = 100  # stamps that are asked for in one round, the newest first
MEDIA: Final = "application/vnd.opentimestamps.v1"
NAME: Final = re.compile(r"root-(\d{1,9})\.ots")


class NoAnswer(Exception):
    """Of a calendar: in words."""


class Trouble(msgspec.Struct, frozen=True):
    """What came in the way of a calendar."""

    calendar: str
    words: str


class StampFiles:
    """Of a directory: one file for each root, by its number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, number: int) -> Path:
        return self._directory / f"root-{number}.ots"

    def numbers(self) -> list[int]:
        """Of those that there are, from the first."""
        names = (NAME.fullmatch(it.name) for it in self._entries())
        return sorted(int(it[1]) for it in names if it is not None)

    def read(self, number: int, digest: bytes) -> Stamp:
        """Raises BadStamp, OSError."""
        path = self.path(number)
        with path.open("rb") as file:
            data = file.read(STAMP_BYTES_MAX + 1)
        try:
            return Stamp.read(data, digest)
        except BadStamp as error:
            raise BadStamp(f"{path}: {error}") from None

    def write(self, number: int, stamp: Stamp) -> None:
        """Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(number), stamp.written())

    def _entries(self) -> Iterator[Path]:
        return self._directory.iterdir() if self._directory.is_dir() else iter(())


class Calendars:
    """Those that the settings name, for one round. `trouble`: of each that did not answer as it should."""

    def __init__(self, urls: Sequence[str], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._urls = tuple(dict.fromkeys(it.rstrip("/") for it in urls))
        self.trouble: list[Trouble] = []
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=ANSWER_S,
            headers={"Accept": MEDIA, "Accept-Encoding": "identity"},
            event_hooks={"response": [leads_nowhere]},
        )

    async def aclose(self) -> None:
        await self._http.aclose()

    async def stamp(self, digest: bytes) -> Stamp | None:
        """What all of them say of a hash, asked beside each other; None where nobody says anything."""
        answers: dict[str, bytes] = {}

        async def ask(url: str) -> None:
            answer = await self._asked(url, "POST", "digest", digest)
            if answer is not None:
                answers[url] = answer

        async with trio.open_nursery() as nursery:
            for url in self._urls:
                nursery.start_soon(ask, url)
        found: Stamp | None = None
        for url in self._urls:
            if url in answers:
                found = self._taken(url, found, partial(Stamp.promised, digest, answers[url], found))
        return found

    async def go_on(self, stamp: Stamp) -> Stamp:
        """The same with the blocks that calendars know by now."""
        for it in stamp.promises:
            if it.calendar in self._urls and not any(one.calendar == it.calendar for one in self.trouble):
                asked = f"timestamp/{it.commitment.hex()}"
                answer = await self._asked(it.calendar, "GET", asked)
                if answer is not None:
                    stamp = self._taken(it.calendar, stamp, partial(stamp.kept, it, answer)) or stamp
        return stamp

    def _taken(self, url: str, before: Stamp | None, take: Callable[[], Stamp]) -> Stamp | None:
        try:
            return take()
        except BadStamp as error:
            self.trouble.append(Trouble(url, f"what it answers is none: {error}"))
            return before

    async def _asked(self, url: str, method: str, path: str, body: bytes | None = None) -> bytes | None:
        """The answer; None where it knows nothing yet, or is in trouble."""
        words = ""
        for left in reversed(range(TRIES)):
            try:
                with trio.fail_after(ANSWER_S):
                    return await self._answer(f"{url}/{path}", method, body)
            except trio.TooSlowError:
                words = f"no complete answer within {ANSWER_S:g} s"
            except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:  # the last of no name
                words = f"it cannot be asked: {type(error).__name__}"
            except NoAnswer as error:
                words = str(error)
            if left:
                await trio.sleep(PAUSE_S)
        self.trouble.append(Trouble(url, words))
        return None

    async def _answer(self, url: str, method: str, body: bytes | None) -> bytes | None:
        request = self._http.build_request(method, url, content=body)
        async with aclosing(await self._http.send(request, stream=True)) as response:
            if method == "GET" and response.status_code == httpx.codes.NOT_FOUND:
                return None  # it is in no block yet
            if response.status_code != httpx.codes.OK:
                raise NoAnswer(f"it answers with status {response.status_code}")
            answer = bytearray()
            with trio.CancelScope() as reading:
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > ANSWER_BYTES_MAX:
                        reading.cancel()  # leaving the loop would leave httpx's generators open
        if len(answer) > ANSWER_BYTES_MAX:
            raise NoAnswer(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
        return bytes(answer)


class Round(msgspec.Struct, frozen=True):
    """What one round of asking came to: the roots whose files are new or have more in them."""

    changed: tuple[int, ...]
    trouble: tuple[Trouble, ...]


async def stamp_roots(calendars: Calendars, files: StampFiles, digests: dict[int, bytes]) -> Round:
    """Ask for the newest root, where there is no file of it, and go on with those that wait for a block.
    Raises BadStamp where a file is none of its root, OSError."""
    changed = []
    newest = max(digests)
    in_thread = trio.to_thread.run_sync
    waiting = [it for it in await in_thread(files.numbers) if it in digests]
    for number in waiting[::-1][:WAITING_MAX]:
        before = await in_thread(files.read, number, digests[number])
        after = await calendars.go_on(before)
        if after is not before:
            await in_thread(files.write, number, after)
            changed.append(number)
    if newest not in waiting and (stamp := await calendars.stamp(digests[newest])) is not None:
        await in_thread(files.write, newest, stamp)
        changed.append(newest)
    return Round(tuple(changed), tuple(calendars.trouble))
