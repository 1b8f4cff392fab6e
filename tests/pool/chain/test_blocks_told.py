"""A found block is told to other sites when our own nodes are being given it, and not before: that takes
milliseconds, in which somebody else's block may be first."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from pool.chain.blocks import BlockSubmitter, assemble_block
from tests.histories.solving import a_solution, template_of


class NodeThatNeverAnswers:
    name = "node"

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self.asked = trio.Event()

    async def submit_block(
        self, digits: Sequence[bytes], *, ends_after: trio.Event | None = None
    ) -> str | None:
        self._events.append("given")
        self.asked.set()
        await trio.sleep_forever()
        return None

    async def precious_block(self, hash_hex: str) -> None:
        raise AssertionError("it has not taken it")


@pytest.mark.parametrize("stopped", [False, True])
async def test_our_nodes_have_it_first_and_a_stop_in_between_keeps_it_from_nobody(
    tmp_path: Path, stopped: bool
) -> None:
    events: list[str] = []
    told = trio.Event()
    solution = a_solution()

    def tell(block: bytes) -> None:
        assert block == assemble_block(solution, template_of(solution)).whole
        events.append("told")
        told.set()

    node = NodeThatNeverAnswers(events)
    submitter = BlockSubmitter([node], tmp_path, tip_height=lambda: 100, tell=tell)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(submitter.submit, solution)
        await (node.asked if stopped else told).wait()
        nursery.cancel_scope.cancel()
    assert events == ["given", "told"]
