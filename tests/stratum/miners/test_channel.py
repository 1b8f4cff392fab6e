"""The jobs of a channel: their ids, their aliases, how long they live, and what sessions leave behind."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum._engine import JOBS_PER_CHANNEL_MAX, Engine
from stratum.miners import extranonce as extranonce_module
from stratum.miners.channel import WORKS_MAX, Channel, JobIds
from stratum.miners.extranonce import ExtranonceSpace
from tests.fakes.work_sources import SourceThatKeeps
from tests.stages.sessions import NTIME, Miner, SessionStage, make_work


class Clock:
    """Moves when the test says so."""

    def __init__(self) -> None:
        self.now_s = 5_000.0

    def __call__(self) -> float:
        return self.now_s


def a_channel(clock: Clock | None = None, **options: Any) -> Channel:
    return Channel(
        1,
        SourceThatKeeps(),
        engine=Engine(),
        job_ids=JobIds(started_at_unix_s=1),
        extranonces=ExtranonceSpace(4),
        extranonce2_size=8,
        monotonic_s=clock or Clock(),
        **options,
    )


def ntime_sent(channel: Channel) -> int:
    return int(msgspec.json.decode(channel.notify_line(clean=False))["params"][7], 16)


# Ids


@settings(deadline=None, derandomize=True)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 1 << 33))
def test_ids_grow_and_are_never_used_again(publishes: list[bool], started_at_unix_s: int) -> None:
    job_ids = JobIds(started_at_unix_s)
    channel = Channel(
        1,
        SourceThatKeeps(),
        engine=Engine(),
        job_ids=job_ids,
        extranonces=ExtranonceSpace(4),
        extranonce2_size=8,
    )
    seqs = []
    for refresh, publish in enumerate([True, *publishes]):
        job = channel.publish(make_work(refresh=refresh), rate=1) if publish else channel.alias()
        assert job is not None
        seqs.append(job.seq)
    assert seqs == sorted(set(seqs))
    assert seqs[0] > started_at_unix_s << 20


def test_a_later_boot_has_higher_ids_than_a_day_of_the_one_before() -> None:
    before = JobIds(started_at_unix_s=1_000_000)
    for _ in range(10_000):
        last = before.next()
    assert JobIds(started_at_unix_s=1_000_001).next() > last
    assert JobIds().next() > JobIds(started_at_unix_s=1_700_000_000).next()


def test_channels_share_ids() -> None:
    engine, job_ids = Engine(), JobIds(1)
    channels = [
        Channel(
            number,
            SourceThatKeeps(),
            engine=engine,
            job_ids=job_ids,
            extranonces=ExtranonceSpace(4),
            extranonce2_size=8,
        )
        for number in (1, 2)
    ]
    seqs = [channel.publish(make_work(), rate=1).seq for channel in channels for _ in range(2)]
    assert len(set(seqs)) == 4


# Work


def test_only_another_previous_block_makes_a_job_clean() -> None:
    channel = a_channel()
    heights = (1, 1, 2, 2, 1)
    jobs = [channel.publish(make_work(h, refresh=n), rate=7) for n, h in enumerate(heights)]
    assert [job.clean for job in jobs] == [True, False, True, False, True]
    assert {(job.channel, job.rate) for job in jobs} == {(1, 7)}


def test_the_room_for_extranonces() -> None:
    assert a_channel().extranonce_size == 12


def test_without_work_there_is_no_alias_and_nothing_lives() -> None:
    channel = a_channel()
    assert channel.alias() is None
    assert channel.oldest_live_seq > channel._job_ids.last


def test_an_alias_is_the_same_work_under_another_id_and_not_clean() -> None:
    channel = a_channel()
    job = channel.publish(make_work(), rate=3)
    alias = channel.alias()
    assert alias is not None
    assert channel.current is alias
    assert (alias.work, alias.rate, alias.channel, alias.clean) == (job.work, 3, 1, False)
    assert alias.seq > job.seq


def test_an_alias_is_later_than_what_it_repeats_by_the_time_that_passed() -> None:
    clock = Clock()
    channel = a_channel(clock)
    channel.publish(make_work(), rate=1)
    assert ntime_sent(channel) == NTIME
    sent = []
    for passed_s in (0.0, 0.0, 10.0, 0.5, 30.0):
        clock.now_s += passed_s
        channel.alias()
        sent.append(ntime_sent(channel) - NTIME)
    assert sent == [1, 2, 11, 12, 41]
    channel.publish(make_work(refresh=1), rate=1)
    assert ntime_sent(channel) == NTIME


def test_an_alias_is_never_later_than_its_work_may_be() -> None:
    clock = Clock()
    channel = a_channel(clock)
    channel.publish(make_work(), rate=1)
    for _ in range(3):
        clock.now_s += 1e6
        channel.alias()
        assert ntime_sent(channel) == make_work().ntime_max


def test_who_begins_is_told_the_current_job_in_one_line_for_all_of_them() -> None:
    clock = Clock()
    channel = a_channel(clock)

    def told() -> tuple[str, int, bool]:
        line = channel.notify_line(clean=True)
        assert channel.notify_line(clean=True) is line
        params = msgspec.json.decode(line)["params"]
        return params[0], int(params[7], 16), params[8]

    for change in (lambda: channel.publish(make_work(), rate=1), channel.alias, channel.anew, channel.alias):
        clock.now_s += 1.0
        job = change()
        assert job is not None
        assert told() == (job.job_id, ntime_sent(channel), True)


# How long jobs live


def is_known(miner: Miner, job: list[Any]) -> bool:
    return miner.mine(job=job)["error"] is None


def test_work_lives_until_sixteen_others_came() -> None:
    stage = SessionStage()
    miner = stage.mining()
    first = miner.job
    for refresh in range(1, WORKS_MAX):
        stage.publish(make_work(refresh=refresh))
        miner.hear()
    assert is_known(miner, first)
    stage.publish(make_work(refresh=WORKS_MAX))
    miner.hear()
    assert not is_known(miner, first)
    assert is_known(miner, miner.job)


def test_engine_and_channel_forget_jobs_together_however_many_aliases_there_are() -> None:
    """An upstream that gives no other work for hours: nothing but aliases."""
    stage = SessionStage()
    miner = stage.mining()
    jobs = [miner.job]
    for _ in range(JOBS_PER_CHANNEL_MAX + 20):
        stage.channel.alias()
        jobs.append([f"{stage.channel.current.seq:x}" if stage.channel.current else "", *miner.job[1:]])
    assert len(stage.channel.jobs) == JOBS_PER_CHANNEL_MAX
    live = [int(job[0], 16) >= stage.channel.oldest_live_seq for job in jobs]
    assert live.count(True) == JOBS_PER_CHANNEL_MAX
    for job, lives in list(zip(jobs, live, strict=True))[::13]:
        assert is_known(miner, job) == lives
    stage.publish(make_work(refresh=1))
    assert len(stage.channel.jobs) == JOBS_PER_CHANNEL_MAX


def test_templates_of_forgotten_work_are_let_go() -> None:
    channel = a_channel()
    for refresh in range(5 * WORKS_MAX):
        channel.publish(make_work(refresh=refresh), rate=1)
        channel.alias()
    assert len(channel.jobs) == 2 * WORKS_MAX
    assert len({id(job.work) for job in channel.jobs.values()}) == WORKS_MAX


# Solutions


def test_a_solution_finds_the_job_that_it_was_mined_on() -> None:
    stage = SessionStage(make_work(network_target=(1 << 256) - 1))
    miner = stage.mining()
    first = miner.job
    stage.channel.alias()
    stage.publish(make_work(2, network_target=(1 << 256) - 1))
    miner.ask("mining.submit", *miner.share(job=first))
    _, (found,), _ = stage.engine.validate()
    stage.channel.hand_over(found)
    (solution,) = stage.source.solutions
    assert (solution.job.job_id, solution.job.work.height) == (first[0], 1), "late, but a block is a block"
    assert (solution.worker, solution.extranonce1) == (1, miner.extranonce1)
    stage.channel.forget_work()
    stage.channel.hand_over(found)
    assert stage.source.solutions == [solution], "the job was dropped meanwhile"


# What sessions leave behind


def test_a_prefix_rests_until_no_job_that_carries_it_lives() -> None:
    stage = SessionStage(extranonce1_size=1)
    miners = [stage.mining(f"acme.c01.u{number}") for number in range(256)]
    miners[5].mine()
    miners[5].leave()
    for refresh in range(1, WORKS_MAX + 1):
        late = stage.connect()
        late.ask("mining.subscribe")
        assert late.session.closing == "extranonce space exhausted"
        late.leave()
        stage.publish(make_work(refresh=refresh))
    next_one = stage.mining("acme.c01.u300")
    assert next_one.extranonce1 == b"\x05"


def test_pins_of_another_session_are_not_inherited_with_its_prefix() -> None:
    stage = SessionStage(extranonce1_size=1)
    miners = [stage.mining(f"acme.c01.u{number}", "d=0.000001") for number in range(256)]
    miners[5].mine()
    miners[5].leave()
    for refresh in range(1, WORKS_MAX + 1):
        stage.publish(make_work(refresh=refresh))
    heir = stage.mining("acme.c01.u300")
    assert heir.extranonce1 == b"\x05"
    assert heir.difficulty == 2.0**-26
    assert len(stage.engine.pins(heir.session.slot)) == 1


def test_only_so_many_sessions_that_left_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extranonce_module, "PARKED_MAX", 10)
    stage = SessionStage()
    left = [stage.mining(f"acme.c01.u{number}", "d=0.000001") for number in range(30)]
    for miner in left:
        miner.mine()
        miner.leave()
    assert len(stage.channel.extranonces.parked) == 10
    for miner, difficulty in ((left[0], 2.0**-26), (left[29], 2.0**-20)):
        back = stage.connect(miner.worker)
        back.ask("mining.subscribe", "", miner.extranonce1.hex())
        back.ask("mining.authorize", miner.worker)
        assert (back.extranonce1 == miner.extranonce1) == (miner is left[29])
        assert back.difficulty == difficulty
