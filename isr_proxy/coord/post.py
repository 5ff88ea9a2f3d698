"""One worker's post: telling the others, asking them, and hearing what they say.

Knows the event loop, and which kind of letter goes to whom. Must not know what the letters say. Telling never
waits. What finds an inbox full is tried again for a while and then lost, so nothing may depend on a letter
alone: whoever waits for one looks for himself now and then.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from isr_proxy.coord.board import Board
from isr_proxy.coord.wires import MAX_BODY_BYTES, Letter, Wires

_log = structlog.get_logger("isr_proxy.post")

DIED: Final = "died"  # from the supervisor: the process that had this seat is gone
ANSWER: Final = "answer"
_AT_ONCE: Final = 64  # letters, before others have their turn
_WAITING: Final = 512  # letters to one inbox that is full
_AGAIN_SECONDS: Final = 0.01

Hear = Callable[[int, bytes], None]  # sender, body
Answer = Callable[[bytes], Awaitable[bytes]]


class Post:
    """The post of the worker in one seat."""

    def __init__(self, wires: Wires, board: Board, slot: int) -> None:
        self.slot = slot
        self.workers = wires.supervisor
        self.supervisor = wires.supervisor
        self._wires = wires
        self._board = board
        self._hearers: dict[str, list[Hear]] = {}
        self._answerers: dict[str, Answer] = {}
        self._questions: dict[int, tuple[int, asyncio.Future[bytes | None]]] = {}
        self._tickets = itertools.count(secrets.randbits(40))  # a predecessor's may still be answered
        self._unsent: dict[int, deque[Letter]] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on(DIED, self._died)

    def open(self) -> None:
        """Read the inbox from now on; needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._wires.inbox(self.slot).fileno(), self._readable)

    def on(self, kind: str, hear: Hear) -> None:
        """Have a function told of every letter of a kind."""
        self._hearers.setdefault(kind, []).append(hear)

    def answer(self, kind: str, answer: Answer) -> None:
        """Have questions of a kind answered."""
        self._answerers[kind] = answer

    def others(self) -> list[int]:
        """Return the seats where somebody else sits now."""
        return [slot for slot in range(self.workers) if slot != self.slot and self._board.row(slot).is_taken]

    # --- telling ---

    def tell(self, slot: int, kind: str, body: bytes = b"", ticket: int = 0) -> None:
        """Send a letter; nobody says whether it is read."""
        if len(body) > MAX_BODY_BYTES:
            _log.error("a letter is too long to be sent", kind=kind, size=len(body))
            return
        letter = Letter(self.slot, kind, body, ticket)
        waiting = self._unsent.get(slot)
        if waiting is None and self._wires.send(slot, letter):
            return
        waiting = self._unsent.setdefault(slot, deque(maxlen=_WAITING))
        waiting.append(letter)
        self._try_again()

    def tell_others(self, kind: str, body: bytes = b"") -> None:
        for slot in self.others():
            self.tell(slot, kind, body)

    def _try_again(self) -> None:
        if self._retry is None and self._loop is not None:
            self._retry = self._loop.call_later(_AGAIN_SECONDS, self._send_unsent)

    def _send_unsent(self) -> None:
        self._retry = None
        for slot, waiting in list(self._unsent.items()):
            while waiting and self._wires.send(slot, waiting[0]):
                waiting.popleft()
            if not waiting or not (slot == self.supervisor or self._board.row(slot).is_taken):
                del self._unsent[slot]
        if self._unsent:
            self._try_again()

    # --- asking ---

    async def ask(self, slot: int, kind: str, body: bytes = b"", *, timeout: float) -> bytes | None:
        """Ask one; None when he does not answer in time, or dies."""
        ticket = next(self._tickets)
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._questions[ticket] = slot, answer
        try:
            self.tell(slot, kind, body, ticket)
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._questions[ticket]

    async def ask_others(self, kind: str, body: bytes = b"", *, timeout: float) -> dict[int, bytes | None]:
        """Ask everybody else at once; None of whoever did not answer."""
        slots = self.others()
        answers = await asyncio.gather(*(self.ask(slot, kind, body, timeout=timeout) for slot in slots))
        return dict(zip(slots, answers, strict=True))

    def _died(self, sender: int, body: bytes) -> None:
        """Nobody waits for the answer of the dead."""
        for slot, answer in list(self._questions.values()):
            if slot == body[0] and not answer.done():
                answer.set_result(None)

    # --- hearing ---

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._take_one():
                return

    def drain(self) -> None:
        """Take what lies in the inbox, without waiting."""
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        letter = self._wires.receive(self.slot)
        if letter is None:
            return False
        if letter.kind == ANSWER:
            self._answered(letter)
        elif letter.kind in self._answerers:
            self._spawn(self._reply(letter, self._answerers[letter.kind]))
        for hear in self._hearers.get(letter.kind, ()):
            hear(letter.sender, letter.body)
        return True

    def _answered(self, letter: Letter) -> None:
        _, answer = self._questions.get(letter.ticket, (0, None))
        if answer is not None and not answer.done():
            answer.set_result(letter.body)

    async def _reply(self, letter: Letter, answer: Answer) -> None:
        try:
            body = await answer(letter.body)
        except Exception as error:
            _log.error("a question of another worker is not answered", kind=letter.kind, exc_info=error)
            return
        self.tell(letter.sender, ANSWER, body, letter.ticket)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Read no more; the inbox is the successor's."""
        if self._loop is not None:
            self._loop.remove_reader(self._wires.inbox(self.slot).fileno())
        if self._retry is not None:
            self._retry.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
