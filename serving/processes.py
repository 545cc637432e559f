"""Several processes behind one port: Python computes in one thread at a time, so each core gets an interpreter.

The parent holds the port, accepts connections and hands each, in turn, to a child; it parses nothing and imports
nothing that computes. Always true here: a connection goes to a child that is ready and has said so of late where
there is one, and waits where none can take it; a child that ends unasked is replaced, after growing pauses where the
replacement does not become ready, while another still serves; the program ends when it was told to, or when no child
can serve; children do not outlive their parent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["AT_ONCE", "ENDING", "READY", "supervised"]

_log = logging.getLogger(__name__)

READY = b"r"
"""What a child says on its control socket every second while it serves."""

ENDING = b"e"
"""What a child says there once it refuses new requests."""

AT_ONCE = b"!"
"""What the parent says there where a child that was told to end shall not wait for what it accepted."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_LONGEST_PAUSE = 30.0
_LAST_PAUSE = 4.0  # after which a process that was killed before it was ready is not tried again where it is alone
_ENOUGH = 28.0  # seconds from the wish to end until children are killed: the program ends in less than 30
_ACCEPTED_AT_ONCE = 64
_SILENT = 5.0  # seconds without a word after which a child is asked last
_TRY_AGAIN = 0.01

Serve = Callable[[int, socket.socket], int]
"""Serves in a child, given its number and its control socket; returns the exit code."""


@dataclass(eq=False)
class _Child:
    """One place for a process; ``control`` is None while there is none.

    Parameters
    ----------
    read_again
        It was told to read the bundles again before it could hear that.
    heard
        When it last said that it is ready, of `time.monotonic`.
    pause, due
        Seconds before the next start, and the time of `time.monotonic` at which it is.
    """

    number: int
    pid: int = 0
    control: socket.socket | None = None
    ready: bool = False
    heard: float = 0.0
    read_again: bool = False
    pause: float = 0.0
    due: float = 0.0


def supervised(listener: socket.socket, processes: int, serve: Serve) -> int:
    """Serve connections of ``listener`` with ``processes`` children until told to end; return the exit code.

    Called while there is one thread alone. The first SIGTERM or SIGINT is passed on as SIGTERM, a later one as
    `AT_ONCE`: whoever signals the whole group tells a child twice, and means it once. SIGHUP is passed on as it is.
    """
    return _Parent(listener, processes, serve).run()


class _Parent:
    def __init__(self, listener: socket.socket, processes: int, serve: Serve) -> None:
        self._listener, self._serve = listener, serve
        self._children = [_Child(number) for number in range(processes)]
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waker = socket.socketpair()
        self._waiting: socket.socket | None = None
        self._turn = 0
        self._code = 0
        self._is_ending = False
        self._kill_at = float("inf")

    def run(self) -> int:
        self._listener.setblocking(False)
        self._wakeup.setblocking(False)
        self._waker.setblocking(False)
        for one in _SIGNALS:
            signal.signal(one, _noted)
        signal.set_wakeup_fd(self._waker.fileno())
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._heed)
        self._on_time()
        while not self._is_ending or any(child.pid for child in self._children):
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._on_time()
        self._selector.close()
        self._listener.close()
        return self._code

    def _patience(self) -> float | None:
        """Return the seconds until something is due, None where only others can cause it."""
        times = [child.due for child in self._children if not child.pid and not self._is_ending]
        if self._waiting is not None:
            times.append(time.monotonic() + _TRY_AGAIN)
        soonest = min([*times, self._kill_at])
        return None if soonest == float("inf") else max(0.0, soonest - time.monotonic())

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._waiting is not None and self._is_handed_on(self._waiting):
            self._waiting.close()
            self._waiting = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        if now >= self._kill_at:
            self._kill_at = float("inf")
            _signal(self._children, signal.SIGKILL)
        elif not self._is_ending:
            for child in self._children:
                if not child.pid and child.due <= now and not self._is_ending:
                    self._start(child)

    def _start(self, child: _Child) -> None:
        try:
            child.control = self._forked(child)
        except OSError as error:  # no memory, no process or no file descriptor left for it
            _log.critical("a process could not be started", extra={"number": child.number, "reason": str(error)})
            self._put_off(child, 1)
            return
        self._selector.register(child.control, selectors.EVENT_READ, lambda: self._hear(child))

    def _forked(self, child: _Child) -> socket.socket:
        """Let ``child`` begin; return our end of its control socket."""
        ours, theirs = socket.socketpair()
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child no longer hears for the parent
        try:
            child.pid = os.fork()
            if child.pid == 0:
                ours.close()
                self._become(child, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        ours.setblocking(False)
        return ours

    def _become(self, child: _Child, control: socket.socket) -> None:
        """Serve as ``child``, and end; nothing of the parent's goes on in here."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for one in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(one, signal.SIG_DFL)
            for one in (signal.SIGINT, signal.SIGHUP):  # a terminal tells the whole group; the parent passes it on
                signal.signal(one, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._selector.close()
            inherited = [self._listener, self._wakeup, self._waker]
            for one_socket in [*inherited, *(other.control for other in self._children if other.control is not None)]:
                one_socket.close()
            code = self._serve(child.number, control)
        except BaseException:
            _log.critical("a process failed", extra={"number": child.number}, exc_info=True)
        finally:
            logging.shutdown()
            os._exit(code)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # a client that is gone already, or no file descriptor left
                _log.error("a connection could not be accepted", extra={"reason": str(error)})
                time.sleep(0.01)
                return
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._is_handed_on(connection):
                self._waiting = connection  # and whoever comes after it waits in the backlog
                self._selector.unregister(self._listener)
                return
            connection.close()

    def _is_handed_on(self, connection: socket.socket) -> bool:
        """Give ``connection`` to the next child, one that serves where there is one; False where none can take it."""
        self._turn += 1
        count = len(self._children)
        turns = [self._children[(self._turn + step) % count] for step in range(count)]
        now = time.monotonic()
        for child in sorted(turns, key=lambda child: (not child.ready, now - child.heard > _SILENT)):
            if child.control is not None:
                try:
                    socket.send_fds(child.control, [b"c"], [connection.fileno()])
                except OSError:  # it has just ended, or does not take what it is given
                    continue
                return True
        return False

    def _hear(self, child: _Child) -> None:
        control = child.control
        if control is None:
            return
        try:
            said = control.recv(64)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if READY in said:
            child.ready, child.heard, child.pause = True, time.monotonic(), 0.0
            if child.read_again:
                child.read_again = False
                _signal([child], signal.SIGHUP)
        if ENDING in said:
            child.ready = False
        if not said:
            self._let_go(child)

    def _let_go(self, child: _Child) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _heed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            heard = set(self._wakeup.recv(256))
            self._bury()  # whatever was heard: a signal may be lost where there are many
            if signal.SIGHUP in heard:
                self._read_again()
            if heard & {signal.SIGTERM, signal.SIGINT}:
                self._end()

    def _read_again(self) -> None:
        for child in self._children:
            child.read_again = not child.ready
        _signal((child for child in self._children if child.ready), signal.SIGHUP)

    def _end(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            self._kill_at = time.monotonic() + _ENOUGH
            _signal(self._children, signal.SIGTERM)
            return
        for child in self._children:
            if child.control is not None:
                with contextlib.suppress(OSError):
                    child.control.send(AT_ONCE)

    def _bury(self) -> None:
        for child in self._children:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        was_ready, pid = child.ready, child.pid
        child.pid, child.ready, child.read_again = 0, False, False
        self._let_go(child)
        if self._is_ending:
            cut_short = code == -signal.SIGTERM and not was_ready
            self._code = self._code if code == 0 or cut_short else 1
            return
        if was_ready or code == 0:  # or it was told to end by somebody else
            child.due = time.monotonic()
        else:
            self._put_off(child, code)
        if self._is_ending:
            return
        why = {"number": child.number, "pid": pid, "code": code, "again_in_seconds": child.pause}
        _log.critical("a process ended by itself; another is started", extra=why)

    def _put_off(self, child: _Child, code: int) -> None:
        """Start ``child``, which did not become ready, after a longer pause.

        Where there is no other, end if it said that it cannot serve, or was killed again and again.
        """
        is_hopeless = code > 0 or child.pause >= _LAST_PAUSE
        if is_hopeless and not any(other.pid for other in self._children):
            self._is_ending, self._code = True, max(code, 1)
        child.pause = min(_LONGEST_PAUSE, max(1.0, 2 * child.pause))
        child.due = time.monotonic() + child.pause


def _signal(children: Iterable[_Child], wanted: signal.Signals) -> None:
    for child in children:
        if child.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, wanted)


def _noted(number: int, frame: object) -> None:
    """Let the signal wake the parent by its file descriptor, which says which it was."""
