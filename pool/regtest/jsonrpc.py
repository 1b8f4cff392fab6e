"""JSON-RPC as bitcoind speaks it: from a request body to a reply, errors and HTTP status included.

* Version 1.0, the default: an error is HTTP 500 (404 for an unknown method, 400 for a request that is
  none) with an error object; result and error are both present, and an id where the request has one.
* "jsonrpc": "2.0": HTTP 200 for whatever a method says, result or error; nothing at all for a notification.
* A batch is HTTP 200 with an array of replies, or nothing where all of it are notifications.

A number that is no integer is a Decimal: no amount is ever a float.

Must not know: what the methods do.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from typing import Any, get_type_hints

import msgspec
import structlog
import trio

from pool.regtest.http import Reply
from stratum.json_depth import too_deep

log = structlog.get_logger()

BATCH_MAX = 1_000  # requests of one body; a pool sends one or two

MODERN = "2.0"
VERSIONS = (None, "1.0", MODERN)

Method = Callable[..., Awaitable[object]]

_requests = msgspec.json.Decoder(float_hook=Decimal)
_responses = msgspec.json.Encoder(decimal_format="number")


class RpcCode(IntEnum):
    """bitcoind's error codes (rpc/protocol.h)."""

    MISC = -1
    TYPE = -3
    NOT_FOUND = -5
    PARAMETER = -8
    DESERIALIZATION = -22
    VERIFY = -25
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    PARSE = -32700


HTTP_STATUS: dict[int, int] = {RpcCode.INVALID_REQUEST: 400, RpcCode.METHOD_NOT_FOUND: 404}
HTTP_STATUS_ERROR = 500


class RpcError(Exception):
    """A method's refusal: code and message of the error object."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Busy(Exception):
    """The node has its hands full; HTTP 503, as bitcoind says it when its work queue is full."""


class _Endpoint(msgspec.Struct, frozen=True):
    method: Method
    signature: inspect.Signature
    types: dict[str, Any]


class _Call(msgspec.Struct, frozen=True):
    """A request, as far as it is one; `fault` says why it is none."""

    id: object = None  # UNSET: it has none
    modern: bool = False  # version 2.0
    method: str = ""
    params: list[Any] | dict[str, Any] = []
    fault: RpcError | None = None

    @property
    def notification(self) -> bool:
        """Whether nobody waits for an answer."""
        return self.modern and self.id is msgspec.UNSET


class JsonRpc:
    """Calls `methods` by name. `last` is the name of the method after whose reply the server stops."""

    def __init__(self, methods: Mapping[str, Method], *, last: str) -> None:
        self._endpoints = {
            name: _Endpoint(method, inspect.signature(method), get_type_hints(method))
            for name, method in methods.items()
        }
        self._last = last

    async def answer(self, body: bytes) -> Reply:
        """The reply to a request body. Never raises for what a client sent."""
        try:
            request = None if too_deep(body) else _requests.decode(body)
        except (ValueError, InvalidOperation):  # not JSON, not UTF-8, or a number beyond reason
            return _error_reply(RpcError(RpcCode.PARSE, "Parse error"))
        try:
            if isinstance(request, list):
                return await self._batch(request)
            if isinstance(request, dict):
                return await self._single(_parsed(request))
        except Busy:
            return Reply(status=503, body=b"Work queue depth exceeded", content_type="text/plain")
        return _error_reply(RpcError(RpcCode.PARSE, "Top-level object parse error"))

    async def _single(self, call: _Call) -> Reply:
        response, error = await self._respond(call)
        if error is not None and (call.fault is not None or not call.modern):
            return _error_reply(error, call)
        if call.notification:
            return Reply(status=204)
        return Reply(status=200, body=_encode(response), last=call.method == self._last)

    async def _batch(self, requests: list[Any]) -> Reply:
        if len(requests) > BATCH_MAX:
            error = RpcError(RpcCode.INVALID_REQUEST, f"a batch may hold {BATCH_MAX} requests at most")
            return _error_reply(error)
        responses = []
        calls = [_parsed(request) for request in requests]
        for call in calls:
            await trio.lowlevel.checkpoint()  # a long batch of quick calls must not keep others waiting
            response, _ = await self._respond(call)
            if not call.notification:
                responses.append(response)
        if calls and not responses:
            return Reply(status=204)
        last = any(call.method == self._last for call in calls)
        return Reply(status=200, body=_encode(responses), last=last)

    async def _respond(self, call: _Call) -> tuple[dict[str, object], RpcError | None]:
        """The response object to one request, and the error that is in it."""
        try:
            return _response(call, result=await self._call(call)), None
        except RpcError as refused:
            return _response(call, error=refused), refused

    async def _call(self, call: _Call) -> object:
        """The result of one call. Raises RpcError."""
        if call.fault is not None:
            raise call.fault
        endpoint = self._endpoints.get(call.method)
        if endpoint is None:
            raise RpcError(RpcCode.METHOD_NOT_FOUND, "Method not found")
        arguments = _bind(call.method, endpoint, call.params)
        try:
            return await endpoint.method(**arguments)
        except (RpcError, Busy):
            raise
        except Exception as bug:
            log.exception("regtest_rpc_failed", method=call.method)
            raise RpcError(RpcCode.MISC, f"{call.method} failed: {bug}") from bug


def _parsed(request: Any) -> _Call:
    """In bitcoind's order: what is known of a request when a fault is found is in the answer to it."""
    if not isinstance(request, dict):
        return _Call(fault=RpcError(RpcCode.INVALID_REQUEST, "Invalid Request object"))
    version, name, params = (request.get(key) for key in ("jsonrpc", "method", "params"))
    fault = None
    if version is not None and not isinstance(version, str):
        fault = "jsonrpc field must be a string"
    elif version not in VERSIONS:
        fault = "JSON-RPC version not supported"
    elif name is None:
        fault = "Missing method"
    elif not isinstance(name, str):
        fault = "Method must be a string"
    elif params is not None and not isinstance(params, list | dict):
        fault = "Params must be an array or object"
    known = _Call(id=request.get("id", msgspec.UNSET), modern=version == MODERN)
    if fault is not None:
        return msgspec.structs.replace(known, fault=RpcError(RpcCode.INVALID_REQUEST, fault))
    return msgspec.structs.replace(known, method=name, params=[] if params is None else params)


def _bind(name: str, endpoint: _Endpoint, params: list[Any] | dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, of the types that the method asks for; null is the same as left out."""
    if isinstance(params, dict):
        for key in params.keys() - endpoint.signature.parameters.keys():
            raise RpcError(RpcCode.PARAMETER, f"Unknown named parameter {key}")
    try:
        if isinstance(params, list):
            bound = endpoint.signature.bind(*params)
        else:
            bound = endpoint.signature.bind(**params)
    except TypeError as mismatch:
        raise RpcError(RpcCode.MISC, f"{name}: {mismatch}") from None
    arguments = {}
    for key, value in bound.arguments.items():
        if value is None and endpoint.signature.parameters[key].default is not inspect.Parameter.empty:
            continue
        try:
            arguments[key] = msgspec.convert(value, endpoint.types[key])
        except msgspec.ValidationError as wrong:
            raise RpcError(RpcCode.TYPE, f"Wrong type passed: {key}: {wrong}") from None
    return arguments


def _response(call: _Call, *, result: object = None, error: RpcError | None = None) -> dict[str, object]:
    """The response object."""
    failure = None if error is None else {"code": int(error.code), "message": error.message}
    response: dict[str, object] = {"result": result, "error": failure}
    if call.modern:
        outcome = {"result": result} if failure is None else {"error": failure}
        response = {"jsonrpc": MODERN, **outcome}
    if call.id is not msgspec.UNSET:
        response["id"] = call.id
    return response


def _error_reply(error: RpcError, call: _Call | None = None) -> Reply:
    body = _encode(_response(call or _Call(), error=error))
    return Reply(status=HTTP_STATUS.get(error.code, HTTP_STATUS_ERROR), body=body)


def _encode(value: object) -> bytes:
    return _responses.encode(value) + b"\n"
