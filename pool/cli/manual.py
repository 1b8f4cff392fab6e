"""The manual page, in roff, and the shells' completions: both from the commands as `--help` has them.

Must not know: what a command does.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import typer
from typer._completion_shared import get_completion_script
from typer.core import TyperGroup

PROGRAM: Final = "angara"
COMPLETE_VARIABLE: Final = "_ANGARA_COMPLETE"
ZSH_WORDS: Final = ", where ~/.zshrc has `fpath+=~/.zfunc; autoload -Uz compinit; compinit`"
EXIT_CODES: Final = (
    ("0", "It is done."),
    ("1", "Somebody has to look at something: it is said what."),
    ("2", "A mistake, in words; nothing was done."),
)
FILES: Final = (
    ("./angara.toml", "The settings, where no others are named."),
    ("<data_dir>/admin.sock", "Where a running pool takes commands."),
)


class Shell(StrEnum):
    """Those that are completed."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Shell) -> str:
    """What the shell reads."""
    return get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell.value) + "\n"


def completion_file(shell: Shell) -> Path:
    """Where the shell of this account looks for it."""
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    match shell:
        case Shell.BASH:
            return data / "bash-completion/completions" / PROGRAM
        case Shell.ZSH:
            return Path.home() / ".zfunc" / f"_{PROGRAM}"
        case Shell.FISH:
            return config / "fish/completions" / f"{PROGRAM}.fish"


def manual(command: Any, version: str) -> str:
    """The page of section 1."""
    lines = [f'.TH ANGARA 1 "" "angara {version}" ""', ".SH NAME", f"{PROGRAM} \\- {_roff(command.help)}"]
    lines += [".SH SYNOPSIS", f".B {PROGRAM}", "COMMAND [OPTION]... [ARGUMENT]...", ".SH COMMANDS"]
    for path, it in _commands(command, (PROGRAM,)):
        lines += _section(path, it)
    for title, rows in (("FILES", FILES), ("EXIT STATUS", EXIT_CODES)):
        lines.append(f".SH {title}")
        for name, words in rows:
            lines += [".TP", f".B {_roff(name)}", _roff(words)]
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup):
        yield path, command
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            yield from _commands(found, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=" ".join(path))
    yield f'.SS "{_roff(" ".join([*path, *command.collect_usage_pieces(context)]))}"'
    for paragraph in (command.help or "").split("\n\n"):
        yield _roff(" ".join(paragraph.split()))
        yield ".PP"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            name, words = record
            yield from (".TP", f".B {_roff(name)}", _roff(" ".join(words.split())))


def _roff(text: str) -> str:
    """Text that is only text, whatever it begins with."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
