"""A process may stop by itself where its disk has failed it, whoever ran when that broke; no other may."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tests.simulation.faults import Faults
from tests.simulation.host import Host
from tests.simulation.process import Process


class HostOfOneFile(Host):
    """Its processes begin a file, each in its turn as `lives` says, and serve."""

    def __init__(self, directory: Path, *begins: Callable[["HostOfOneFile"], None]) -> None:
        upstream = SimpleNamespace(cut=lambda: None)
        world: Any = SimpleNamespace(seed=1, found=[], note=lambda *words: None, upstream=upstream)
        super().__init__(world, "host", directory)
        world.node, world.faults_done = self, []
        self.faults = Faults(world, ())
        self._begins = list(begins)

    @property
    def serves(self) -> bool:
        return not self._begins

    async def serve(self, process: Process) -> None:
        if self._begins:
            self._begins.pop(0)(self)
            await trio.sleep_forever()
        self.began()
        await trio.sleep_forever()


def sync_a_file(host: HostOfOneFile) -> None:
    descriptor = host.disk.create(host.data_dir / "a")
    try:
        host.disk.sync(descriptor)
    finally:
        host.disk.close(descriptor)


def write_a_file(host: HostOfOneFile) -> None:
    descriptor = host.disk.create(host.data_dir / "a")
    try:
        host.disk.write_all(descriptor, bytes(100))
    finally:
        host.disk.close(descriptor)


def be_killed(host: HostOfOneFile) -> None:
    host.kill()


def stop_by_itself(host: HostOfOneFile) -> None:
    raise ValueError("a bug")


def found_of(host: HostOfOneFile) -> list[str]:
    """What is found of it when one of its processes serves at last."""

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.run)
            await host.served()
            await host.stop()

    trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))
    return [it.words for it in host.world.found]


@pytest.mark.parametrize(
    ("breaks", "begin"), [(Faults.disk_fails_at_a_sync, sync_a_file), (Faults.disk_is_full, write_a_file)]
)
def test_a_disk_that_broke_under_one_process_may_end_the_next_one(
    tmp_path: Path, breaks: Callable[[Faults], object], begin: Callable[[HostOfOneFile], None]
) -> None:
    host = HostOfOneFile(tmp_path, be_killed, begin)
    breaks(host.faults)
    assert found_of(host) == []
    assert host.lives == 3, "it was started again"


def test_who_stops_by_itself_is_found_though_a_disk_is_broken_that_nobody_asked(tmp_path: Path) -> None:
    host = HostOfOneFile(tmp_path, stop_by_itself)
    host.faults.disk_fails_at_a_sync()
    assert found_of(host) == ["host: ValueError: a bug"]


def test_a_disk_that_failed_one_process_excuses_no_other(tmp_path: Path) -> None:
    host = HostOfOneFile(tmp_path, sync_a_file, stop_by_itself)
    host.faults.disk_fails_at_a_sync()
    assert found_of(host) == ["host: ValueError: a bug"]
