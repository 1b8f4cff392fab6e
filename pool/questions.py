"""Questions in their types, for whoever is asked in another process: a protocol of async methods whose
arguments and answers msgspec can encode is asked (`asking`) and answered (`Answering`) as bytes, whatever
carries them.

What comes from the other end is decoded in its types: who answers something else has answered with an error.
Arguments are only added, at the end, with a default: who asks may be of a version that has fewer.

Must not know: what carries bytes, and what is asked.
"""

import inspect
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Final, Protocol, get_type_hints

import msgspec
import structlog

from stratum.unreadable import NOT_READ

log = structlog.get_logger()

WORDS_CHARS_MAX: Final = 500  # of an error


class AnsweredWithError(Exception):
    """Whoever was asked could not answer: its words."""


class Asker(Protocol):
    """Who brings a question to the other end, and the answer back."""

    async def ask(self, method: str, content: bytes) -> bytes:
        """Raises AnsweredWithError, and what its owner says."""


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """An answer that there is none: the name of an exception, and its words."""

    kind: str
    words: str


class _Method(msgspec.Struct, frozen=True):
    call: Callable[..., Awaitable[Any]]
    arguments: Any


_ENCODER: Final = msgspec.msgpack.Encoder()


def written_down(method: str, badly: bool) -> None:
    """Whoever is at the other end is one of ours."""
    log.error("question_failed", method=method, exc_info=not badly)


class Answering:
    """What is answered at this end. `errors` are exceptions that are what they are at the other end too; the
    others are AnsweredWithError there, and `failed` is told of the method, and whether it was asked badly."""

    def __init__(
        self,
        errors: tuple[type[Exception], ...] = (),
        failed: Callable[[str, bool], None] = written_down,
    ) -> None:
        self._errors, self._failed = {it.__name__: it for it in errors}, failed
        self._methods: dict[str, _Method] = {}

    def answer(self, protocol: type[Any], by: object) -> None:
        """Have the methods of a protocol answered from here on."""
        for name, (arguments, _) in _methods(protocol).items():
            self._methods[name] = _Method(getattr(by, name), arguments)

    async def reply(self, name: str, content: bytes) -> bytes | Refusal:
        """To a question; whatever goes wrong with it is in the answer."""
        try:
            method = self._methods.get(name)
            if method is None:
                raise AnsweredWithError(f"nobody answers {name[:WORDS_CHARS_MAX]} here")
            arguments = _decoded(name, content, method.arguments)
            return _ENCODER.encode(await method.call(*msgspec.structs.astuple(arguments)))
        except Exception as error:
            kind = type(error).__name__
            asked_badly = isinstance(error, (AnsweredWithError, *NOT_READ))
            if kind not in self._errors:
                self._failed(name[:WORDS_CHARS_MAX], asked_badly)
            return Refusal(kind, str(error)[:WORDS_CHARS_MAX])

    def raised(self, refusal: Refusal) -> Exception:
        """What such an answer of the other end is here."""
        return self._errors.get(refusal.kind, AnsweredWithError)(refusal.words)


def asking(asker: Asker, protocol: type[Any]) -> Any:
    """Who answers at the other end, as if he were here: of that protocol."""
    asked = type(f"Asked{protocol.__name__}", (), {})()
    for name, (_, answer) in _methods(protocol).items():
        setattr(asked, name, _asked(asker, name, answer))
    return asked


def by_name(protocol: type[Any], method: Callable[[str], Callable[..., Awaitable[Any]]]) -> Any:
    """Who answers as that protocol, with the method that is made for each name."""
    names = [name for name in vars(protocol) if not name.startswith("_")]
    return SimpleNamespace(**{name: method(name) for name in names})


def _asked(asker: Asker, name: str, answer: Any) -> Callable[..., Awaitable[Any]]:
    async def ask(*given: object) -> Any:
        content = await asker.ask(name, _ENCODER.encode(given))
        try:
            return msgspec.msgpack.decode(content, type=answer)
        except NOT_READ as error:
            raise AnsweredWithError(f"what was answered to {name} is no answer to it: {error}") from None

    return ask


def _decoded(name: str, content: bytes, arguments: Any) -> Any:
    try:
        return msgspec.msgpack.decode(content, type=arguments)
    except NOT_READ as error:
        raise AnsweredWithError(f"{name} is asked as by a newer version than this one: {error}") from None


def _methods(protocol: type[Any]) -> dict[str, tuple[Any, Any]]:
    """The types of arguments, as of a struct that is an array, and of the answer."""
    found = {}
    for name, method in vars(protocol).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        hints = get_type_hints(method)
        answer = hints.pop("return")
        found[name] = (_arguments(name, method, hints), answer)
    assert found, f"{protocol} asks nothing"
    return found


def _arguments(name: str, method: Callable[..., Any], hints: dict[str, Any]) -> Any:
    given = inspect.signature(method).parameters
    fields = [
        (it, hint) if given[it].default is inspect.Parameter.empty else (it, hint, given[it].default)
        for it, hint in hints.items()
    ]
    return msgspec.defstruct(name, fields, array_like=True, forbid_unknown_fields=True)
