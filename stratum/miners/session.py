"""One miner connection of Stratum V1 as a state machine without I/O: lines in, bytes out.

The engine answers mining.submit; everything else a miner says comes here, a line at a time, and what
comes back is sent in that order. What becomes of the machine is its `MiningSession`'s.

Invariants: nothing that was not asked for is sent before a job is.
Must not know: sockets, tasks, how tenants are kept, who mines which channel.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from stratum import messages
from stratum.messages import ErrorCode
from stratum.miners.channel import VERSION_MASK
from stratum.miners.contracts import Refusal, Services
from stratum.miners.extranonce import ExtranonceExhausted
from stratum.miners.language import LINES
from stratum.miners.mining_session import Event, MiningSession, State
from stratum.miners.owner import Owner
from stratum.miners.uncharged import REFUSED, UNREADABLE


class MinerSession(MiningSession):
    """One connection."""

    __slots__ = ()

    def __init__(self, services: Services, owner: Owner, now_s: float) -> None:
        super().__init__(services, owner, now_s, LINES)

    def receive_line(self, line: bytes, now_s: float) -> bytes:
        """The answer to one line; check `closing` afterwards."""
        if self.state is State.MINING:
            self._liveness.spoke(now_s)
        try:
            message = messages.decode(line)
        except messages.BadLine:
            self._note_line(UNREADABLE)
            self.closing = self._liveness.bad_line()
            return messages.refusal(b"null", ErrorCode.OTHER, "Malformed JSON")
        if isinstance(message, messages.Answer):
            if self._firmware is not None:
                self._firmware.answers += 1
            return b""  # to our ping: that it came is all we want
        try:
            params = messages.parse(message)
        except messages.BadParams as error:
            return self._refusal(message.id, ErrorCode.OTHER, str(error))
        self._note_asked(params)
        return _HANDLERS[type(params)](self, message.id, params, now_s)

    def _subscribe(self, raw_id: bytes, params: messages.Subscribe, now_s: float) -> bytes:
        assignment = self.assignment
        if assignment.extranonce1 is None:
            try:
                self._take_extranonces(params.agent, params.session_id, now_s)
            except ExtranonceExhausted:
                self.closing = "extranonce space exhausted"
                return self._refusal(raw_id, ErrorCode.OTHER, "Pool is full: no extranonce left")
        session_id, extranonce2_size = assignment.told
        topics = [["mining.set_difficulty", session_id], ["mining.notify", session_id]]
        answer = messages.reply(raw_id, [topics, session_id, extranonce2_size])
        if self.state is State.MINING:
            assignment.owe_job()  # it starts anew: the job that it had is forgotten
        return answer + self._advance(Event.SUBSCRIBE, now_s)

    def _authorize(self, raw_id: bytes, params: messages.Authorize, now_s: float) -> bytes:
        answer = self._admit(params.name, self._agent)
        if isinstance(answer, Refusal):
            return self._refuse(raw_id, answer.reason)
        self._ask_for(params.minimum)
        if self.state is not State.MINING:
            self._start_from(answer, params.difficulty, now_s)
        return messages.reply(raw_id, True) + self._advance(Event.AUTHORISE, now_s)

    def _refuse(self, raw_id: bytes, reason: str) -> bytes:
        """A worker is refused. The others on the connection, if there are any, go on mining."""
        self.closing = self._liveness.refused(authorised=self.authorised)
        return self._refusal(raw_id, ErrorCode.UNAUTHORISED, reason)

    def _refusal(self, raw_id: bytes, code: int, text: str) -> bytes:
        """Some firmware counts it as a rejected share, whatever it was that was refused."""
        self._note_line(REFUSED)
        return messages.refusal(raw_id, code, text)

    def _get_transactions(self, raw_id: bytes, _: messages.GetTransactions, now_s: float) -> bytes:
        return self._refusal(raw_id, ErrorCode.OTHER, "Not given out")

    def _configure(self, raw_id: bytes, params: messages.Configure, now_s: float) -> bytes:
        """Answers exactly the keys that were asked: more sends some firmware into a reconnect loop."""
        result: dict[str, object] = {}
        for extension in params.extensions:
            result[extension] = extension in ("subscribe-extranonce", "info")
        if params.version_mask is not None:
            asked = _may_roll(params.version_mask)
            result["version-rolling"] = asked != 0
            if asked != 0:
                result["version-rolling.mask"] = f"{self.assignment.ask_mask(asked):08x}"
        if "minimum-difficulty" in result:
            result["minimum-difficulty"] = self._ask_for(params.minimum)
        if "subscribe-extranonce" in result:
            self.assignment.wants_extranonce = True
        return messages.reply(raw_id, result)

    def _extranonce_subscribe(self, raw_id: bytes, _: messages.ExtranonceSubscribe, now_s: float) -> bytes:
        self.assignment.wants_extranonce = True
        return messages.reply(raw_id, True)

    def _suggest(self, raw_id: bytes, params: messages.SuggestDifficulty, now_s: float) -> bytes:
        wished_log2 = self.difficulty.suggest(self.assignment.policy, params.difficulty)
        if wished_log2 is not None and self.state is State.MINING:
            self.assignment.want_difficulty(wished_log2)
        return messages.reply(raw_id, True)

    def _submit(self, raw_id: bytes, params: messages.Submit, now_s: float) -> bytes:
        self._services.engine.submit(self.slot, raw_id, params.params)
        return b""

    def _note_asked(self, params: messages.Message) -> None:
        word = _ASKED.get(type(params))
        if word is not None:
            self._note_word(word)


@lru_cache(maxsize=64)  # a site has a handful, and each is one number for all who ask for it
def _may_roll(mask: int) -> int:
    return mask & VERSION_MASK


_ASKED: dict[type, str] = {
    messages.Subscribe: "subscribe",
    messages.Authorize: "authorize",
    messages.Configure: "configure",
    messages.ExtranonceSubscribe: "extranonce",
    messages.SuggestDifficulty: "suggest",
}
_Handler = Callable[[MinerSession, bytes, Any, float], bytes]
_HANDLERS: dict[type, _Handler] = {
    messages.Subscribe: cast(_Handler, MinerSession._subscribe),
    messages.Authorize: cast(_Handler, MinerSession._authorize),
    messages.Configure: cast(_Handler, MinerSession._configure),
    messages.ExtranonceSubscribe: cast(_Handler, MinerSession._extranonce_subscribe),
    messages.SuggestDifficulty: cast(_Handler, MinerSession._suggest),
    messages.GetTransactions: cast(_Handler, MinerSession._get_transactions),
    messages.Ping: lambda _, raw_id, *__: messages.reply(raw_id, "pong"),
    messages.Pong: lambda *_: b"",
    # Not refused: bmminer counts a refusal of anything as a rejected share.
    messages.MultiVersion: lambda _, raw_id, *__: messages.reply(raw_id, True),
    messages.Submit: cast(_Handler, MinerSession._submit),
}
