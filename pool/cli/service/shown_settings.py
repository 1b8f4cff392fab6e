"""What `angara config show` tells: every setting with its value, and whether the file says it.

Must not know: what a setting is for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.engine import make_url

from pool.config import load_config, tables_in
from pool.settings_file import read_settings
from pool.settings_tables import Setting, all_settings

Row = dict[str, Any]


def shown_settings(path: Path) -> list[Row]:
    """A row each, in the order of the file; settings of a node for each node. Raises BadConfig."""
    load_config(path)  # what is told would be taken
    said, values = read_settings(path), msgspec.to_builtins(tables_in(path))
    rows: list[Row] = []
    settings = all_settings()
    nodes = [it for it in settings if it.name.startswith("node.")]
    for setting in settings:
        if setting not in nodes:
            rows.append(_row(setting, setting.name, setting.name.split("."), said, values))
        elif setting is nodes[0]:
            for at in range(len(values["node"])):
                rows += _of_node(nodes, at, said["node"][at], values["node"][at])
    return rows


def _of_node(nodes: list[Setting], at: int, said: Row, values: Row) -> Iterator[Row]:
    for setting in nodes:
        _, _, name = setting.name.partition(".")
        yield _row(setting, f"node[{at}].{name}", [name], said, values)


def _row(setting: Setting, name: str, path: list[str], said: Row, values: Row) -> Row:
    value: Any = values
    for part in path:
        value = None if value is None else value[part]
        said = said.get(part, {}) if isinstance(said, dict) else {}
    in_file = said != {}
    if setting.secret:
        value = "set" if value is not None else "not set"
    elif setting.url and value is not None:
        value = make_url(value).render_as_string(hide_password=True)
    return {
        "setting": name,
        "value": value,
        "unit": setting.unit or None,
        "from": "file" if in_file else "default",
    }
