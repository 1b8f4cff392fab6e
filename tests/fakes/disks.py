"""Disks that tear, lie and lose, as disks do when the power goes: what was not synced may be there or not, in
pieces, in no order."""

import errno
import os
import random
from pathlib import Path

from pool.journal.disk import Disk

PAGE = 512  # what a disk writes as a whole


class DiskThatLoses(Disk):
    """Real files, of which it knows what was synced: `power_cut` leaves no more than a real disk has to.

    `writes` limits how many bytes each of the next calls takes, or is the error that it raises; `syncs` has
    errors of the next syncs, after which what was written is never on disk, whatever later syncs say.
    """

    def __init__(self) -> None:
        self.writes: list[int | OSError] = []
        self.syncs: list[OSError | None] = []
        self.calls = 0
        self._paths: dict[int, Path] = {}
        self._on_disk: dict[Path, bytes] = {}  # what was synced
        self._named: set[Path] = set()
        self._lost: set[Path] = set()  # whose sync failed: the kernel believes that it is clean

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._paths[descriptor] = path
        self._on_disk[path] = b""
        self._lost.discard(path)
        return descriptor

    def reopen(self, path: Path, size: int) -> int:
        descriptor = super().reopen(path, size)
        self._paths[descriptor] = path
        self._on_disk[path] = self._on_disk.get(path, b"")[:size]
        self._named.add(path)
        self._lost.discard(path)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self.calls += 1
        fault = self.writes.pop(0) if self.writes else len(data)
        if isinstance(fault, OSError):
            raise fault
        return super().write(descriptor, data[:fault])

    def sync(self, descriptor: int) -> None:
        self.calls += 1
        path = self._paths[descriptor]
        fault = self.syncs.pop(0) if self.syncs else None
        if fault is not None:
            self._lost.add(path)
            raise fault
        if path not in self._lost:
            self._on_disk[path] = path.read_bytes()

    def sync_directory(self, path: Path) -> None:
        self._named |= {it for it in self._on_disk if it.parent == path}

    def replace(self, path: Path, by: Path) -> None:
        super().replace(path, by)
        self._on_disk[path] = self._on_disk.pop(by)
        self._lost.discard(path)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        self._paths.pop(descriptor)

    def power_cut(self, rng: random.Random) -> None:
        """The files as they may be found afterwards."""
        for path, synced in self._on_disk.items():
            if not path.exists():
                continue
            if path not in self._named and rng.random() < 0.5:
                path.unlink()
                continue
            written = path.read_bytes()
            path.write_bytes(synced + _torn(written[len(synced) :], len(synced), rng))
        self._on_disk, self._named, self._lost = {}, set(), set()


class DiskWithoutDescriptors(Disk):
    """While it is crowded others have them all, but for what is closed here."""

    def __init__(self) -> None:
        self.is_crowded, self._closed = False, 0

    def create(self, path: Path) -> int:
        self._take()
        return super().create(path)

    def sync_directory(self, path: Path) -> None:
        self._take()
        super().sync_directory(path)
        self._closed += self.is_crowded

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        self._closed += self.is_crowded

    def _take(self) -> None:
        if self.is_crowded:
            if not self._closed:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            self._closed -= 1


def _torn(unsynced: bytes, at: int, rng: random.Random) -> bytes:
    """Some of its sectors, and nothing or nothing but zeros where the others were to be."""
    kept = bytearray(unsynced[: rng.randrange(len(unsynced) + 1)])
    for start in range(-(at % PAGE), len(kept), PAGE):
        if rng.random() < 0.5:
            first, last = max(start, 0), min(start + PAGE, len(kept))
            kept[first:last] = bytes(last - first)
    return bytes(kept)


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))
