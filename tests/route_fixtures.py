"""A data directory with one tenant. Load with `pytest_plugins = ("tests.route_fixtures",)`."""

import shutil
from pathlib import Path

import pytest

from pool.admin import commands
from pool.admin.client import ask
from pool.data_dir import database_url
from tests.route_desk import PASSWORD


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tenant acme that has a container c01."""
    home = tmp_path_factory.mktemp("database")
    url = database_url(home)
    ask(home, url, "regtest", "tenant.add", commands.TenantAdd("acme", "ann"))
    ask(home, url, "regtest", "container.set", commands.ContainerSet("acme", "c01"))
    return home / "angara.db"


@pytest.fixture
def data_dir(tmp_path: Path, database: Path) -> Path:
    """Of a pool that is not running, with a password in a file."""
    shutil.copy(database, tmp_path)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return tmp_path
