# SPDX-License-Identifier: Apache-2.0
"""The blocking Reader."""

from __future__ import annotations

import ssl
import threading
import time
from types import TracebackType
from typing import Any, Callable, Coroutine, Optional, Type

from ._address import parse_address
from ._dial import check_encryption
from ._io import IO, BlockingIO, drive
from ._peer import Authorizer, Delivery
from ._reader_handling import ReaderOptions
from ._reader_engine import ReaderEngine, ReaderMetrics
from ._states import WriterStates
from .errors import StoppedError
from .wire import DEFAULT_LIMIT, MAX_LIMIT


class ReaderBase:
    """The options of a Reader and an AsyncReader, and their checks.

    handler gets each message. Those of one connection come one after another, those of different
    connections at once. If it raises an exception, a message of a session is delivered again, up to
    max_redeliveries times; then dead_letter gets it with the exception. A plain message is not repeated.

    mode is that of the socket file. authorizer decides who may connect. systemd_name selects one of several
    sockets that systemd passes. states keeps what is known of writers; a program that closes a Reader
    and opens another one passes it on. tls is a context of the server side; plaintext allows TCP beyond this
    machine without one. Timeouts are in seconds, 0 for none. on_error is called with each problem, from any
    thread of the Reader; without it, problems are logged (logger "udsipc").
    """

    def __init__(self, address: str, handler: Callable[[Delivery], Any], *,
                 max_message_size: int = DEFAULT_LIMIT, mode: int = 0o600,
                 authorizer: Optional[Authorizer] = None, tls: Optional[ssl.SSLContext] = None,
                 plaintext: bool = False, systemd_name: Optional[str] = None,
                 states: Optional[WriterStates] = None, max_connections: int = 1024,
                 inactivity_timeout: float = 10.0, first_message_timeout: float = 10.0,
                 message_timeout: float = 30.0, handshake_timeout: float = 5.0,
                 heartbeat_timeout: float = 10.0, max_redeliveries: int = 3,
                 dead_letter: Optional[Callable[[Delivery, Exception], Any]] = None, close_timeout: float = 5.0,
                 on_error: Optional[Callable[[Exception], object]] = None) -> None:
        if not 1 <= max_message_size <= MAX_LIMIT:
            raise ValueError(f"max_message_size is {max_message_size}, must be 1 to {MAX_LIMIT}")
        timeouts = (inactivity_timeout, first_message_timeout, message_timeout, heartbeat_timeout, close_timeout)
        if min(timeouts) < 0 or handshake_timeout <= 0 or max_connections < 1 or max_redeliveries < 0:
            raise ValueError("a timeout, max_connections or max_redeliveries is negative or 0")
        if not 0 <= mode <= 0o777:
            raise ValueError(f"mode is {mode:o}")
        self._close_timeout = close_timeout
        parsed = parse_address(address)
        check_encryption(parsed, tls, plaintext)
        options = ReaderOptions(handler, max_message_size, tls, authorizer, max_connections, inactivity_timeout,
                                first_message_timeout, message_timeout, handshake_timeout, heartbeat_timeout,
                                max_redeliveries, dead_letter)
        self.states = WriterStates() if states is None else states
        self._engine = ReaderEngine(parsed, options, self.states, self._spawn, mode, systemd_name, on_error)
        self._sockname: Any = None

    def _spawn(self, function: Callable[[IO], Coroutine[Any, Any, None]], name: str) -> None:
        """Run a coroutine function beside the others."""
        raise NotImplementedError

    @property
    def address(self) -> Any:
        """The address of the listening socket, as socket.getsockname returns it."""
        return self._sockname

    def metrics(self) -> ReaderMetrics:
        """Return a copy of the metrics."""
        return self._engine.snapshot()

    def _check_end(self) -> None:
        busy = self._engine.busy
        if busy:
            raise StoppedError(f"{busy} connections were ended by force")


class Reader(ReaderBase):
    """Accepts the connections of writers, and passes their messages to a handler.

    The options are those of ReaderBase. start listens; a Reader has a thread for each connection, in
    which the handler runs.
    """

    _ended: Optional[threading.Event] = None

    def _spawn(self, function: Callable[[IO], Coroutine[Any, Any, None]], name: str) -> None:
        io = BlockingIO()
        try:
            threading.Thread(target=lambda: drive(function(io)), daemon=True, name=f"udsipc reader {name}").start()
        except BaseException:
            io.close()
            raise

    def start(self) -> Reader:
        """Listen and begin to accept. SocketInUseError: another process listens at the address."""
        io = BlockingIO()
        try:
            self._sockname = drive(self._engine.start(io))
        except BaseException:
            io.close()
            raise
        ended = threading.Event()

        def serve() -> None:
            try:
                drive(self._engine.run(io))
            finally:
                ended.set()

        # Its end is an event: a join that ^C interrupts may take the thread for ended (bugs.python.org/issue45274).
        self._ended = ended
        threading.Thread(target=serve, daemon=True, name=f"udsipc reader {self._engine.address.text}").start()
        return self

    def run(self) -> None:
        """Start, and serve until close is called or the thread is interrupted, as by ^C."""
        self.start()
        try:
            if self._ended is not None:
                self._ended.wait()
        finally:
            self.close()

    def close(self, timeout: Optional[float] = None) -> None:
        """Handle all messages that were sent, and end the connections, within the time limit.

        Afterwards connections are ended by force, and StoppedError tells it; handlers are not waited for.
        """
        if self._ended is None:
            return
        self._engine.stop(time.monotonic() + (self._close_timeout if timeout is None else timeout))
        self._ended.wait()
        self._check_end()

    def __enter__(self) -> Reader:
        return self if self._ended is not None else self.start()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.close()
