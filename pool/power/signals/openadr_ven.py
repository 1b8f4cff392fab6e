"""One conversation with a grid's VTN at a time, by openleadr: messages, signatures, registration.

openleadr's own loop is not used. It reads an answer of any size, keeps every event that it ever saw, asks as
often as the other side says, and follows it to wherever it redirects. So here a conversation is a run of
asyncio of its own, with an end: what is read is bounded and is no more than an XML document without
declarations of its own, nobody is redirected, and whatever comes is handed out and forgotten.

Blocks: called from a worker thread, and stopped from any. Must not know: what is made of an event.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import aiohttp
import openleadr

from pool.power.signals.openadr_events import Distributed, Heard, NotTalked
from pool.power.signals.openadr_xml import check_xml
from pool.power.signals.settings import OpenadrSettings

ANSWER_BYTES_MAX: Final = 256 * 1024  # sixty-four events are a hundred
PIECE_BYTES: Final = 16_384
ANSWER_S: Final = 15.0  # of one question
CONVERSATION_S: Final = 60.0
MESSAGES_MAX: Final = 8  # that wait at the VTN, in one conversation: the others wait for the next one
REPORTS_MAX: Final = 4  # that the VTN asks for
OK: Final = 200
POWER: Final = "TELEMETRY_USAGE"
_Value = TypeVar("_Value")


class _Words(logging.Handler):
    """What openleadr says went wrong, which it says nowhere else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()[:1_000]


class _Answer(aiohttp.ClientResponse):  # type: ignore[misc]  # it is not installed with every pool
    """Of bounded size, and not what a bomb is made of."""

    _body: Any

    async def read(self) -> Any:
        if self._body is None:
            body = b""
            async for piece in self.content.iter_chunked(PIECE_BYTES):
                body += piece
                if len(body) > ANSWER_BYTES_MAX:
                    self.close()
                    raise ValueError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
            if body:
                check_xml(body)
            self._body = body
        return self._body


class _Session:
    """All of an aiohttp session that openleadr asks for."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def post(self, url: str, data: str) -> Any:
        return self._session.post(url, data=data, allow_redirects=False)

    async def close(self) -> None:
        await self._session.close()


class _NoScheduler:
    """Nothing runs by itself between two conversations."""

    running = False

    def add_job(self, *_: Any, **__: Any) -> None:
        return None

    def remove_all_jobs(self) -> None:
        pass


class Ven:
    """`shed_watts`: what has been taken off by this VTN's events. Raises NotTalked for a certificate that is
    none."""

    def __init__(self, settings: OpenadrSettings, shed_watts: Callable[[], int]) -> None:
        self._settings, self._words = settings, _Words()
        logger = logging.getLogger("openleadr")
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        logger.handlers = [self._words]
        paths = [None if it is None else str(it) for it in (settings.certificate, settings.key)]
        try:
            self._client: Any = openleadr.OpenADRClient(
                settings.ven_name,
                settings.url,
                cert=paths[0],
                key=paths[1],
                vtn_fingerprint=settings.fingerprint,
                show_fingerprint=False,
            )
        except (OSError, ValueError) as error:
            raise NotTalked(f"the certificate or its key cannot be used: {error}") from None
        self._client.scheduler = _NoScheduler()

        def shed(date_from: datetime, date_to: datetime, sampling_interval: timedelta) -> list[Any]:
            return [(date_to, shed_watts())]

        self._client.add_report(
            shed,
            resource_id=settings.site or "all",
            measurement="powerReal",
            report_type="deltaDemand",
            reading_type="Estimated",
            report_name=POWER,
            data_collection_mode="full",
            unit="W",
            report_duration=timedelta(hours=1),
        )
        self._lock = threading.Lock()
        self._stop: Any = None
        self._registered = False

    @property
    def poll_s(self) -> float:
        """How often the VTN wants to be asked."""
        asked = self._client.poll_frequency
        return 0.0 if asked is None else float(asked.total_seconds())

    def ask(self, *, anew: bool) -> list[Distributed]:
        """Whatever it has to say: what is new, or all of it. Raises NotTalked."""
        return self._run(self._ask(anew))

    def tell(self, of: Distributed, heard: Sequence[Heard]) -> None:
        """What becomes of its events. Raises NotTalked."""
        self._run(self._tell(of, heard))

    def report(self) -> None:
        """What it wants to know. Raises NotTalked."""
        self._run(self._report())

    def stop(self) -> None:
        """A conversation that goes on ends now; from any thread."""
        with self._lock:
            if self._stop is not None:
                self._stop()

    def _run(self, talk: Coroutine[Any, Any, _Value]) -> _Value:
        async def bounded() -> _Value:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            with self._lock:
                self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
            try:
                async with asyncio.timeout(CONVERSATION_S):
                    self._client.client_session = _Session(self._session())
                    try:
                        return await talk
                    finally:
                        await self._client.client_session.close()
            finally:
                with self._lock:
                    self._stop = None

        self._words.last = ""
        try:
            return asyncio.run(bounded())
        except NotTalked:
            raise
        except (TimeoutError, asyncio.CancelledError):
            raise NotTalked("it takes too long") from None
        except (OSError, ssl.SSLError, aiohttp.ClientError) as error:
            raise NotTalked(f"{type(error).__name__}: {error}") from None
        except Exception as error:  # openleadr's, about what the other side sent
            raise NotTalked(f"it says what is nothing here: {type(error).__name__}: {error}") from None

    def _session(self) -> aiohttp.ClientSession:
        """Of one conversation."""
        context: ssl.SSLContext | bool = True
        if self._settings.authorities is not None:
            context = ssl.create_default_context(cafile=str(self._settings.authorities))
            if self._settings.certificate is not None and self._settings.key is not None:
                context.load_cert_chain(str(self._settings.certificate), str(self._settings.key))
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=1),
            headers={"content-type": "application/xml", "accept-encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_S),
            response_class=_Answer,
            auto_decompress=False,
        )

    async def _ask(self, anew: bool) -> list[Distributed]:
        found: list[Distributed] = []
        if not self._registered:
            await self._register()
            anew = True
        if anew:
            kind, message = self._said(await self._client.request_event())
            self._keep(found, kind, message)
        for _ in range(MESSAGES_MAX):
            kind, message = self._said(await self._client.poll())
            if kind == "oadrResponse":
                break
            if kind == "oadrRequestReregistration":
                self._registered = False
                await self._client.send_response(service="EiRegisterParty")
                break
            if kind == "oadrCreateReport":
                await self._client.create_report(message)
                self._bound_reports()
            elif kind == "oadrCancelPartyRegistration":
                self._registered = False
                raise NotTalked("it has cancelled the registration")
            self._keep(found, kind, message)
        return found

    async def _register(self) -> None:
        await self._client.create_party_registration(ven_id=self._client.ven_id)
        if not self._client.registration_id:
            raise NotTalked(self._words.last or "it does not register this pool")
        self._client.report_requests.clear()
        await self._client.register_reports(self._client.reports)
        self._bound_reports()
        self._registered = True

    def _said(self, answer: Any) -> tuple[str, Any]:
        """Raises NotTalked where there is nothing that can be read."""
        kind, message = answer if isinstance(answer, tuple) else (None, None)
        if not kind:
            raise NotTalked(self._words.last or "it says nothing")
        return kind, message

    def _keep(self, found: list[Distributed], kind: str, message: Any) -> None:
        if kind == "oadrDistributeEvent":
            events = message.get("events") or []
            found.append(Distributed(request_id=str(message.get("request_id")), events=events))

    def _bound_reports(self) -> None:
        requests = self._client.report_requests
        del requests[:-REPORTS_MAX]
        self._client.incomplete_reports.clear()

    async def _tell(self, of: Distributed, heard: Sequence[Heard]) -> None:
        response = {"response_code": OK, "response_description": "OK", "request_id": of.request_id}
        answers = [
            {
                "response_code": OK,
                "response_description": it.words or "OK",
                "request_id": of.request_id,
                "event_id": it.event_id,
                "modification_number": it.modification,
                "opt_type": it.opt,
            }
            for it in heard
        ]
        message = self._client._create_message(
            "oadrCreatedEvent", response=response, event_responses=answers, ven_id=self._client.ven_id
        )
        self._said(await self._client._perform_request("EiEvent", message))

    async def _report(self) -> None:
        for it in list(self._client.report_requests):
            await self._client.update_report(it["report_request_id"])
        self._client.incomplete_reports.clear()
        while not self._client.pending_reports.empty():
            report = self._client.pending_reports.get_nowait()
            message = self._client._create_message(
                "oadrUpdateReport",
                ven_id=self._client.ven_id,
                request_id=openleadr.utils.generate_id(),
                reports=[report],
            )
            self._said(await self._client._perform_request("EiReport", message))
