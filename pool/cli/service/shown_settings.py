"""What `angara config show` tells: every setting with its value, and whether the file says it.

Must not know: what a setting is for.
"""

from pathlib import Path
from typing import Any

from pool.config import load_settings
from pool.settings_file import read_settings
from pool.settings_tables import SettingValue, values_of

Row = dict[str, Any]


def shown_settings(path: Path) -> list[Row]:
    """A row each, in the order of the file; settings of a node for each node. Raises BadConfig."""
    file, said = load_settings(path).file, read_settings(path)
    return [_row(it, said) for it in values_of(file)]


def _row(it: SettingValue, said: Any) -> Row:
    for part in it.name.replace("[", ".").replace("]", "").split("."):
        if isinstance(said, list):
            said = said[int(part)]
        else:
            said = said.get(part, {}) if isinstance(said, dict) else {}
    return {
        "setting": it.name,
        "value": it.shown,
        "unit": it.setting.unit or None,
        "from": "file" if said != {} else "default",
    }
