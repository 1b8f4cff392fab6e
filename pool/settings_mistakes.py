"""Why a settings file is refused, in words of the file: the setting, what it is there, what it is to be.

Must not know: what a setting is for.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import inspect

from pool.settings_tables import File, bare

_AT: Final = r"(?: - at `\$\.(?P<path>.+)`)?$"
_OUT_OF_RANGE: Final = re.compile(r"^Expected `(?:int|float)` [<>]=.*?" + _AT)
_OF_ANOTHER_KIND: Final = re.compile(r"^Expected `(?P<due>[a-z| ]+)`, got `(?P<found>[a-z]+)`" + _AT)
_OF_ANOTHER_FORM: Final = re.compile(r"^Expected `str` matching regex '(?P<form>.*)'" + _AT)
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(?P<name>.*?)`" + _AT, re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<name>.*?)`" + _AT)
_NONE_OF_THEM: Final = re.compile(r"^Invalid enum value (?P<value>.+?)" + _AT)
_KINDS: Final = {  # as msgspec calls them
    "array": "a list, [...]",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": 'text, "..."',
}
_VALUE_CHARS_MAX: Final = 30  # of a wrong one that is shown


def in_words(error: msgspec.ValidationError, raw: dict[str, Any]) -> str:
    """What is wrong in these tables."""
    try:
        return _in_words(str(error), raw)
    except (AttributeError, LookupError):  # a name in the file that reads like a path of msgspec's
        return str(error)


def _in_words(text: str, raw: dict[str, Any]) -> str:
    if found := _OUT_OF_RANGE.match(text):
        kind = _kind_at(found["path"])
        number = str(_value_at(raw, found["path"]))[:_VALUE_CHARS_MAX]
        return f"{found['path']}: {number} is not within {kind.ge} to {kind.le}"
    if found := _OF_ANOTHER_KIND.match(text):
        due = [it for it in found["due"].split(" | ") if it in _KINDS]
        words = " or ".join(_KINDS[it] for it in due if it != "int" or "float" not in due)
        if due == ["array"] and found["found"] == "object":
            words = f"[[{found['path']}]], once for each"
        there = (
            "written with a point or an exponent"
            if found["found"] == "float"
            else _KINDS.get(found["found"], found["found"])
        )
        return f"{found['path']}: is to be {words}, and is {there}"
    if found := _NONE_OF_THEM.match(text):
        there_are = ", ".join(map(str, _kind_at(found["path"]).values))
        return f"{found['path']}: {found['value'][:_VALUE_CHARS_MAX]} is none of {there_are}"
    if found := _OF_ANOTHER_FORM.match(text):
        return f"{found['path']}: is not of the form {found['form']}"
    if found := _UNKNOWN.match(text):
        table = _kind_at(found["path"])
        names = ", ".join(field.encode_name for field in table.fields)
        return f"{_within(found)}: there is no such setting, there are: {names}"
    if found := _MISSING.match(text):
        return f"{_within(found)}: has to be said"
    return text


def _within(found: re.Match[str]) -> str:
    return found["name"] if found["path"] is None else f"{found['path']}.{found['name']}"


def _kind_at(path: str | None) -> Any:
    """The type there; of a list's item, where the path has its number. Of text or a table, the table."""
    kind: Any = inspect.type_info(File)
    for name, at in _steps(path):
        kind = bare({field.encode_name: field.type for field in kind.fields}[name])
        if at is not None:
            kind = bare(kind.item_type)
        if isinstance(kind, inspect.UnionType):
            kind = next((it for it in kind.types if isinstance(it, inspect.StructType)), kind)
    return kind


def _value_at(raw: dict[str, Any], path: str) -> Any:
    value: Any = raw
    for name, at in _steps(path):
        value = value[name] if at is None else value[name][at]
    return value


def _steps(path: str | None) -> list[tuple[str, int | None]]:
    found = [] if path is None else re.findall(r"(\w+)(?:\[(\d+)\])?", path)
    return [(name, int(at) if at else None) for name, at in found]
