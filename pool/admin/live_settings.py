"""What a running pool takes up of its settings file without a restart, and what of it has to wait for one.

Which those are, `pool.settings_tables.LIVE` says.

Invariants: all or nothing. A file that is wrong in anything changes nothing; what it says instead is read,
checked and made ready in a worker thread, written down, and then takes effect in one step of the pool's own
thread, in which nothing waits and nothing fails. One at a time. No secret is in what is told.
Must not know: what a setting is for, and who asked.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from pool.config import LoadedSettings, PoolConfig, load_settings
from pool.settings_tables import SettingValue, values_of

ANOTHER = "set, another one"  # what became of a secret


class SettingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that the file says otherwise, in words."""

    setting: str
    was: str
    became: str


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from what the pool runs with; `apply` takes what can be taken, in the pool's thread."""

    applied: tuple[SettingChange, ...]
    after_restart: tuple[SettingChange, ...]
    apply: Callable[[], None]


class LiveSettings:
    """Of one pool. `prepare` makes ready what settings take to be in force, in a worker thread, and gives
    what puts it in force; raises BadConfig where it cannot be."""

    def __init__(self, loaded: LoadedSettings, prepare: Callable[[PoolConfig], Callable[[], None]]) -> None:
        self._path = loaded.path
        self._prepare = prepare
        self._running = {it.name: it for it in values_of(loaded.file)}
        self._config = loaded.config
        self._one_at_a_time = threading.Lock()

    @contextmanager
    def reload(self) -> Iterator[Reload]:
        """In a worker thread. Raises BadConfig."""
        with self._one_at_a_time:
            new = load_settings(self._path)
            found = {it.name: it for it in values_of(new.file)}
            names = [*found, *(name for name in self._running if name not in found)]
            differ = [name for name in names if self._differs(name, found)]
            differ += self._behind_files(new.config, differ)
            live = [name for name in differ if self._is_live(name, found, new.config)]
            put_in_force = self._prepare(new.config)

            def apply() -> None:
                put_in_force()
                self._running |= {name: found[name] for name in live}
                self._config = msgspec.structs.replace(self._config, messages=new.config.messages)

            yield Reload(
                applied=tuple(self._change(name, found) for name in live),
                after_restart=tuple(self._change(name, found) for name in differ if name not in live),
                apply=apply,
            )

    def _differs(self, name: str, found: dict[str, SettingValue]) -> bool:
        values = [None if it is None else it.value for it in (self._running.get(name), found.get(name))]
        return values[0] != values[1]

    def _behind_files(self, new: PoolConfig, differ: list[str]) -> list[str]:
        """What differs in files that the settings name, where the settings themselves do not."""
        here = self._config
        found = {f"node[{at}].": it for at, it in enumerate(zip(here.nodes, new.nodes, strict=False))}
        files = {f"{table}password_file": was != is_now for table, (was, is_now) in found.items()}
        if "pool.data_dir" not in differ:
            files["database.password_file"] = here.database_url != new.database_url
        tables = {name.rpartition(".")[0] for name in differ}
        names = [name for name, other in files.items() if other and name.rpartition(".")[0] not in tables]
        if here.messages is not None and new.messages is not None and "messages.to" not in differ:
            others = here.messages.receivers != new.messages.receivers
            names += ["messages.to_file"] if others and "messages.to_file" not in differ else []
        return names

    def _is_live(self, name: str, found: dict[str, SettingValue], new: PoolConfig) -> bool:
        if name not in found or not found[name].setting.live:
            return False
        # Somebody is told now, or nobody was: that is a part of the pool which comes or goes.
        comes_or_goes = (self._config.messages is None) != (new.messages is None)
        return not (comes_or_goes and name.startswith("messages."))

    def _change(self, name: str, found: dict[str, SettingValue]) -> SettingChange:
        was, became = (None if it is None else it.shown for it in (self._running.get(name), found.get(name)))
        words = [_words(it) for it in (was, became)]
        if words[0] == words[1]:
            words[1] = ANOTHER
        return SettingChange(setting=name, was=words[0], became=words[1])


def _words(value: object) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
