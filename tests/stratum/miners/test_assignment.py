"""A miner that is moved to another channel: what it hears, in which order, and what its shares are worth.

No sockets, no clock; shares are found by really hashing. Rates tell the work of channels apart.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stratum.miners.channel import WORKS_MAX, Channel, Moved
from stratum.miners.extranonce import ExtranonceExhausted, ExtranonceSpace
from stratum.miners.liveness import SessionLimits
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from tests.stages.sessions import (
    CHECK_S,
    LEAST_LOG2,
    ROLLING,
    START_LOG2,
    Heard,
    Miner,
    ThreeChannels,
    encode,
    make_work,
    words,
)

OWN_RATE, TWIN_RATE, OTHER_RATE = 1, 2, 3


def in_use(channel: Channel) -> int:
    return len(channel.extranonces)


def is_clean(heard: list[Heard]) -> bool:
    (notify,) = (it for it in heard if it.get("method") == "mining.notify")
    return bool(notify["params"][8])


# What is said


def test_with_equal_extranonces_a_move_is_a_difficulty_and_a_clean_job() -> None:
    three = ThreeChannels()
    miner = three.miner()
    assert three.stage.move(miner, three.twin) is Moved.JOB
    assert miner.hear() == [], "nothing before there is a job"
    three.stage.serve_waiting()
    heard = miner.hear()
    assert words(heard) == "set_difficulty notify"
    assert is_clean(heard), "although it is an alias"
    assert miner.mine()["result"] is True
    assert three.credited() == [(TWIN_RATE, Verdict.ACCEPTED, 1)]


def test_with_others_they_are_told_first_and_a_clean_job_follows() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    former = miner.extranonce1
    assert three.stage.move(miner, three.other) is Moved.EXTRANONCE
    assert (miner.hear(), miner.extranonce1) == ([], former)
    three.publish(three.other)
    heard = miner.hear()
    assert words(heard) == "set_extranonce set_difficulty notify"
    assert heard[0]["params"] == [miner.extranonce1.hex(), 4]
    assert is_clean(heard), "old firmware builds the coinbase anew at a clean job only"
    assert len(miner.extranonce1) == 2
    assert miner.mine()["result"] is True
    assert three.credited() == [(OTHER_RATE, Verdict.ACCEPTED, 1)]


def test_the_same_bytes_on_another_channel_are_other_extranonces() -> None:
    """Of connections with a byte for a prefix one in 256 is: what was in force for it there is not here."""
    three = ThreeChannels(extranonce1_size=1)
    beside = three.stage.add_channel(1, 8)
    beside.extranonces.capacity = 16  # so that it begins with the first prefix, as the pool's own work did
    three.stage.admission.remembered_log2["acme.c01.u1"] = START_LOG2 + 6
    miner = three.miner(subscribed=True)
    three.stage.serve_waiting()
    miner.hear()
    assert miner.difficulty == 2.0 ** (START_LOG2 + 6)
    three.stage.publish(make_work(400, upstream=True), beside, rate=4)
    assert three.stage.move(miner, beside) is Moved.EXTRANONCE
    assert beside.extranonces is not three.own.extranonces
    assert miner.assignment.extranonce1 == miner.extranonce1
    three.stage.serve_waiting()
    miner.hear()
    assert miner.difficulty == 2.0**START_LOG2, "what the work came with"
    assert miner.mine(difficulty_log2=START_LOG2)["result"] is True
    (tally,) = three.stage.tallies()
    assert (tally.rate, tally.difficulty_log2) == (4, START_LOG2)


def test_the_order_on_the_wire_with_another_version_mask() -> None:
    three = ThreeChannels()
    three.other.version_mask = 0x00C00000
    miner = three.miner(subscribed=True, rolling=True)
    three.stage.move(miner, three.other)
    three.stage.serve_waiting()
    heard = miner.hear()
    assert words(heard) == "set_extranonce set_version_mask set_difficulty notify"
    assert heard[1]["params"] == ["00c00000"]
    three.stage.move(miner, three.twin)
    three.stage.serve_waiting()
    heard = miner.hear()
    assert words(heard) == "set_extranonce set_version_mask set_difficulty notify"
    assert heard[1]["params"] == ["1fffe000"]


def test_only_the_next_job_is_clean_and_says_so() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    three.stage.move(miner, three.other)
    three.publish(three.other)
    miner.hear()
    three.publish(three.other)
    heard = miner.hear()
    assert words(heard) == "notify"
    assert not is_clean(heard)


def test_who_cannot_be_told_is_asked_to_connect_again_and_dropped_after_a_while() -> None:
    three = ThreeChannels(limits=SessionLimits(leave_s=10.0))
    miner = three.miner()
    assert three.stage.move(miner, three.other) is Moved.RECONNECT
    assert miner.hear() == [{"id": None, "method": "client.reconnect", "params": []}]
    assert miner.assignment.leaving
    assert miner.channel is three.own, "it mines on until it leaves"
    assert miner.mine()["result"] is True
    assert three.stage.move(miner, three.other) is Moved.RECONNECT
    assert miner.hear() == [], "it has been asked"
    three.stage.advance(9.0)
    assert miner.session.closing is None
    three.stage.advance(1.0 + CHECK_S)
    assert miner.session.closing == "moved"


def test_the_version_mask_is_what_miner_and_channel_agree_on() -> None:
    three = ThreeChannels()
    miner = three.stage.connect()
    three.own.version_mask = 0x0FFFE000
    (answer,) = miner.ask("mining.configure", ["version-rolling"], {"version-rolling.mask": "18c00000"})
    assert answer["result"]["version-rolling.mask"] == "08c00000"


def test_a_changed_mask_is_told_at_once_and_holds_at_once() -> None:
    three = ThreeChannels()
    rolling, plain = three.miner(rolling=True), three.miner(worker="acme.c01.u2")
    bits = 0x10000000
    assert rolling.submit(*rolling.share(rolled=bits), f"{bits:08x}")["result"] is True
    three.own.version_mask = 0x0FFFE000
    for miner in (rolling, plain):
        miner.write(miner.assignment.mask_changed())
    (told,) = rolling.hear()
    assert (told["method"], told["params"]) == ("mining.set_version_mask", ["0fffe000"])
    assert plain.hear() == [], "it never asked"
    for miner in (rolling, plain):
        refused = miner.submit(*miner.share(rolled=bits), f"{bits:08x}")
        assert refused["error"][1] == "Version bits outside the mask"
    assert rolling.assignment.mask_changed() == b"", "it has been told"


def test_a_mask_that_is_asked_for_on_the_way_is_that_of_the_jobs_it_has() -> None:
    three = ThreeChannels()
    three.twin.version_mask = 0x00C00000
    miner = three.miner()
    three.stage.move(miner, three.twin)
    (answer,) = miner.ask("mining.configure", *ROLLING)
    assert answer["result"]["version-rolling.mask"] == "1fffe000"
    bits = 0x10000000
    assert miner.submit(*miner.share(rolled=bits), f"{bits:08x}")["result"] is True
    three.stage.serve_waiting()
    heard = miner.hear()
    assert words(heard) == "set_version_mask set_difficulty notify"
    assert heard[0]["params"] == ["00c00000"]


def test_a_miner_that_subscribes_again_on_the_way_hears_what_it_has() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    had = miner.extranonce1
    three.stage.move(miner, three.other)
    (answer,) = miner.ask("mining.subscribe", "test/1")
    assert answer["result"][1:] == [had.hex(), 8]
    three.stage.serve_waiting()
    assert words(miner.hear()) == "set_extranonce set_difficulty notify"
    assert miner.mine()["result"] is True


# What was mined for the former channel


@pytest.mark.parametrize("subscribed", [False, True])
def test_late_shares_are_the_former_channels_and_count_once(subscribed: bool) -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=subscribed)
    former = miner.job
    late, later = miner.share(), miner.share()
    three.stage.move(miner, three.other if subscribed else three.twin)
    assert miner.submit(*late)["result"] is True, "it has not heard of the move"
    three.stage.serve_waiting()
    miner.hear()
    assert miner.submit(*later)["result"] is True, "with the extranonce1 of then"
    assert miner.submit(*later)["error"][0] == 22
    assert miner.submit(*late)["error"][0] == 22
    assert miner.mine(job=former)["result"] is True
    assert miner.mine()["result"] is True
    rate = OTHER_RATE if subscribed else TWIN_RATE
    assert sorted(three.credited()) == [
        (OWN_RATE, Verdict.ACCEPTED, 3),
        (OWN_RATE, Verdict.DUPLICATE, 2),
        (rate, Verdict.ACCEPTED, 1),
    ]


def test_late_shares_are_judged_under_the_mask_and_the_difficulty_of_then() -> None:
    three = ThreeChannels()
    three.twin.version_mask = 0
    three.twin.vardiff = VardiffPolicy(difficulty_log2_min=LEAST_LOG2, difficulty_log2_max=START_LOG2 - 4)
    miner = three.miner(rolling=True)
    former, bits = miner.job, 0x00002000
    three.stage.move(miner, three.twin)
    three.stage.serve_waiting()
    assert words(miner.hear()) == "set_version_mask set_difficulty notify"
    rolled = miner.share(START_LOG2, job=former, rolled=bits)
    assert miner.submit(*rolled, f"{bits:08x}")["result"] is True
    assert miner.mine(difficulty_log2=START_LOG2, job=former, hit=False)["error"][0] == 23
    now = miner.share(rolled=bits)
    assert miner.submit(*now, f"{bits:08x}")["error"][1] == "Version bits outside the mask"
    assert {(it.rate, it.difficulty_log2) for it in three.stage.tallies()} == {
        (OWN_RATE, START_LOG2),
        (TWIN_RATE, START_LOG2 - 4),
    }


def test_a_share_for_the_new_job_with_the_old_extranonce_is_worth_nothing() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    old = miner.extranonce1
    three.stage.move(miner, three.other)
    three.stage.serve_waiting()
    miner.hear()
    miner._extranonces[miner.job[0]] = old, 4
    assert miner.mine()["error"] is not None
    assert all(verdict is not Verdict.ACCEPTED for _, verdict, _ in three.credited())


# Moves one upon the other


def test_of_two_moves_before_a_job_only_the_second_is_told() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    third = three.stage.add_channel(1, 4)
    three.stage.publish(make_work(400), third, rate=4)
    assert three.stage.move(miner, three.other) is Moved.EXTRANONCE
    assert three.stage.move(miner, third) is Moved.EXTRANONCE
    assert (in_use(three.own), in_use(three.other), in_use(third)) == (1, 0, 1)
    three.publish(three.other)
    assert miner.hear() == []
    three.stage.serve_waiting()
    assert words(miner.hear()) == "set_extranonce set_difficulty notify"
    assert (in_use(three.own), in_use(three.other), in_use(third)) == (0, 0, 1)
    assert miner.mine()["result"] is True
    assert three.credited() == [(4, Verdict.ACCEPTED, 1)]


def test_a_move_back_before_it_was_told_is_nothing_but_a_clean_job() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    had = miner.extranonce1
    three.stage.move(miner, three.other)
    assert three.stage.move(miner, three.own) is Moved.JOB
    assert (in_use(three.own), in_use(three.other)) == (1, 0)
    three.stage.serve_waiting()
    assert words(miner.hear()) == "set_difficulty notify"
    assert miner.extranonce1 == had
    assert miner.mine()["result"] is True
    assert three.credited() == [(OWN_RATE, Verdict.ACCEPTED, 1)]


def test_there_and_back_again_and_shares_of_every_stay() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    jobs = [miner.job]
    for channel in (three.other, three.own, three.twin, three.other):
        three.stage.move(miner, channel)
        three.stage.serve_waiting()
        miner.hear()
        jobs.append(miner.job)
    assert [miner.mine(job=job)["result"] for job in jobs] == [True] * 5
    assert sorted(three.credited()) == [
        (OWN_RATE, Verdict.ACCEPTED, 2),
        (TWIN_RATE, Verdict.ACCEPTED, 1),
        (OTHER_RATE, Verdict.ACCEPTED, 2),
    ]


def test_who_leaves_on_the_way_gives_both_extranonces_back() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    three.stage.move(miner, three.other)
    assert (in_use(three.own), in_use(three.other)) == (1, 1)
    miner.leave()
    assert (in_use(three.own), in_use(three.other)) == (0, 0)
    assert not any(channel.sessions or channel.waiting for channel in three.stage.distribution.channels)


@pytest.mark.parametrize("subscribed", [False, True])
def test_where_there_is_no_room_nobody_is_moved_or_sent(subscribed: bool) -> None:
    three = ThreeChannels()
    three.other.extranonces.capacity = 1
    three.other.lease(None, 0.0)
    miner = three.miner(subscribed=subscribed)
    with pytest.raises(ExtranonceExhausted):
        miner.assignment.move_to(three.other, three.stage.now_s)
    assert (miner.channel, miner.assignment.leaving) == (three.own, False)
    three.publish(three.own, block=True)
    assert words(miner.hear()) == "notify"
    assert miner.mine()["result"] is True


def test_a_channel_may_be_closed_while_one_that_left_it_waits_for_its_first_job() -> None:
    three = ThreeChannels()
    miner = three.miner(subscribed=True)
    three.stage.move(miner, three.other)
    three.publish(three.other)
    miner.hear()
    three.stage.move(miner, three.own)
    three.stage.distribution.remove_channel(three.other)
    three.stage.serve_waiting()
    assert words(miner.hear()) == "set_extranonce set_difficulty notify"
    assert miner.mine()["result"] is True


# Nobody shares a prefix, none is lost


class Moves(RuleBasedStateMachine):
    """Sessions come, move, leave and resume, on tight spaces of which two channels share one.

    The model knows what miners heard, and for each live job who was credited on it: nothing of how prefixes
    rest.
    """

    PREFIXES = 6

    def __init__(self) -> None:
        super().__init__()
        self.three = ThreeChannels(extranonce1_size=1)
        for channel in (self.three.own, self.three.other):
            channel.extranonces.capacity = self.PREFIXES
        self.miners: list[Miner] = []
        self.told: dict[Miner, Channel] = {}  # whose extranonces it has
        self.worked: dict[int, tuple[Channel, set[tuple[ExtranonceSpace, bytes]]]] = {}  # by job
        self.left: list[tuple[str, str]] = []  # workers and their session ids

    def listen(self) -> None:
        """Every miner reads what it was sent."""
        for miner in self.miners:
            for message in miner.hear():
                if message.get("method") == "mining.notify":
                    self.told[miner] = miner.channel

    def carried(self, space: ExtranonceSpace) -> set[bytes]:
        """Prefixes that somebody was credited with on live jobs."""
        live = (worked for seq, (channel, worked) in self.worked.items() if seq >= channel.oldest_live_seq)
        return {prefix for worked in live for its_space, prefix in worked if its_space is space}

    def in_use(self, space: ExtranonceSpace) -> int:
        """One for what a miner has, and one for what it is about to get."""
        return sum(
            (self.told[it].extranonces is space)
            + (it.channel.extranonces is space and not it.channel.same_extranonces(self.told[it]))
            for it in self.miners
        )

    def connect(self, worker: str, session_id: str | None, subscribed: bool) -> None:
        carried = self.carried(self.three.own.extranonces)
        miner = self.three.stage.connect(worker)
        miner.say(encode(1, "mining.subscribe", "test/1", session_id))
        if miner.session.closing is not None:
            miner.leave()
            return
        assert session_id == miner.extranonce1.hex() or miner.extranonce1 not in carried
        self.miners.append(miner)
        self.told[miner] = self.three.own
        if subscribed:
            miner.ask("mining.extranonce.subscribe")
        miner.write(
            miner.session.receive_line(encode(2, "mining.authorize", worker, "x"), self.three.stage.now_s)
        )
        self.listen()

    @rule(count=st.integers(1, 4), subscribed=st.booleans())
    def come(self, count: int, subscribed: bool) -> None:
        for _ in range(count):
            self.connect(f"acme.c01.u{len(self.left) + len(self.miners)}", None, subscribed)

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.connect(*data.draw(st.sampled_from(self.left)), True)

    @precondition(lambda self: self.miners)
    @rule(data=st.data(), to=st.integers(0, 2))
    def move(self, data: st.DataObject, to: int) -> None:
        miner = data.draw(st.sampled_from(self.miners))
        channel = self.three.stage.distribution.channels[to]
        carried, before = self.carried(channel.extranonces), miner.assignment.extranonce1
        moved = self.three.stage.move(miner, channel)
        if moved is Moved.EXTRANONCE:
            assert miner.assignment.extranonce1 not in carried
        elif moved is Moved.JOB:
            assert miner.assignment.extranonce1 == miner.extranonce1
        else:
            assert miner.assignment.extranonce1 == before
        self.listen()

    @precondition(lambda self: self.miners)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        miner = self.miners.pop(data.draw(st.integers(0, len(self.miners) - 1)))
        miner.leave()
        self.left.append((miner.worker, miner.extranonce1.hex()))

    @rule(which=st.integers(0, 2), count=st.sampled_from([1, WORKS_MAX]))
    def publish(self, which: int, count: int) -> None:
        for _ in range(count):
            self.three.publish(self.three.stage.distribution.channels[which])
            self.listen()

    @rule()
    def aliases(self) -> None:
        self.three.stage.serve_waiting()
        self.listen()

    @precondition(lambda self: self.miners)
    @rule(data=st.data())
    def mine(self, data: st.DataObject) -> None:
        miner = data.draw(st.sampled_from(self.miners))
        rate = self.told[miner].number
        self.three.credited()
        extranonce2 = data.draw(st.integers(0, 1 << 32))
        answer = miner.mine(extranonce2=extranonce2)
        expected = Verdict.ACCEPTED if answer["result"] else Verdict.DUPLICATE
        seq, channel = int(miner.job[0], 16), self.told[miner]
        gone, counted = seq < channel.oldest_live_seq, self.three.credited()
        if answer["result"]:
            _, worked = self.worked.setdefault(seq, (channel, set()))
            worked.add((channel.extranonces, miner.extranonce1))
        else:  # charged to a worker that has earned it
            assert counted in ([], [(0, Verdict.JOB_UNKNOWN, 1) if gone else (rate, expected, 1)])
            return
        assert counted == [(rate, expected, 1)]

    @invariant()
    def nobody_shares_a_prefix_and_none_is_lost(self) -> None:
        for space in (self.three.own.extranonces, self.three.other.extranonces):
            had = [it.extranonce1 for it in self.miners if self.told[it].extranonces is space]
            assert len(set(had)) == len(had)
            assert len(space) == self.in_use(space)

    def teardown(self) -> None:
        for miner in self.miners:
            miner.leave()
        for channel in self.three.stage.distribution.channels:
            assert not channel.sessions
            assert not channel.waiting
            assert len(channel.extranonces) == 0


TestMoves = Moves.TestCase
TestMoves.settings = settings(deadline=None, derandomize=True, max_examples=40, stateful_step_count=40)
