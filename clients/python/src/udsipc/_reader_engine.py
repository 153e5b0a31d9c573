# SPDX-License-Identifier: Apache-2.0
"""The engine of the readers: it accepts connections and stops them."""

from __future__ import annotations

import errno
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Coroutine, Dict, List, Optional

from ._address import Address
from ._io import IO
from ._listen import Listener, listen
from ._reader_conn import ReaderConnection
from ._reader_handling import Handling, ReaderOptions
from ._reader_link import ACK_INTERVAL
from ._states import WriterStates
from ._transport import Transport

logger = logging.getLogger("udsipc")
ACCEPT_PAUSE = 0.1  # After an accept error such as EMFILE, in seconds.
MAX_REFUSED = 256  # Connections over max_connections that are told so; others are closed without a word.


@dataclass
class ReaderMetrics:
    """What has happened to the messages and connections of a reader."""

    received: int = 0  # Messages that a handler got, each counted once.
    bytes_received: int = 0
    redelivered: int = 0  # Handler calls with Delivery.redelivered.
    duplicates_suppressed: int = 0  # Handled messages that writers would have sent again.
    handler_errors: int = 0
    dead_letters: int = 0
    too_large: int = 0
    truncated: int = 0  # Connections that ended within a message.
    discarded: int = 0  # Messages of plain connections that a forced stop came before.
    accepted: int = 0  # Connections.
    connections: int = 0  # That are open.
    sessions: int = 0
    refused: int = 0  # Connections over max_connections.
    unauthorized: int = 0
    handshake_errors: int = 0
    protocol_errors: int = 0
    too_slow: int = 0
    idle_closed: int = 0
    accept_errors: int = 0


Spawn = Callable[[Callable[[IO], Coroutine[Any, Any, None]], str], None]


class ReaderEngine:
    """Accepts connections. spawn runs a coroutine function in a thread or a task of its own.

    lock guards the writer states and the table of connections.
    """

    def __init__(self, address: Address, options: ReaderOptions, states: WriterStates, spawn: Spawn, mode: int,
                 systemd_name: Optional[str], on_error: Optional[Callable[[Exception], object]]) -> None:
        self.address = address
        self.options = options
        self.states = states
        self.metrics = ReaderMetrics()
        self.lock = threading.RLock()
        self.stopping = False
        self.stop_at: Optional[float] = None
        self._spawn = spawn
        self._mode = mode
        self._systemd_name = systemd_name
        self._on_error = on_error
        self._open: Dict[int, ReaderConnection] = {}
        self._listener: Optional[Listener] = None
        self._io: Optional[IO] = None
        self._ticker: Optional[IO] = None
        self._ticking = False  # The ticker wakes by itself soon.

    async def start(self, io: IO) -> Any:
        """Listen. It returns the address of the socket."""
        sockaddr: object = None
        if self.address.is_tcp:
            sockaddr = (await io.resolve(self.address.host, self.address.port, True))[0][4]
        self._listener = listener = listen(self.address, self._mode, self._systemd_name, sockaddr)
        try:
            self._spawn(self._tick, "ticker")
        except BaseException:
            listener.remove_file()
            listener.sock.close()
            raise
        return listener.sock.getsockname()

    def stop(self, at: float) -> None:
        """Stop gracefully until a time, then by force."""
        with self.lock:
            if not self.stopping or self.stop_at is None or at < self.stop_at:
                self.stopping, self.stop_at = True, at
            if self._io is not None:
                self._io.wake()

    async def run(self, io: IO) -> None:
        """Accept connections until stop, then end them all. start was called before."""
        listener = self._listener
        assert listener is not None
        self._io = io
        try:
            while not self.stopping:
                if not self._accept_all(listener):
                    await io.wait(None, False, False, ACCEPT_PAUSE)
                await io.wait(listener.sock, True, False, None)
            if listener.refuse():
                self._accept_all(listener)  # The backlog.
        finally:
            self.stopping = True
            self.stop_at = self.stop_at or time.monotonic()
            listener.remove_file()
            listener.sock.close()
        await self._end_connections(io)

    async def _end_connections(self, io: IO) -> None:
        for connection in self._connections():
            connection.stop(False)
        while self._connections():
            now = time.monotonic()
            if self.stop_at is not None and now >= self.stop_at:
                break
            await io.wait(None, False, False, None if self.stop_at is None else self.stop_at - now)
        for connection in self._connections():
            connection.stop(True)
        with self.lock:
            self._io = None
            if self._ticker is not None:
                self._ticker.wake()
        io.close()

    def _connections(self) -> List[ReaderConnection]:
        with self.lock:
            return list(self._open.values())

    @property
    def busy(self) -> int:
        """The number of connections that are open."""
        with self.lock:
            return len(self._open)

    def _accept_all(self, listener: Listener) -> bool:
        """Accept what waits. It returns False after an error that needs a pause."""
        while True:
            try:
                sock, _ = listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return True
            except OSError as e:
                if e.errno == errno.EINVAL and self.stopping:
                    return True
                self.metrics.accept_errors += 1
                self.tell(e)
                return False
            self.metrics.accepted += 1
            with self.lock:
                full = len(self._open) >= self.options.max_connections
                if len(self._open) >= self.options.max_connections + MAX_REFUSED:
                    sock.close()
                    self.metrics.refused += 1
                    continue
            self.metrics.refused += full
            number = self.metrics.accepted
            try:
                transport = Transport(sock, self.options.tls, server_side=True)
            except OSError as e:
                sock.close()
                self.tell(e)
                continue
            if not self._serve(transport, number, full):
                return False

    def _serve(self, transport: Transport, number: int, refused: bool) -> bool:
        """Have a connection served. It returns False if there is no thread or descriptor for that."""
        connection = ReaderConnection(self, transport, number, refused)

        async def serve(io: IO) -> None:
            try:
                await connection.run(io)
            finally:
                with self.lock:
                    del self._open[number]
                    if self.stopping and self._io is not None:
                        self._io.wake()

        with self.lock:
            self._open[number] = connection
        try:
            self._spawn(serve, f"connection {number}")
        except (OSError, RuntimeError) as e:
            with self.lock:
                del self._open[number]
            transport.close()
            self.metrics.accept_errors += 1
            self.tell(e)
            return False
        return True

    def handler_began(self, connection: Handling) -> None:
        """Have the ticker look after a connection whose handler may be slow."""
        if connection.link.welcomed and not self._ticking and self._ticker is not None:
            self._ticking = True
            self._ticker.wake()

    async def _tick(self, io: IO) -> None:
        """Acknowledge and send heartbeats while handlers run."""
        self._ticker = io
        try:
            while not (self.stopping and self._io is None):
                self._ticking = any(c.busy and c.link.welcomed for c in self._connections())
                await io.wait(None, False, False, ACK_INTERVAL if self._ticking else None)
                now = time.monotonic()
                for connection in self._connections():
                    if connection.link.welcomed:
                        connection.tick(now)
        finally:
            with self.lock:
                self._ticker = None
            io.close()

    def tell(self, error: Exception) -> None:
        """Report an error to the program."""
        if self._on_error is None:
            logger.warning("udsipc reader %s: %s", self.address.text, error)
            return
        try:
            self._on_error(error)
        except Exception:
            logger.exception("udsipc: on_error has failed")

    def snapshot(self) -> ReaderMetrics:
        """Return a copy of the metrics."""
        with self.lock:
            return replace(self.metrics, connections=len(self._open))
