"""What passes on a channel of Stratum V2, for a person who looks at it."""

from random import Random

import trio

from stratum.miners.switchboard import Switchboard
from tests.stages.sv2_pool import playing


def lines_of(board: Switchboard, trace: int) -> list[tuple[str, str, str]]:
    """Of each what way it went, the name of the message, and what it means."""
    view = board.traces.view(trace, 0, trio.current_time())
    assert view is not None
    return [(it.way, it.text.partition(" ")[0], it.words) for it in view.lines]


async def test_a_machine_that_is_here_is_traced_with_words() -> None:
    async with playing() as pool:
        board, machine = pool.server.board, await pool.machine()
        channel = await machine.open()
        (connection,) = board.connections
        (worker,) = connection.workers
        trace = board.traces.start(worker, None, board.connections, seconds=60, now_s=trio.current_time())
        await machine.mine(channel)
        share, _ = channel.share(job={**(channel.job or {}), "job": 77})
        await machine.submit(channel, share)
        await machine.until("SubmitShares.Error")
        assert lines_of(board, trace)[1:] == [
            ("in", "SubmitSharesStandard", f"share 1, of job {(channel.job or {})['job']:x}"),
            ("out", "SubmitShares.Success", "accepts 1, up to share 1"),
            ("in", "SubmitSharesStandard", "share 2, of job 4d"),
            ("out", "SubmitShares.Error", "refuses share 2: invalid-job-id"),
        ]


async def test_a_machine_that_comes_again_is_traced_from_its_first_job_on_and_no_other() -> None:
    async with playing() as pool:
        board, machine, other = pool.server.board, await pool.machine(), await pool.machine(random=Random(2))
        await machine.open()
        (connection,) = board.connections
        (worker,) = connection.workers
        trace = board.traces.start(worker, None, board.connections, seconds=60, now_s=trio.current_time())
        await other.open("acme.c01.u2")
        again = await other.open(least=4)
        await other.mine(again)
        names = [name for _, name, words in lines_of(board, trace) if words]
        assert names[:3] == ["OpenExtendedMiningChannel.Success", "NewExtendedMiningJob", "SetNewPrevHash"]
        assert names[3:] == ["SubmitSharesExtended", "SubmitShares.Success"]
