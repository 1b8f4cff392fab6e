"""Who asks a running pool, and is not answered, is told why in words."""

import socket
from pathlib import Path

import pytest

from pool.admin import client
from pool.data_dir import admin_socket, held


class SocketOfAnothersPool(socket.socket):
    """As a pool's socket is to who may not connect to it: 0600, of the pool's account."""

    def connect(self, _: object) -> None:
        raise PermissionError(13, "Permission denied")


def ask(data_dir: Path) -> None:
    client.ask(data_dir, lambda name, body: None, "tenant.list", {})


def test_whoever_may_not_connect_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admin_socket(tmp_path).touch()
    monkeypatch.setattr(socket, "socket", SocketOfAnothersPool)
    with held(tmp_path), pytest.raises(client.NoAnswer, match="root may, the account that runs the pool"):
        ask(tmp_path)


def test_a_pool_that_has_gone_is_told_without_a_number(tmp_path: Path) -> None:
    admin_socket(tmp_path).touch()
    with held(tmp_path), pytest.raises(client.NoAnswer) as refused:
        ask(tmp_path)
    assert str(refused.value).endswith("admin.sock: Connection refused")
