"""The supervisor of several workers: their sockets, their processes, their end.

Knows when a worker is started, replaced, reloaded and stopped. Must not know what a worker is made of. It has
neither an event loop nor a thread, so that it may fork at any time: a worker is there in milliseconds, and
shares the memory of the code with the others. All it waits for are signals and letters.

It keeps every socket open. So the queue of a worker that died lives on, and whoever takes its seat serves it.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
import structlog

from isr_proxy.coord.board import Board
from isr_proxy.coord.placard import Placard
from isr_proxy.coord.post import ANSWER, DIED
from isr_proxy.coord.wires import Letter, Wires
from isr_proxy.core.settings import Settings, UnixAddress
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.origin.client import Client
from isr_proxy.run import backoff, foundations
from isr_proxy.run.listeners import contexts_of, shown
from isr_proxy.run.seated import forked
from isr_proxy.run.share import ADOPT, CUT, GIVE_BACK, LEAVING, READY, RELOAD, Share, for_successors
from isr_proxy.run.sockets import BACKLOG, SocketFile, bind, bind_shared
from isr_proxy.serve.admin import Reloaded

_log = structlog.get_logger("isr_proxy.supervisor")

Load = Callable[[], Settings]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_STOP_SECONDS: Final = 40.0  # a worker's own drain, and something more
_CUT_SECONDS: Final = 5.0
_RELOAD_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 0.02
_UNSENT: Final = 256


@dataclass(slots=True)
class _Chair:
    """One seat as the supervisor sees it."""

    pid: int = 0
    incarnation: int = 0  # of who sits there
    deaths: tuple[float, ...] = ()
    starts_at: float = math.inf  # when the next one is to be started
    is_ready: bool = False
    is_leaving: bool = False
    adopter: int | None = None  # the seat whose worker serves this one's queue meanwhile

    @property
    def serves(self) -> bool:
        return self.is_ready and not self.is_leaving


@dataclass(slots=True)
class _Reload:
    """A reload under way: who has not answered yet, and what the others said."""

    pending: set[int]
    ends_at: float
    asker: tuple[int, int] | None  # worker and ticket; None: a signal
    said: Reloaded = field(default_factory=Reloaded)


class Host:
    """All workers of one config."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self._settings = settings
        self._load = load
        self._chairs = [_Chair() for _ in range(settings.workers)]
        self._share: Share
        self._files: list[SocketFile] = []
        self._selector = selectors.DefaultSelector()
        self._started = 0
        self._has_served = False
        self._reload: _Reload | None = None
        self._waiting: list[tuple[int, int] | None] = []  # reloads that are asked for meanwhile
        self._ends_at: float | None = None  # when whoever still runs is killed
        self._code = 0
        self._unsent: dict[int, deque[Letter]] = {}  # by seat: its inbox was full
        self.urls: tuple[str, ...] = ()
        self.admin_url = ""

    # --- from start to end ---

    def run(self) -> int:
        """Serve until stopped; returns the exit code. StoreError, OSError or ConfigError: it cannot start."""
        contexts_of(self._settings.listen)
        self._open()
        reading, writing = os.pipe()
        wake_read, wake_write = socket.socketpair()
        try:
            self._share = self._lay(reading)
            self._hear_signals(wake_read, wake_write)
            self._forget = _forgetting(self._selector, writing, wake_read, wake_write)
            gc.freeze()  # what is there now is never collected: its memory stays shared
            for slot in range(len(self._chairs)):
                self._start(slot)
            while any(chair.pid or chair.starts_at < math.inf for chair in self._chairs):
                self._wait()
                self._act()
            return self._code
        finally:
            self._close()

    def _open(self) -> None:
        """Bind every address, for all seats."""
        settings = self._settings
        seats: list[list[list[socket.socket]]] = [[] for _ in self._chairs]
        admin: list[socket.socket] = []
        board, wires = Board.make(), Wires(settings.workers)
        self._share = Share(0, _now(), 0, board, wires, seats, admin, None, [], Placard("config"), -1)
        try:
            urls = []
            for address in settings.listen:
                bound = bind_shared(address, settings.workers)
                for seat, sockets in zip(seats, bound, strict=True):
                    seat.append(sockets)
                if isinstance(address, UnixAddress):
                    self._files.append(SocketFile(address.path))
                urls.append(shown(address, bound[0][0].getsockname()))
            admin += bind(settings.admin.listen)
            if isinstance(settings.admin.listen, UnixAddress):
                self._files.append(SocketFile(settings.admin.listen.path))
        except BaseException:
            self._close_sockets()
            raise
        self.urls, self.admin_url = tuple(urls), shown(settings.admin.listen, admin[0].getsockname())

    def _lay(self, lifeline: int) -> Share:
        share = self._share
        claim = foundations.claim_for_all(self._settings.store, _now, share)
        for sockets in (*(each for seat in share.listen for each in seat), share.admin):
            for sock in sockets:
                sock.listen(BACKLOG)
        counts = [Placard(f"counts-{slot}") for slot in range(len(self._chairs))]
        return replace(share, claim=claim, counts=counts, lifeline=lifeline)

    def _hear_signals(self, reading: socket.socket, writing: socket.socket) -> None:
        reading.setblocking(False)
        writing.setblocking(False)
        self._signals = reading
        for number in _SIGNALS:
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ)
        inbox = self._share.wires.inbox(self._share.wires.supervisor)
        self._selector.register(inbox, selectors.EVENT_READ)

    def _close_sockets(self) -> None:
        self._share.close_sockets()
        for file in self._files:
            file.remove()

    def _close(self) -> None:
        self._close_sockets()
        for chair in self._chairs:
            if chair.pid:
                os.kill(chair.pid, signal.SIGKILL)
                os.waitpid(chair.pid, 0)
        if self._share.claim is not None:
            foundations.release(self._settings.store, self._share, self._share.claim)

    # --- waiting ---

    def _wait(self) -> None:
        """Wait for a signal, a letter, or the next thing that is due."""
        due = [chair.starts_at for chair in self._chairs]
        due.append(math.inf if self._ends_at is None else self._ends_at)
        due.append(math.inf if self._reload is None else self._reload.ends_at)
        due.append(time.monotonic() + _AGAIN_SECONDS if self._unsent else math.inf)
        seconds = min(due) - time.monotonic()
        self._selector.select(None if seconds == math.inf else max(0.0, seconds))

    def _act(self) -> None:
        for number in self._signals_received():
            self._signalled(number)
        self._bury()
        while (letter := self._share.wires.receive(self._share.wires.supervisor)) is not None:
            self._heard(letter)
        self._send_unsent()
        now = time.monotonic()
        for slot, chair in enumerate(self._chairs):
            if chair.starts_at <= now:
                self._start(slot)
        if self._reload is not None and self._reload.ends_at <= now:
            self._end_reload()
        if self._ends_at is not None and self._ends_at <= now:
            self._kill()

    def _signals_received(self) -> bytes:
        try:
            return self._signals.recv(64)
        except BlockingIOError:
            return b""

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGHUP:
                self._begin_reload(None)
            case signal.SIGTERM | signal.SIGINT if self._ends_at is None:
                _log.info("draining")
                self._stop()
            case signal.SIGTERM | signal.SIGINT:
                self._tell_all(CUT)
                self._ends_at = time.monotonic() + _CUT_SECONDS
            case _:
                pass

    def _heard(self, letter: Letter) -> None:
        chair = self._chairs[letter.sender]
        if letter.kind == READY and letter.ticket == chair.incarnation:
            self._ready(letter.sender, chair)
        elif letter.kind == LEAVING and letter.ticket == chair.incarnation:
            chair.is_leaving = True
            self._find_adopters()
        elif letter.kind == RELOAD:
            self._begin_reload((letter.sender, letter.ticket))
        elif letter.kind == ANSWER and self._reload is not None and letter.ticket == _ticket(self._reload):
            self._reloaded(letter.sender, letter.body)

    # --- workers ---

    def _start(self, slot: int) -> None:
        chair, row = self._chairs[slot], self._share.board.row(slot)
        self._started += 1
        share = replace(self._share, slot=slot, incarnation=self._started)
        chair.incarnation, chair.starts_at = self._started, math.inf
        row.take()
        # What a signal would do before the child has let go of our handlers, it must not do here.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            chair.pid = forked(self._settings, share, self._forget)
        except OSError as error:
            row.leave()
            chair.starts_at = time.monotonic() + backoff.LONGEST_PAUSE
            _log.error("a worker cannot be started", worker=slot, error=str(error))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _ready(self, slot: int, chair: _Chair) -> None:
        chair.is_ready = True
        if chair.adopter is not None:
            self._tell(chair.adopter, GIVE_BACK, bytes([slot]))
            chair.adopter = None
        if not self._has_served and all(chair.is_ready for chair in self._chairs):
            self._has_served = True
            workers, path = len(self._chairs), self._settings.store.path
            _log.info("serving", urls=list(self.urls), admin=self.admin_url, store=path, workers=workers)

    def _bury(self) -> None:
        """See who has ended, and why."""
        for slot, chair in enumerate(self._chairs):
            if chair.pid:
                pid, status = os.waitpid(chair.pid, os.WNOHANG)
                if pid:
                    self._ended(slot, chair, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: int, chair: _Chair, code: int) -> None:
        pid, chair.pid, was_ready = chair.pid, 0, chair.is_ready
        chair.is_ready = chair.is_leaving = False
        board, now = self._share.board, time.monotonic()
        board.row(slot).leave()
        if code:  # it may have changed a page and not have said so
            foundations.doubt(board)
        self._tell_all(DIED, bytes([slot]))
        if self._reload is not None:
            self._answered(self._reload, slot)
        if self._ends_at is not None:
            self._code = self._code or int(code not in (0, -signal.SIGTERM))
            return
        if not was_ready and not self._has_served:
            self._code = 1
            self._stop()
            return
        board.restarts += 1
        chair.deaths = (*backoff.remembered(chair.deaths, now), now)
        pause = backoff.pause(chair.deaths, now)
        chair.starts_at = now + pause
        self._find_adopters()
        _log.error("a worker ended and is replaced", worker=slot, pid=pid, code=code, pause=pause)

    def _find_adopters(self) -> None:
        """Have somebody serve the queues of empty seats, and of those whose worker takes nobody any more."""
        serving = [slot for slot, chair in enumerate(self._chairs) if chair.serves]
        if self._ends_at is not None or not serving:
            return
        for slot, chair in enumerate(self._chairs):
            if not chair.serves and chair.adopter not in serving:
                chair.adopter = serving[slot % len(serving)]
                self._tell(chair.adopter, ADOPT, bytes([slot]))

    def _tell_all(self, kind: str, body: bytes = b"", ticket: int = 0) -> None:
        for slot, chair in enumerate(self._chairs):
            if chair.pid:
                self._tell(slot, kind, body, ticket)

    def _tell(self, slot: int, kind: str, body: bytes, ticket: int = 0) -> None:
        wires = self._share.wires
        letter = Letter(wires.supervisor, kind, body, ticket)
        if slot in self._unsent or not wires.send(slot, letter):
            self._unsent.setdefault(slot, deque(maxlen=_UNSENT)).append(letter)

    def _send_unsent(self) -> None:
        for slot, letters in list(self._unsent.items()):
            while letters and self._share.wires.send(slot, letters[0]):
                letters.popleft()
            if not letters or not self._chairs[slot].pid:
                del self._unsent[slot]

    def _stop(self) -> None:
        """Let nobody in any more, and have every worker drain."""
        self._ends_at = time.monotonic() + _STOP_SECONDS
        for chair in self._chairs:
            chair.starts_at = math.inf
            if chair.pid:
                os.kill(chair.pid, signal.SIGTERM)
        self._close_sockets()

    def _kill(self) -> None:
        self._ends_at = time.monotonic() + _CUT_SECONDS
        for slot, chair in enumerate(self._chairs):
            if chair.pid:
                _log.error("a worker did not end in time and is killed", worker=slot)
                os.kill(chair.pid, signal.SIGKILL)

    # --- reloading ---

    def _begin_reload(self, asker: tuple[int, int] | None) -> None:
        """Read the config; if nothing is wrong with it, have every worker take it."""
        if self._reload is not None:
            self._waiting.append(asker)
            return
        try:
            settings = self._load()
            contexts_of(settings.listen)
            Client(settings.origin)  # its certificates
        except ConfigError as error:
            self._refuse(asker, error.problems)
            return
        except OSError as error:
            self._refuse(asker, (Problem("", 1, 1, "", str(error)),))
            return
        self._settings = for_successors(settings, self._settings)
        self._share.settings.write(pickle.dumps(settings))
        alive = {slot for slot, chair in enumerate(self._chairs) if chair.pid}
        self._reload = _Reload(alive, time.monotonic() + (_RELOAD_SECONDS if alive else 0.0), asker)
        self._tell_all(RELOAD, ticket=_ticket(self._reload))

    def _refuse(self, asker: tuple[int, int] | None, problems: tuple[Problem, ...]) -> None:
        _log.error("config not reloaded, the old one stays", problems=[str(one) for one in problems])
        self._reply(asker, Reloaded(problems=problems))

    def _reloaded(self, slot: int, body: bytes) -> None:
        assert self._reload is not None, "an answer is to a reload"
        said = msgspec.json.decode(body, type=Reloaded)
        if said.problems:
            _log.error(
                "a worker keeps its old config", worker=slot, problems=[str(one) for one in said.problems]
            )
        if said.problems or not self._reload.said.problems:
            self._reload.said = said
        self._answered(self._reload, slot)

    def _answered(self, reload: _Reload, slot: int) -> None:
        reload.pending.discard(slot)
        if not reload.pending:
            self._end_reload()

    def _end_reload(self) -> None:
        assert self._reload is not None, "one is under way"
        reload, self._reload = self._reload, None
        if reload.pending:
            _log.error("workers have not reloaded in time", workers=sorted(reload.pending))
        self._reply(reload.asker, reload.said)
        if self._waiting:
            self._begin_reload(self._waiting.pop(0))

    def _reply(self, asker: tuple[int, int] | None, said: Reloaded) -> None:
        if asker is not None:
            slot, ticket = asker
            self._tell(slot, ANSWER, msgspec.json.encode(said), ticket)


def _now() -> float:
    return time.time()  # noqa: TID251  the one wall clock of the supervisor


def _ticket(reload: _Reload) -> int:
    return int(reload.ends_at * 1000)


def _forgetting(
    selector: selectors.BaseSelector, lifeline: int, reading: socket.socket, writing: socket.socket
) -> Callable[[], None]:
    """Return what a forked worker does first: let go of what is the supervisor's alone."""

    def forget() -> None:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(lifeline)
        selector.close()
        reading.close()
        writing.close()

    return forget
