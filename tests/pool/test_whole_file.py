"""A file that a command writes is complete or not there, and nothing that is no file becomes one."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pool.whole_file import whole_file, write_whole


def test_a_file_is_written_over_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "batch.psbt"
    file.write_bytes(b"of before")
    write_whole(file, b"whole")
    assert file.read_bytes() == b"whole"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["batch.psbt"]


@pytest.mark.parametrize("what", ["pipe", "directory", "link to a file", "link to nothing"])
def test_what_is_no_file_stays_what_it_is(tmp_path: Path, what: str) -> None:
    """`--out /dev/stdout`, which is a link, as root: the host would not have one any more."""
    (tmp_path / "victim").write_bytes(b"of before")
    path = tmp_path / "out"
    match what:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link to a file":
            path.symlink_to("victim")
        case _:
            path.symlink_to("nowhere")
    before = path.lstat()
    with pytest.raises(OSError, match="written over is a file"):
        write_whole(path, b"whole")
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "victim").read_bytes() == b"of before"
    assert sorted(os.listdir(tmp_path)) == ["out", "victim"]


def test_what_cannot_be_written_is_told_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    """It was that of the draft, and none where the disk is full."""
    nowhere = tmp_path / "nowhere" / "acme.pdf"
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(nowhere, b"whole")
    assert caught.value.filename == str(nowhere)
    full = tmp_path / "acme.pdf"
    with pytest.raises(OSError, match="No space left") as caught_full, whole_file(full):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught_full.value.filename == str(full)
    assert os.listdir(tmp_path) == []


def test_what_is_wrong_with_another_file_has_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "copy"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")
