"""What is installed is what was looked at: each dependency is in the lock, and each file of it has a hash."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RUN, WORK = [*PROJECT["dependencies"], *EXTRAS["node"], *EXTRAS["openadr"]], EXTRAS["dev"]
LOCKS = {"requirements.lock": RUN, "requirements-dev.lock": [*RUN, *WORK]}


def locked(name: str) -> list[tuple[Requirement, int]]:
    """The releases of a lock, and how many files each may be installed from."""
    text = re.sub(r"#.*", "", (ROOT / name).read_text()).replace("\\\n", " ")
    lines = [line.split("--hash=sha256:") for line in text.splitlines() if line.strip()]
    return [(Requirement(line[0]), len(line) - 1) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_every_release_has_one_version_and_its_hashes(name: str) -> None:
    for requirement, hashes in locked(name):
        assert [it.operator for it in requirement.specifier] == ["=="], requirement
        assert hashes, requirement


@pytest.mark.parametrize("name", LOCKS)
def test_whatever_the_project_asks_for_is_locked(name: str) -> None:
    """`make lock` renews it."""
    releases: dict[str, set[str]] = {}
    for requirement, _ in locked(name):
        (version,) = (it.version for it in requirement.specifier)
        releases.setdefault(canonicalize_name(requirement.name), set()).add(version)
    for wanted in map(Requirement, LOCKS[name]):
        if canonicalize_name(wanted.name) == PROJECT["name"]:
            continue
        found = releases.get(canonicalize_name(wanted.name), set())
        assert found, f"{wanted} is not in {name}"
        assert all(wanted.specifier.contains(it, prereleases=True) for it in found), (wanted, found)


def test_what_releases_ask_for_with_an_extra_is_locked_with_it() -> None:
    """Else pip looks beyond the lock, and refuses what it finds from the day of the next release on."""
    extras = {canonicalize_name(it.name): it.extras for it, _ in locked("requirements-dev.lock")}
    asked = []
    for name in extras:
        try:
            told = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:  # of another system, or another Python
            continue
        asked += [
            it for it in map(Requirement, told) if it.extras and (it.marker is None or it.marker.evaluate())
        ]
    assert [str(it) for it in asked if it.name == "coverage"]  # pytest-cov's
    assert not [str(it) for it in asked if not it.extras <= extras[canonicalize_name(it.name)]]


def test_what_is_worked_with_is_what_a_pool_runs_on() -> None:
    run, work = ({str(it): n for it, n in locked(name)} for name in LOCKS)
    assert run.items() <= work.items()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place_to_install_from(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()
    assert "--index" not in (ROOT / name).read_text()
    assert "--find-links" not in (ROOT / name).read_text()


def test_what_the_page_takes_from_others_is_locked_likewise() -> None:
    """By one hash each, from no place; npm refuses a lock that is not of package.json."""
    own, *others = json.loads((ROOT / "package-lock.json").read_text())["packages"].values()
    asked = json.loads((ROOT / "package.json").read_text())
    assert [own[it] for it in ("dependencies", "devDependencies")] == [
        asked[it] for it in ("dependencies", "devDependencies")
    ]
    assert others
    assert all(it["integrity"].startswith("sha512-") and "resolved" not in it for it in others)


def test_a_python_that_no_library_is_built_for_is_refused_in_words(tmp_path: Path) -> None:
    """And not by pip, which says that it finds no matching distribution of one of them."""
    newer = tmp_path / "newer"
    newer.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo Python 3.14.8; exit; fi\n'
        f"""exec {sys.executable} -c 'import sys; sys.version_info = (3, 14); exec(sys.argv[2])' "$@"\n"""
    )
    newer.chmod(0o700)
    command = ["make", f"PYTHON={newer}", f"VENV={tmp_path}/venv", "install"]
    alone = {name: it for name, it in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert made.stderr.startswith("Angara runs on Python 3.11, 3.12 and 3.13, and this is Python 3.14.8 (")
    assert not (tmp_path / "venv").exists()


def test_make_takes_the_pythons_that_the_package_names() -> None:
    wanted = SpecifierSet(PROJECT["requires-python"])
    named = re.search(
        r"\((\d+), (\d+)\) <= sys.version_info\[:2\] <= \((\d+), (\d+)\)", (ROOT / "Makefile").read_text()
    )
    assert named is not None
    first, last = int(named[2]), int(named[4])
    assert [it for it in range(30) if f"3.{it}.0" in wanted] == list(range(first, last + 1))
