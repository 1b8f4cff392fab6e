"""The operator's command that has a running pool take up its settings file anew.

Must not know: sockets, terminals, what a setting is for.
"""

from typing import Final

import msgspec
import structlog

from pool.admin.command import Change, Commands, no_state
from pool.admin.desk import OperatorDesk, running
from pool.admin.live_settings import SettingChange
from pool.fleet.rows import RegistryError
from pool.people.roles import Role
from pool.settings_file import BadConfig

log = structlog.get_logger()


class SettingsReload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SettingsReloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force from now on, and what the file says otherwise that takes a restart."""

    applied: tuple[SettingChange, ...]
    after_restart: tuple[SettingChange, ...]


def settings_reload(desk: OperatorDesk, it: SettingsReload) -> SettingsReloaded:
    """All of the file that can be taken without a restart, or nothing of it: on record before it is."""
    live = running(desk)
    try:
        with live.reloading() as reload:
            was = {change.setting: change.was for change in reload.applied}
            desk.note(was, {change.setting: change.became for change in reload.applied})
            live.apply(reload)
            told = SettingsReloaded(applied=reload.applied, after_restart=reload.after_restart)
    except BadConfig as error:
        raise RegistryError(f"nothing is changed: {error}") from None
    log.info("settings_reloaded", **{name: _names(getattr(told, name)) for name in told.__struct_fields__})
    return told


def the_settings(it: object) -> str:
    """What it is about."""
    return "settings"


def _names(changes: tuple[SettingChange, ...]) -> list[str]:
    return [it.setting for it in changes]


COMMANDS: Final[Commands] = {
    "settings.reload": Change(
        SettingsReload, settings_reload, the_settings, no_state, Role.OPERATOR, makes_books=False
    ),
}
