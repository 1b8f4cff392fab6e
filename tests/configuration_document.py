"""Writes docs/configuration.md from the settings' tables: `make configuration` does it."""

from pathlib import Path
from typing import Any

from msgspec import inspect

from pool.settings_tables import REQUIRED, File, Setting, all_settings, bare

DOCUMENT = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """# Configuration

Written by `make configuration` from the types that the settings are read into (`pool/settings_tables.py`,
`pool/treasury/settings.py`): what stands here is what is checked. An example is in
[examples/angara.toml](../examples/angara.toml).

    angara check                     # the settings, the addresses, the book and every node: what is wrong
    angara config show               # every setting with its value, and whether the file says it
    angara reload                    # the running pool takes up what is changed, as far as it can

One TOML file, `./angara.toml` where no other is named with `-c`. Relative paths in it are relative to it. A
setting that there is not, or that is out of its range, is refused with the whole range. Secrets may have
files of their own, and are never shown.

What is *live* a running pool takes up with `angara reload`, or SIGHUP: all of it or, where the file is wrong
in anything, nothing. It says which other settings differ and take a restart. Who did it and what changed is
in `angara change list`. The same for the files that settings name: passwords and `to_file`. Certificates need
none of it: they are taken up when they are renewed. Whether there is `[messages]` at all takes a restart;
what waits to be sent to who is told no more is sent to nobody.
"""


def document() -> str:
    """All of it."""
    parts = [HEAD]
    section = ""
    for setting in all_settings():
        table = setting.name.rpartition(".")[0]
        if table != section:
            section = table
            title = "[[node]]" if table == "node" else f"[{table}]"
            parts.append(
                f"\n## {title}\n\n{_words_of(table)}\n\n| setting | default | range | live | meaning |\n"
            )
            parts.append("| --- | --- | --- | --- | --- |\n")
        parts.append(_line(setting))
    return "".join(parts)


def _words_of(table: str) -> str:
    kind: Any = inspect.type_info(File)
    for part in table.split("."):
        kind = bare(next(it.type for it in kind.fields if it.encode_name == part))
        kind = bare(kind.item_type) if isinstance(kind, inspect.ListType) else kind
    return " ".join((kind.cls.__doc__ or "").split("\n\n")[0].split())


def _line(it: Setting) -> str:
    name = it.name.rpartition(".")[2]
    return f"| `{name}` | {_default(it)} | {_range(it)} | {'yes' if it.live else ''} | {it.meaning} |\n"


def _default(it: Setting) -> str:
    if it.default is REQUIRED:
        return "must be said"
    if it.default is None or it.default == []:
        return "none"
    if isinstance(it.default, bool):
        return f"`{str(it.default).lower()}`"  # as TOML has it
    if isinstance(it.default, list):
        return ", ".join(f"`{each}`" for each in it.default)
    return (
        f"{_number(it.default)} {it.unit}".strip()
        if isinstance(it.default, int | float)
        else f"`{it.default}`"
    )


def _range(it: Setting) -> str:
    if it.least is None or it.most is None:
        return ""
    return f"{_number(it.least)} to {_number(it.most)} {it.unit}".strip()


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
