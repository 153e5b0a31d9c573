# SPDX-License-Identifier: Apache-2.0
"""The engine of the writers: it connects, sends the queue and reconnects."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Callable, List, Optional

from ._address import Address
from ._dial import Backoff, Dialer
from ._io import IO
from ._queue import SendQueue
from ._transport import Transport
from ._writer_link import Ending, WriterLink
from .errors import NotConnectedError, PossibleLossError, ProtocolError, SessionsUnsupportedError

logger = logging.getLogger("udsipc")
UNREAD_POLL = 0.005  # How often a flush asks the kernel whether the peer has read everything, in seconds.
HEAD_FAILURES = 3  # Plain connections in a row that end within the same message, before it is given up.
BRIEF = 1.0  # A connection that a peer ends earlier may be one of a program that is no reader, in seconds.


@dataclass(frozen=True)
class WriterOptions:
    """The options of an engine."""

    address: Address
    acknowledged: bool
    tls: Optional[ssl.SSLContext]
    server_name: Optional[str]
    dial_timeout: float
    max_backoff: float
    heartbeat_timeout: float
    on_error: Optional[Callable[[Exception], object]]
    on_undelivered: Optional[Callable[[bytes], object]]


class WriterEngine:
    """Runs in a thread or a task of its own. lock guards the queue and the fields that shells read."""

    def __init__(self, io: IO, queue: SendQueue, options: WriterOptions, lock: threading.RLock,
                 notify: Callable[[], None]) -> None:
        self.io = io
        self.queue = queue
        self.options = options
        self.lock = lock
        self.notify = notify  # Called with lock held, after every change that a shell may wait for.
        self.connected = False
        self.wanted = True  # A connection is wanted although the queue is empty; the first one always is.
        self.flushing = 0  # The shells that wait for the peer to read.
        self.all_read = False
        self.stopping = False
        self.stop_at: Optional[float] = None  # Drain until this time.
        self.done = False
        self.last_error: Optional[Exception] = None
        self.sleeping = True
        self._dialer = Dialer(io, options.address, options.tls, options.server_name, options.dial_timeout,
                              lambda: self.stop_at)
        self._backoff = Backoff(options.max_backoff)
        self._head: Optional[int] = None
        self._head_failures = 0
        self._silent_ends = 0
        self._brief_ends = 0

    def wake_if_sleeping(self) -> None:
        """Wake the engine, with lock held, if it may wait for this change."""
        if self.sleeping:
            self.sleeping = False
            self.io.wake()

    def begin_flush(self) -> None:
        """Have the engine find out whether the peer has read everything. lock is held, as in the next four."""
        self.flushing += 1
        self.all_read = False
        self.wake_if_sleeping()

    def flushed(self, position: int) -> bool:
        """Whether the messages up to this position are delivered, or lost."""
        if self.done:
            return True
        if not self.queue.done_up_to(position):
            return False
        return self.options.acknowledged or not self.connected or self.all_read

    def want_connection(self) -> None:
        """Connect although the queue is empty."""
        if not self.connected:
            self.wanted = True
            self.wake_if_sleeping()

    def stop(self, at: float) -> None:
        """Drain the queue until a time, then end."""
        if not self.stopping:
            self.stopping, self.stop_at = True, at
            self.sleeping = True
            self.wake_if_sleeping()

    async def run(self) -> None:
        """Serve the queue until the writer is closed."""
        try:
            while await self._until_wanted():
                try:
                    transport = await self._dialer.dial()
                except (OSError, ProtocolError, NotConnectedError) as e:
                    self._disconnected(e, False)
                else:
                    await self._serve(transport)
                self.return_undelivered()
        finally:
            with self.lock:
                self.connected = False
                self.done = True
                self.notify()
            self.io.close()

    def _expired(self) -> bool:
        return self.stopping and self.stop_at is not None and time.monotonic() >= self.stop_at

    async def _until_wanted(self) -> bool:
        """Wait for a reason to connect, and for the backoff. It returns False if the writer has to end."""
        until = time.monotonic() + self._backoff.delay()
        while True:
            with self.lock:
                now = time.monotonic()
                if self._expired() or self.stopping and not len(self.queue):
                    return False
                wanted = bool(len(self.queue)) or self.wanted
                if wanted and now >= until:
                    return True
                limits = [until] if wanted else []
                if self.stop_at is not None:
                    limits.append(self.stop_at)
                self.sleeping = True
            await self.io.wait(None, False, False, min(limits) - now if limits else None)

    async def _serve(self, transport: Transport) -> None:
        """Use one connection to its end."""
        began = time.monotonic()
        with self.lock:
            link = WriterLink(self.queue, self.options.acknowledged, self.options.heartbeat_timeout, began)
            self.queue.metrics.connections += 1
            self.wanted = False
        error: Optional[BaseException] = None
        try:
            await self._exchange(transport, link)
        except (OSError, ProtocolError) as e:
            error = e
        except BaseException:  # The task was cancelled.
            transport.close()
            with self.lock:
                link.close(Ending(NotConnectedError("the task was cancelled")))
            raise
        brief = time.monotonic() - began < BRIEF and not link.end.goodbye and not self.stopping
        with self.lock:
            aborted = self._expired()
        if error is None and aborted:
            error = NotConnectedError("the time limit of close has passed")
        ending = Ending(error, transport.eof_proves and not self._is_brief(brief), transport.unread_bound())
        transport.close()
        with self.lock:
            lost = link.close(ending)
        if lost:
            self.tell(PossibleLossError(lost, link.error or error))
        self._after(link, error)

    def _is_brief(self, brief: bool) -> bool:
        self._brief_ends = self._brief_ends + 1 if brief else 0
        return self._brief_ends > 1

    async def _exchange(self, transport: Transport, link: WriterLink) -> None:
        """Write and read until the end of file. It raises OSError or ProtocolError."""
        shut = broken = False
        while True:
            with self.lock:
                if self._expired():
                    return
                buffers = self._next(link, broken)
                self._set_connected(link)
            if self.queue.given_up:
                self.return_undelivered()
            if buffers:
                try:
                    n = transport.send(buffers)
                except BrokenPipeError:
                    broken, n = True, 0  # What the peer has sent before tells why.
                with self.lock:
                    if n:
                        link.sent(n, time.monotonic())
                        self.notify()
            if link.leaving and not shut:
                shut = True
                transport.shutdown_write()
            data = transport.receive()
            if data == b"":
                return
            with self.lock:
                if data:
                    link.received(data, time.monotonic())
                    self.notify()
                link.tick(time.monotonic())
                more = self._next(link, broken)
                blocked = bool(buffers) and not n
                if link.leaving and not shut or more and not blocked:
                    continue
                self.sleeping = True
                timeout = self._timeout(transport, link)
            await self.io.wait(transport.sock, True, bool(more) or transport.wants_write, timeout)

    def _next(self, link: WriterLink, broken: bool) -> List[memoryview]:
        """Return what to write next, with lock held. A closed writer leaves when all is delivered."""
        if self.stopping and link.drained and not link.leaving:
            link.leave()
        return [] if broken else link.to_send()

    def _set_connected(self, link: WriterLink) -> None:
        connected = link.welcomed or not link.acknowledged
        connected = connected and not link.leaving
        if connected != self.connected:
            self.connected = self.queue.metrics.connected = connected
            self.notify()

    def _timeout(self, transport: Transport, link: WriterLink) -> Optional[float]:
        """Return how long to wait for the connection, with lock held."""
        limits: List[float] = [t for t in (link.deadline(), self.stop_at) if t is not None]
        now = time.monotonic()
        if not link.acknowledged and self.flushing and link.drained:
            self.all_read = transport.unread() <= 0
            if self.all_read:
                link.read_by_peer()
                self.notify()
            else:
                limits.append(now + UNREAD_POLL)
        return min(limits) - now if limits else None

    def _after(self, link: WriterLink, error: Optional[BaseException]) -> None:
        """Decide when to reconnect, and whether the first message is at fault."""
        if link.progress:
            self._backoff.failures = self._silent_ends = 0
        if link.acknowledged and not link.answered and error is None:
            self._silent_ends += 1
            if self._silent_ends > 1:
                link.error = SessionsUnsupportedError("the reader has closed two connections without a welcome")
        with self.lock:
            self.queue.metrics.disconnects += 1
            oldest = self.queue.oldest()
            head = oldest.position if link.midway and oldest is not None else None
            self._head_failures = self._head_failures + 1 if head is not None and head == self._head else 1
            self._head = head
            if head is not None and self._head_failures >= HEAD_FAILURES:
                self.queue.give_up_head()
                self._head = None
        cause = link.error or (error if isinstance(error, Exception) else None)
        graceful = cause is None and (link.progress or link.welcomed or link.end.goodbye)
        self._disconnected(cause, graceful)

    def _disconnected(self, cause: Optional[Exception], graceful: bool) -> None:
        with self.lock:
            self.connected = self.queue.metrics.connected = False
            self.last_error = cause or self.last_error
            self.notify()
        if not graceful:
            self._backoff.failures += 1
        if cause is not None and (self._backoff.failures <= 1 or isinstance(cause, ProtocolError)):
            self.tell(cause)

    def tell(self, error: Exception) -> None:
        """Report an error to the program."""
        if self.options.on_error is None:
            logger.warning("udsipc writer %s: %s", self.options.address.text, error)
            return
        try:
            self.options.on_error(error)
        except Exception:
            logger.exception("udsipc: on_error has failed")

    def return_undelivered(self) -> None:
        """Call on_undelivered for the messages that were given up. It is called without lock."""
        with self.lock:
            given_up, self.queue.given_up = self.queue.given_up, []
            if given_up:
                self.notify()
        for message in given_up:
            if self.options.on_undelivered is None:
                continue
            try:
                self.options.on_undelivered(message)
            except Exception:
                logger.exception("udsipc: on_undelivered has failed")
