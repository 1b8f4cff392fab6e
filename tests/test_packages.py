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
from tests.test_documents import ADDRESS, command_of

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "systemd" / "angara.service"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
PRODUCTION = ROOT / "docker" / "production"
COMPOSE = [ROOT / "docker" / "compose.yaml", PRODUCTION / "compose.yaml"]
EXPOSURE_MAX = 2.0


def unit() -> dict[str, dict[str, list[str]]]:
    """The unit's sections; a key may stand in one several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def can_be_typed(words: list[str]) -> None:
    command, rest = command_of(words)
    command.make_parser(typer.Context(command)).parse_args(rest)


def settings(tmp_path: Path) -> PoolConfig:
    """Those of the production compose file, with an address, and secrets that are there."""
    text = (PRODUCTION / "angara.toml").read_text()
    text = text.replace('"main"', '"regtest"').replace("bc1q...", ADDRESS)
    for secret in ("postgres", "bitcoind"):
        (tmp_path / secret).write_text(f"{secret}'s")
    path = tmp_path / "angara.toml"
    path.write_text(text.replace("/run/secrets/", f"{tmp_path}/"))
    return load_config(path)


def test_the_unit_runs_a_command_in_the_account_that_there_is() -> None:
    service = unit()["Service"]
    (line,) = service["ExecStart"]
    program, *words = shlex.split(line)
    assert program == "/opt/angara/bin/angara"
    can_be_typed(words)
    accounts = (UNIT.parent / "sysusers.conf").read_text().splitlines()
    account = next(it for it in accounts if it.startswith("u "))
    assert account.split()[1] == service["User"][0] == service["Group"][0]
    assert f"/var/lib/{service['StateDirectory'][0]}" == shlex.split(account)[4]


def test_the_unit_and_the_image_have_a_descriptor_for_every_machine(tmp_path: Path) -> None:
    wanted = settings(tmp_path).connection_bounds.sessions_max + DESCRIPTORS_KEPT
    assert int(unit()["Service"]["LimitNOFILE"][0]) >= wanted
    compose = yaml.safe_load((PRODUCTION / "compose.yaml").read_text())
    assert compose["services"]["angara"]["ulimits"]["nofile"] >= wanted


def test_a_pool_that_ended_begins_again_whatever_it_ended_with() -> None:
    """A full disk ends it, and a database that is away at the start: both with the code of a mistake."""
    assert unit()["Service"]["Restart"] == ["always"]
    assert unit()["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert "RestartPreventExitStatus" not in unit()["Service"]


def test_who_asks_at_the_socket_is_known_by_his_account() -> None:
    """In a user namespace of its own the pool would see everybody as nobody."""
    assert "PrivateUsers" not in unit()["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_unit_is_hardened() -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    found = re.search(r"Overall exposure level for angara.service: ([\d.]+)", ran.stdout)
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
    services = yaml.safe_load((PRODUCTION / "compose.yaml").read_text())["services"]
    pool = services["angara"]
    (node,) = config.nodes
    assert re.match(r"http://(\w+):", node.url)[1] in services  # type: ignore[index]
    assert node.password == "bitcoind's"
    assert "@postgres/" in config.database_url
    assert services["postgres"]["environment"]["POSTGRES_USER"] == "angara"
    published = {port.rpartition(":")[2] for port in pool["ports"] if not port.startswith("127.")}
    assert published == {str(endpoint.port) for endpoint in config.endpoints}
    shared = set(pool["networks"])
    assert shared & set(services["bitcoind"]["networks"])
    assert shared & set(services["postgres"]["networks"])
    assert config.web is not None
    told = f"http://127.0.0.1:{config.web.port}/healthz"
    assert told in pool["healthcheck"]["test"][-1]
    (job,) = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{config.web.port}"]}]
    assert services["prometheus"]["network_mode"] == "service:angara"
    assert str(config.data_dir) in {volume.split(":")[1] for volume in pool["volumes"]}
