"""A grid: openleadr's own VTN on this host, over TLS with certificates of its own, in a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openleadr
import trustme

from pool.power.signals.settings import OpenadrSettings

VEN_ID, NAME, PATH = "ven-1", "angara", "/OpenADR2/Simple/2.0b"


class Vtn:
    """`opted`: what came back of each event; `offered` is what a report is of, `reported` what it said."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opted: list[tuple[str, str]] = []
        self.reported: list[float] = []
        self.offered = ("", "", "")
        self.port = 0
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(directory / "grid.pem"))
        for name in ("vtn", "ven"):
            made = self._authority.issue_cert("127.0.0.1", common_name=name)
            made.private_key_pem.write_to_path(str(directory / f"{name}.key"))
            made.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
        self.server: Any = None

    def fingerprint(self, name: str) -> str:
        found: str = openleadr.utils.certificate_fingerprint((self.directory / f"{name}.pem").read_text())
        return found

    def settings(self, **changed: Any) -> OpenadrSettings:
        """Of a pool that asks here."""
        fields: dict[str, Any] = {
            "url": f"https://127.0.0.1:{self.port}{PATH}",
            "ven_name": NAME,
            "certificate": self.directory / "ven.pem",
            "key": self.directory / "ven.key",
            "authorities": self.directory / "grid.pem",
            "fingerprint": self.fingerprint("vtn"),
            "site": "north",
            "percents": (0, 50, 100),
            "poll_s": 10,
        }
        return OpenadrSettings(**fields | changed)

    @contextmanager
    def running(self) -> Iterator["Vtn"]:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            self._do(self._start)
            yield self
            self._do(self.server.stop)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def add(self, event_id: str, level: float, at_s: int, lasts_s: int) -> None:
        """A SIMPLE event."""

        async def add() -> None:
            self.server.add_event(
                VEN_ID,
                "SIMPLE",
                "level",
                [{"dtstart": _at(at_s), "duration": timedelta(seconds=lasts_s), "signal_payload": level}],
                callback=self._callback,
                event_id=event_id,
            )

        self._do(add)

    def change(self, event_id: str, lasts_s: int) -> None:
        """It lasts for another time, as a grid says that: modified."""

        async def change() -> None:
            of, put = openleadr.utils.getmember, openleadr.utils.setmember
            event = openleadr.utils.find_by(self.server.events[VEN_ID], "event_descriptor.event_id", event_id)
            put(of(event, "active_period"), "duration", timedelta(seconds=lasts_s))
            put(of(of(event, "event_signals")[0], "intervals")[0], "duration", timedelta(seconds=lasts_s))
            openleadr.utils.increment_event_modification_number(event)
            self.server.events_updated[VEN_ID] = True
            self.server.event_callbacks[event_id] = (event, self._callback)

        self._do(change)

    def cancel(self, event_id: str) -> None:
        async def cancel() -> None:
            self.server.cancel_event(VEN_ID, event_id)

        self._do(cancel)

    def _callback(self, ven_id: str, event_id: str, opt_type: str) -> None:
        self.opted.append((event_id, opt_type))

    def _do(self, talk: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(talk(), self._loop).result()

    async def _start(self) -> None:
        self.server = openleadr.OpenADRServer(
            "grid",
            cert=str(self.directory / "vtn.pem"),
            key=str(self.directory / "vtn.key"),
            http_port=0,
            http_cert=str(self.directory / "vtn.pem"),
            http_key=str(self.directory / "vtn.key"),
            http_ca_file=str(self.directory / "grid.pem"),
            ven_lookup=self._lookup,
            show_fingerprint=False,
        )
        self.server.add_handler("on_create_party_registration", self._registered)
        self.server.add_handler("on_register_report", self._offered)
        await self.server.run()
        self.port = self.server.app_runner.addresses[0][1]

    async def _lookup(self, ven_id: str) -> dict[str, str] | None:
        if ven_id != VEN_ID:
            return None
        return {
            "ven_id": VEN_ID,
            "ven_name": NAME,
            "fingerprint": self.fingerprint("ven"),
            "registration_id": "registration-1",
        }

    async def _registered(self, info: Any) -> Any:
        right = info["ven_name"] == NAME and info["fingerprint"] == self.fingerprint("ven")
        return (VEN_ID, "registration-1") if right else False

    async def _offered(
        self,
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> Any:
        self.offered = (resource_id, measurement, unit)
        return self._report, timedelta(seconds=60)

    def _report(self, data: Any) -> None:
        self.reported += [value for _, value in data]


def _at(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
