"""What the documents say is so: commands can be typed, settings load, words and links lead somewhere."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from pool.cli.main import app
from pool.config import load_config
from pool.messages.kinds import KINDS
from pool.settings_tables import all_settings
from tests.configuration_document import DOCUMENT as CONFIGURATION
from tests.configuration_document import document
from tests.state_diagrams import DOCUMENT, DRAWN, MACHINES, drawn

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(r"^ {4}(?:\.venv/bin/|/opt/angara/bin/|runuser -u angara -- )?angara (.*)$")
FENCED = re.compile(r"^```sh[\w ]*\n(.*?)^```$", re.M | re.S)
INLINE = re.compile(r"`(?:\.venv/bin/)?angara ([a-z][a-z -]*?)(?=[`A-Z/]| -| \[)")
SPAN = re.compile(r"`angara ([a-z](?!\S* \.\.\.)[^`]*)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def typed(path: Path) -> list[str]:
    """The command lines in a document's code, each whole and without its comment."""
    text = path.read_text().replace("\\\n", " ")
    fenced = "".join(FENCED.findall(text))
    found = [COMMAND.match(line) for line in text.splitlines()]
    found += [COMMAND.match(f"    {line}") for line in fenced.splitlines()]
    return [match.group(1).split("  #")[0].strip() for match in found if match]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that is meant, and what follows it."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "list_commands") and not words[0].startswith("-"):
        found = command.get_command(typer.Context(command), words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    return command, words


def test_there_are_commands_to_check() -> None:
    assert sum(len(typed(path)) for path in DOCUMENTS) > 20


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_can_be_typed(path: Path) -> None:
    for line in typed(path):
        command, words = command_of(shlex.split(line))
        command.make_parser(typer.Context(command)).parse_args(
            words
        )  # raises for an option that there is not
    for line in INLINE.findall(path.read_text()):
        command_of(line.split()[:2])
    for line in SPAN.findall(path.read_text()):
        command, words = command_of(line.split())
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert not {it for it in words if it.startswith("--")} - known, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text()) if "://" not in link]
    assert not [link for link in links if not (path.parent / link).exists()]


def test_every_message_is_told_of_with_when_and_what_to_do() -> None:
    text = (ROOT / "docs" / "messages.md").read_text()
    told, to_do = (
        text.split(f"\n## {title}\n")[1].split("\n## ")[0] for title in ("What is told", "What to do")
    )
    kinds = re.compile(r"`([a-z]+(?:-[a-z]+)*)`(?=[,|. ])")
    rows = [line.split(" | ")[0] for line in told.splitlines() if line.startswith("| `")]
    assert sorted(kinds.findall(" ".join(f"{row} |" for row in rows))) == sorted(KINDS)
    assert not [kind for kind in KINDS if f"`{kind}`" not in to_do]


def test_every_file_that_is_named_is_there() -> None:
    named = re.compile(r"`((?:stratum|pool|payouts|tests|bench|docs)/[\w/]+\.(?:py|md|hpp|cpp))`")
    missing = [
        (path.name, file)
        for path in DOCUMENTS
        for file in named.findall(path.read_text())
        if not (ROOT / file).exists()
    ]
    assert not missing


def test_the_glossary_is_in_order_and_every_word_is_used_where_it_is_at_home() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| `([^`]+)` \|$", (ROOT / "docs/glossary.md").read_text(), re.M)
    words = [word for word, _ in rows]
    assert len(words) > 30
    assert words == sorted(words)
    assert not [(word, file) for word, file in rows if word not in (ROOT / file).read_text().lower()]


def test_the_example_in_the_readme_is_the_one_in_examples_and_loads(tmp_path: Path) -> None:
    example = (ROOT / "examples" / "angara.toml").read_text()
    assert f"```toml\n{example}```" in (ROOT / "README.md").read_text()
    (tmp_path / "cookie").write_text("user:password")
    text = (
        example.replace('"bc1q..."', f'"{ADDRESS}"')
        .replace('"main"', '"regtest"')
        .replace("/var/lib/angara", str(tmp_path))
        .replace("/var/lib/bitcoind/.cookie", str(tmp_path / "cookie"))
    )
    settings = tmp_path / "angara.toml"
    settings.write_text(text)
    assert load_config(settings).network == "regtest"
    defaults = re.compile(r"^# (\w+ = [^.]*?)(?:  +#.*)?$", re.M)
    assert len(defaults.findall(text)) > 5


def test_the_settings_are_those_of_the_code() -> None:
    assert CONFIGURATION.read_text(encoding="utf-8") == document(), "`make configuration` writes it anew"
    assert "| `dry_run` | `true` |" in document(), "a default is what the file would have"
    without = [it.name for it in all_settings() if not it.meaning]
    assert not without


def test_the_diagrams_of_states_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for _, name, _ in DRAWN.findall(text)] == list(MACHINES)
    assert drawn(text) == text, "`make diagrams` draws them anew"
