"""JSON-RPC as bitcoind speaks it: from a request body to a reply, errors and HTTP status included.

* Version 1.0, the default: an error is HTTP 500 (404 for an unknown method, 400 for a request that is
  none) with an error object; result and error are both present.
* "jsonrpc": "2.0": HTTP 200 always, result or error, and nothing at all for a notification.
* A batch is HTTP 200 with an array of replies.

Must not know: what the methods do.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import Any, get_type_hints

import msgspec
import structlog
import trio

from pool.regtest.http import Reply
from stratum.json_depth import too_deep

log = structlog.get_logger()

BATCH_MAX = 1_000  # requests of one body; a pool sends one or two

Method = Callable[..., Awaitable[object]]


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
            request = None if too_deep(body) else msgspec.json.decode(body)
        except ValueError:  # not JSON, not UTF-8, or a number beyond reason
            return _error_reply(RpcError(RpcCode.PARSE, "Parse error"))
        try:
            if isinstance(request, list):
                return await self._batch(request)
            if isinstance(request, dict):
                return await self._single(request)
        except Busy:
            return Reply(status=503, body=b"Work queue depth exceeded", content_type="text/plain")
        return _error_reply(RpcError(RpcCode.PARSE, "Top-level object parse error"))

    async def _single(self, request: dict[str, Any]) -> Reply:
        response, error = await self._respond(request)
        if response is None:
            return Reply(status=204)
        status = 200
        if error is not None and request.get("jsonrpc") != "2.0":
            status = HTTP_STATUS.get(error.code, HTTP_STATUS_ERROR)
        return Reply(status=status, body=_encode(response), last=self._is_last(request))

    async def _batch(self, requests: list[Any]) -> Reply:
        if len(requests) > BATCH_MAX:
            error = RpcError(RpcCode.INVALID_REQUEST, f"a batch may hold {BATCH_MAX} requests at most")
            return _error_reply(error)
        responses = []
        for request in requests:
            await trio.lowlevel.checkpoint()  # a long batch of quick calls must not keep others waiting
            response, _ = await self._respond(request)
            if response is not None:
                responses.append(response)
        return Reply(status=200, body=_encode(responses), last=any(map(self._is_last, requests)))

    async def _respond(self, request: Any) -> tuple[dict[str, object] | None, RpcError | None]:
        """The response object to one request, None for a notification; and the error that is in it."""
        if not isinstance(request, dict):
            error = RpcError(RpcCode.INVALID_REQUEST, "Invalid Request object")
            return _response({}, error=error), error
        try:
            return _response(request, result=await self._call(request)), None
        except RpcError as refused:
            return _response(request, error=refused), refused

    def _is_last(self, request: Any) -> bool:
        return isinstance(request, dict) and request.get("method") == self._last

    async def _call(self, request: dict[str, Any]) -> object:
        """The result of one call. Raises RpcError."""
        name = request.get("method")
        params = request.get("params")
        if not isinstance(name, str):
            raise RpcError(RpcCode.INVALID_REQUEST, "Method must be a string")
        if params is None:
            params = []
        if not isinstance(params, list | dict):
            raise RpcError(RpcCode.INVALID_REQUEST, "Params must be an array or object")
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise RpcError(RpcCode.METHOD_NOT_FOUND, "Method not found")
        arguments = _bind(name, endpoint, params)
        try:
            return await endpoint.method(**arguments)
        except (RpcError, Busy):
            raise
        except Exception as bug:
            log.exception("regtest_rpc_failed", method=name)
            raise RpcError(RpcCode.MISC, f"{name} failed: {bug}") from bug


def _bind(name: str, endpoint: _Endpoint, params: list[Any] | dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, of the types that the method asks for; null is the same as left out."""
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


def _response(
    request: dict[str, Any], *, result: object = None, error: RpcError | None = None
) -> dict[str, object] | None:
    """The response object; None for a notification, which gets none."""
    failure = None if error is None else {"code": int(error.code), "message": error.message}
    if request.get("jsonrpc") != "2.0":
        return {"result": result, "error": failure, "id": request.get("id")}
    if "id" not in request:
        return None
    outcome: dict[str, object] = {"result": result} if failure is None else {"error": failure}
    return {"jsonrpc": "2.0", **outcome, "id": request["id"]}


def _error_reply(error: RpcError, request_id: object = None) -> Reply:
    body = _encode(_response({"id": request_id}, error=error))
    return Reply(status=HTTP_STATUS.get(error.code, HTTP_STATUS_ERROR), body=body)


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
