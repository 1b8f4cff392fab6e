"""Sockets that the engine reads and answers on by itself: what it leaves to Python, and who is answered."""

import select
import socket
from collections.abc import Iterator

import pytest

from stratum.tallies import Verdict
from tests.stages.engine import Mine, Miner, submit_line, work

ROUND = 1024
pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll here")


class Wired:
    """Miners on socket pairs: `theirs` is what the miner has in hand."""

    def __init__(self) -> None:
        self.mine = Mine()
        self.mine.publish(work())
        self.engine = self.mine.engine
        self.epoll = select.epoll()
        self._sockets: list[socket.socket] = []

    def join(self, *, reads: bool = True, writes: bool = True) -> tuple[Miner, socket.socket, int]:
        miner, (ours, theirs) = self.mine.join(), socket.socketpair()
        self._sockets += [ours, theirs]
        for it in (ours, theirs):
            it.setblocking(False)
        self.epoll.register(ours, select.EPOLLIN)
        self.engine.set_wire(miner.session, ours.fileno(), reads=reads, writes=writes)
        return miner, theirs, ours.fileno()

    def read(self) -> tuple[list[tuple[int, int]], list[tuple[object, bytes]], list[tuple[object, str, str]]]:
        return self.engine.read(self.epoll.fileno(), ROUND)

    def send(self) -> list[tuple[object, bytes]]:
        self.engine.close_batch()
        more, rest = self.engine.send_batch(ROUND)
        assert not more
        return rest

    def close(self) -> None:
        self.epoll.close()
        for it in self._sockets:
            it.close()


@pytest.fixture
def wired() -> Iterator[Wired]:
    wired = Wired()
    yield wired
    wired.close()


def ids(data: bytes) -> list[int]:
    return [int(line[len(b'{"id":') :].split(b",")[0]) for line in data.splitlines()]


# Reading


def test_shares_are_queued_and_nobody_else_hears_of_them(wired: Wired) -> None:
    miners = [wired.join() for _ in range(3)]
    for n, (_, theirs, _) in enumerate(miners):
        theirs.send(submit_line(id=n, nonce=n)[:-1])
    assert wired.read() == ([], [], [])
    assert wired.engine.queued() == 0, "no line is whole yet"
    for _, theirs, _ in miners:
        theirs.send(b"\n")
    assert wired.read() == ([], [], [])
    assert wired.engine.queued() == 3
    assert wired.read() == ([], [], []), "nothing more has come"


def test_a_line_that_is_no_submit_is_handed_over_with_its_miner_and_what_is_behind_it_waits(
    wired: Wired,
) -> None:
    miner, theirs, _ = wired.join()
    theirs.send(submit_line(id=1, nonce=1) + b'{"id":2}\n' + submit_line(id=3, nonce=3))
    assert wired.read() == ([], [(miner, b'{"id":2}')], [])
    assert wired.engine.queued() == 1
    assert wired.engine.feed(miner.session, b"") is None
    assert wired.engine.queued() == 2


def test_who_has_left_and_who_says_too_long_a_line_has_ended(wired: Wired) -> None:
    (left, closed, _), (endless, babble, _) = wired.join(), wired.join()
    closed.close()
    babble.send(b"x" * 4_096)
    ready, lines, ends = wired.read()
    assert (len(ready), lines, ends) == (1, [], []), "a hang-up is more than bytes to read"
    babble.send(b"x" * 4_096)
    assert wired.read()[2] == []
    babble.send(b"x")
    assert wired.read()[2] == [(endless, "line too long", "")]
    assert left is not endless


def test_half_a_goodbye_is_an_end(wired: Wired) -> None:
    miner, theirs, _ = wired.join()
    theirs.send(submit_line(id=1, nonce=1))
    theirs.shutdown(socket.SHUT_WR)
    assert wired.read() == ([], [], [])
    assert wired.engine.queued() == 1, "what was said before counts"
    assert wired.read() == ([], [], [(miner, "left", "")])


def test_sockets_that_are_not_read_here_are_told_as_they_are(wired: Wired) -> None:
    miner, theirs, descriptor = wired.join(reads=False)
    theirs.send(submit_line())
    assert wired.read() == ([(descriptor, select.EPOLLIN)], [], [])
    wired.engine.set_wire(miner.session, descriptor, reads=True, writes=True)
    assert wired.read() == ([], [], [])
    assert wired.engine.queued() == 1
    theirs.send(submit_line())
    wired.engine.set_wire(miner.session, descriptor, reads=False, writes=True)
    assert wired.read() == ([(descriptor, select.EPOLLIN)], [], [])
    assert wired.engine.queued() == 1


def test_a_descriptor_is_nobodys_when_its_session_has_left(wired: Wired) -> None:
    miner, theirs, descriptor = wired.join()
    miner.close()
    theirs.send(submit_line())
    assert wired.read() == ([(descriptor, select.EPOLLIN)], [], [])


def test_a_wire_needs_a_session_and_a_descriptor(wired: Wired) -> None:
    miner, _, descriptor = wired.join()
    with pytest.raises(IndexError):
        wired.engine.set_wire(miner.session + 1, descriptor, reads=True, writes=True)
    with pytest.raises(ValueError, match="descriptor"):
        wired.engine.set_wire(miner.session, -1, reads=True, writes=True)
    miner.close()
    with pytest.raises(IndexError):
        wired.engine.set_wire(miner.session, descriptor, reads=True, writes=True)


# Replies


def test_replies_wait_for_the_batch_and_leave_together_in_their_order(wired: Wired) -> None:
    (miner, theirs, _), (other, others, _) = wired.join(), wired.join()
    for n in range(100):
        miner.submit(id=n, nonce=n)
        other.submit(id=n, nonce=1000 + n)
        assert wired.mine.judge() == [], "no reply goes to Python"
    count, size = wired.engine.kept()
    assert (count, wired.engine.kept()) == (200, (0, 0))
    wired.engine.close_batch()
    miner.submit(id=100, nonce=100)  # during the commit: for the next one
    wired.mine.judge()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    assert wired.engine.send_batch(ROUND) == (False, [])
    heard = theirs.recv(1 << 20), others.recv(1 << 20)
    assert [ids(it) for it in heard] == [list(range(100))] * 2
    assert sum(map(len, heard)) == size
    assert wired.send() == []
    assert ids(theirs.recv(1 << 20)) == [100]
    assert wired.engine.totals()[Verdict.ACCEPTED] == 201


def test_a_batch_is_sent_in_steps_and_whole_before_the_next_one(wired: Wired) -> None:
    miners = [wired.join() for _ in range(5)]
    for n, (miner, _, _) in enumerate(miners):
        miner.submit(id=n, nonce=n)
    wired.mine.judge()
    wired.engine.close_batch()
    assert wired.engine.send_batch(3) == (True, [])
    with pytest.raises(RuntimeError, match="not sent yet"):
        wired.engine.close_batch()
    assert wired.engine.send_batch(3) == (False, [])
    assert wired.engine.send_batch(3) == (False, [])
    assert [ids(theirs.recv(1 << 20)) for _, theirs, _ in miners] == [[n] for n in range(5)]


def test_who_has_left_is_not_answered_nor_who_has_his_number_and_descriptor(wired: Wired) -> None:
    miner, theirs, descriptor = wired.join()
    miner.submit(id=1, nonce=1)
    wired.mine.judge()
    miner.close()
    wired.mine.judge()  # its number is free now
    heir = wired.mine.join()
    assert heir.session == miner.session
    wired.engine.set_wire(heir.session, descriptor, reads=True, writes=True)
    heir.submit(id=2, nonce=2)
    wired.mine.judge()
    assert wired.send() == []
    assert ids(theirs.recv(1 << 20)) == [2]


def test_what_a_miner_does_not_take_is_left_to_python_whole_and_in_order(wired: Wired) -> None:
    (slow, theirs, descriptor), (good, goods, _) = wired.join(), wired.join()
    ours = socket.socket(fileno=descriptor)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
    ours.detach()
    good.submit(id=0, nonce=1_000_000)
    for n in range(900):
        slow.submit(id=n, nonce=n)
        wired.mine.judge()
    rest = wired.send()
    assert rest
    assert {owner for owner, _ in rest} == {slow}
    heard = b""
    while True:
        try:
            heard += theirs.recv(1 << 20)
        except BlockingIOError:
            break
    assert heard
    assert ids(heard + b"".join(data for _, data in rest)) == list(range(900))
    assert ids(goods.recv(1 << 20)) == [0]


def test_who_may_not_be_written_to_by_then_is_left_to_python(wired: Wired) -> None:
    miner, _, descriptor = wired.join()
    miner.submit(id=1, nonce=1)
    wired.mine.judge()
    wired.engine.set_wire(miner.session, descriptor, reads=True, writes=False)
    ((owner, data),) = wired.send()
    assert owner is miner
    assert ids(data) == [1]
    miner.submit(id=2, nonce=2)
    assert wired.mine.judge() == [Verdict.ACCEPTED], "such replies are Python's from the beginning"


def test_a_broken_socket_is_left_to_python_which_finds_out(wired: Wired) -> None:
    miner, theirs, _ = wired.join()
    theirs.close()
    miner.submit(id=1, nonce=1)
    wired.mine.judge()
    ((owner, data),) = wired.send()
    assert owner is miner
    assert ids(data) == [1]
