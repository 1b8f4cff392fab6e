"""`angara` on the data directory of a pool, as an operator of upstreams and orders uses it.

The fixtures that make one are in `tests/conftest.py`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from typer.testing import CliRunner

from pool.admin.client import ask
from pool.admin.commands import execute_alone
from pool.admin.routing.upstreams import UpstreamAdd
from pool.cli.main import app
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.histories.orders import BUYER

PASSWORD = "hunter2-s3cret"


class Outcome(NamedTuple):
    exit_code: int
    output: str


def angara(data_dir: Path, *arguments: object) -> Outcome:
    """What the command prints on both streams; never a password."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--data-dir", str(data_dir)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert PASSWORD not in result.output
    return Outcome(result.exit_code, result.output)


def ask_books(
    data_dir: Path, url: str, network: str | None, name: str, params: msgspec.Struct, by: str
) -> Any:
    """An operator's command, to the pool that runs on the directory, or on the database without one."""

    def without_pool(command: str, body: bytes) -> Any:
        return execute_alone(url, network, command, body, by)

    return ask(data_dir, without_pool, name, msgspec.to_builtins(params))


def add_upstream(data_dir: Path, name: str = "north", *arguments: object) -> Outcome:
    where = (
        "--endpoint",
        "stratum+tcp://a.pool.example:3333",
        "--endpoint",
        "stratum+ssl://Worker2@B.example:443",
    )
    account = ("--user", "acme.farm7", "--password-file", data_dir / "password")
    return angara(data_dir, "upstream", "add", name, *where, *account, *arguments)


def add_order(data_dir: Path, name: str = "blue", *arguments: object) -> Outcome:
    sold = ("--buyer", BUYER, "--upstream", "north", "--ph", "50.25", "--price-sat-per-ph-day", 4_500)
    times = ("--from", "2090-01-01T00:00", "--until", "2090-01-03T02:00+02:00")
    return angara(data_dir, "order", "add", name, *sold, *times, *(arguments or ("--from-tenant", "acme")))


def new_upstream(name: str = "north", **change: Any) -> UpstreamAdd:
    hosts = tuple(
        UpstreamEndpoint(host=host, port=3333, user="acme", password=PASSWORD)
        for host in ("a.example", "b.example")
    )
    return UpstreamAdd(**({"name": name, "endpoints": hosts} | change))
