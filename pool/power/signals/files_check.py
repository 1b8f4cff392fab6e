"""Whether the files of `[power.signals]` would do, looked at as the signals look at them when the pool runs.

Looks, and asks for nothing. Must not know: whether whoever writes them, or the grid, answers.
"""

import os
import ssl
import stat
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec

from pool.power.signals.call import BadCall
from pool.power.signals.openadr import MISSING
from pool.power.signals.secret_file import OTHERS, BadSecret, secret_in
from pool.power.signals.settings import OpenadrSettings, SignalSettings
from pool.power.signals.watched_file import calls_in, is_json, read


class Looked(msgspec.Struct, frozen=True):
    """One setting that names a file, and what there is."""

    good: bool
    setting: str
    words: str


def look_at_files(settings: SignalSettings) -> Iterator[Looked]:
    """Of everything that is set; blocks."""
    if settings.file is not None:
        yield _calls(settings.file)
    if settings.webhook_secret is not None:
        yield _secret(settings.webhook_secret)
    if settings.openadr is not None:
        yield _openadr(settings.openadr)


def _calls(path: Path) -> Looked:
    setting = "power.signals.file"
    try:
        found = calls_in(read(path)[1], json=is_json(path))
    except BadCall as error:
        words = str(error)
        return Looked(False, setting, words if str(path) in words else f"{path}: {words}")
    return Looked(True, setting, f"{path} asks for {len(found)} events")


def _secret(path: Path) -> Looked:
    setting = "power.signals.webhook_secret_file"
    try:
        secret_in(path)
    except BadSecret as error:
        return Looked(False, setting, str(error))
    return Looked(True, setting, f"{path} has a secret")


def _openadr(settings: OpenadrSettings) -> Looked:
    setting = "power.signals.openadr"
    if find_spec("openleadr") is None:
        return Looked(False, setting, MISSING)
    for name, path in (("key", settings.key), ("certificate", settings.certificate)):
        try:
            mode = 0 if path is None else os.stat(path).st_mode
        except OSError as error:
            return Looked(False, setting, f"{name}: {path}: {error.strerror}")
        if name == "key" and stat.S_IMODE(mode) & OTHERS:
            return Looked(False, setting, f"key: others may read {path}: chmod 600 it, and get another one")
    try:
        context = ssl.create_default_context(cafile=_text(settings.authorities))
        if settings.certificate is not None and settings.key is not None:
            context.load_cert_chain(str(settings.certificate), str(settings.key))
    except OSError as error:  # ssl.SSLError is one
        which = "authorities" if settings.certificate is None else "authorities, certificate or key"
        return Looked(False, setting, f"{which}: {error.strerror or error}")
    return Looked(True, setting, f"{settings.ven_name} asks {settings.url}")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
