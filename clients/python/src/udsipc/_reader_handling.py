# SPDX-License-Identifier: Apache-2.0
"""What a connection of a reader does with messages: handlers, redelivery, acknowledgements."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional

from . import wire
from ._io import IO
from ._peer import Authorizer, Delivery, Peer
from ._reader_link import ACK_INTERVAL, ReaderLink
from ._states import Claim
from ._transport import Transport
from .errors import HandlerError, ProtocolError, RejectedError
from .session import OLD_EPOCH, Hello
from .wire import TooLarge

if TYPE_CHECKING:
    from ._reader_engine import ReaderEngine

YIELD_MESSAGES = 256  # After that many, an event loop runs other tasks.


@dataclass(frozen=True)
class ReaderOptions:
    """The options of the connections of a reader."""

    handler: Callable[[Delivery], object]
    limit: int
    tls: Optional[ssl.SSLContext]
    authorizer: Optional[Authorizer]
    max_connections: int
    inactivity_timeout: float
    first_message_timeout: float
    message_timeout: float
    handshake_timeout: float
    heartbeat_timeout: float
    max_redeliveries: int
    dead_letter: Optional[Callable[[Delivery, Exception], object]]


class Handling:
    """Passes the messages of one connection to the handler.

    lock guards the link and the transport; it is not held while a handler runs.
    """

    def __init__(self, engine: ReaderEngine, transport: Transport, number: int, refused: bool) -> None:
        self.engine = engine
        self.io: IO
        self.options = engine.options
        self.metrics = engine.metrics
        self.transport = transport
        self.link = ReaderLink(self.options.limit, self.options.heartbeat_timeout, time.monotonic())
        self.lock = threading.Lock()
        self.busy = False  # A handler runs.
        self.reason: Optional[int] = wire.TOO_MANY if refused else None  # Why the reader ends the connection.
        self.forced = False
        self._peer = Peer(number)
        self._claim: Optional[Claim] = None
        self._fenced = False
        self._running = False
        self._number = number
        self._half_closed = False
        self._linger_began = self._linger_bytes = 0.0

    def fence(self) -> None:
        """Handle no further message: a newer connection of the writer waits for the state."""
        self._fenced = True
        self._wake()

    def stop(self, forced: bool) -> None:
        """End the connection: gracefully, or at once."""
        if self.reason is None:
            self.reason = wire.GRACEFUL
        self.forced = self.forced or forced
        self._wake()

    def _wake(self) -> None:
        if self._running:
            self.io.wake()

    def tick(self, now: float) -> None:
        """Acknowledge while a handler is slow. It is called from another thread or task."""
        if self.busy and self.lock.acquire(blocking=False):
            try:
                self.link.acknowledge(now)
                self.link.heartbeat(now)
                self._write(now)
            except OSError:
                pass  # The next read tells it.
            finally:
                self.lock.release()

    async def _handle_all(self) -> None:
        """Handle what has been received."""
        count, since = 0, time.monotonic()
        while not self._fenced and not self.forced:
            now = time.monotonic()
            event = self.link.next(now)
            if event is None:
                return
            if isinstance(event, Hello):
                if not await self._greet(event):
                    return
            elif isinstance(event, TooLarge):
                self.metrics.too_large += 1
                self.reason = wire.TOO_LARGE
                self.engine.tell(RejectedError(wire.TOO_LARGE, self.link.limit))
            elif await self._handle(event) and self.link.welcomed:
                if self.link.done(len(event)) or now - since > ACK_INTERVAL:
                    since = now
                    with self.lock:
                        self.link.acknowledge(now)
                        self._write(now)
            count += 1
            if count % YIELD_MESSAGES == 0:
                await self.io.pause()

    async def _greet(self, hello: Hello) -> bool:
        """Answer a hello. It returns False if the session is rejected."""
        if self.reason is not None:
            return False
        with self.engine.lock:
            key = (self._peer.identity, hello.writer)
            claim = self.engine.states.claim(key, hello, self, self.io.wake)
        acquired = False
        while claim is not None and not acquired:
            with self.engine.lock:
                if claim.outdated:
                    break
                acquired = claim.acquire()
            if not acquired:
                now = time.monotonic()
                if self.reason is not None:
                    return False
                self.link.heartbeat(now)
                self._write(now)
                due = self.link.heartbeat_at()
                await self.io.wait(None, False, False, None if due is None else due - now)
        if claim is None or not acquired:
            self.link.reject(OLD_EPOCH)
            raise ProtocolError("a hello with an old epoch")
        self._claim = claim
        self.metrics.sessions += 1
        self.metrics.duplicates_suppressed += claim.duplicates
        self.link.welcome(claim.base, time.monotonic())
        return True

    async def _handle(self, data: bytes) -> bool:
        """Pass a message to the handler, in a session again if it fails. It returns False if it was cut short."""
        claim, hello = self._claim, self.link.session
        seq = self.link.handled + 1 if claim is not None else self.link.read
        redelivered = claim is not None and seq <= claim.maybe_handled
        delivery = Delivery(data, self._peer, hello.writer if hello is not None else None, seq, redelivered)
        self.metrics.received += 1
        tries = 1 + (self.options.max_redeliveries if claim is not None else 0)
        self.busy = True
        self.engine.handler_began(self)
        try:
            for attempt in range(tries):
                delivery.redelivered = redelivered or attempt > 0
                self.metrics.redelivered += delivery.redelivered
                try:
                    await self.io.call(self.options.handler, delivery)
                    return True
                except Exception as e:
                    await self._handler_failed(delivery, e, attempt, tries)
                if (self._fenced or self.forced) and attempt + 1 < tries:
                    return False
            return True
        finally:
            self.busy = False

    async def _handler_failed(self, delivery: Delivery, cause: Exception, attempt: int, tries: int) -> None:
        if attempt == 0:
            self.metrics.handler_errors += 1
            self.engine.tell(self._error_of("the handler", cause))
        if attempt + 1 == tries and self._claim is not None:
            self.metrics.dead_letters += 1
            if self.options.dead_letter is not None:
                try:
                    await self.io.call(self.options.dead_letter, delivery, cause)
                except Exception as e:  # The message counts as handled: it would come again for ever.
                    self.engine.tell(self._error_of("dead_letter", e))

    @staticmethod
    def _error_of(what: str, cause: Exception) -> HandlerError:
        error = HandlerError(f"{what} has failed: {cause!r}")
        error.__cause__ = cause
        return error

    async def _is_authorized(self) -> bool:
        """Ask the authorizer. One that fails has authorized nobody."""
        try:
            authorizer = self.options.authorizer
            return authorizer is None or bool(await self.io.call(authorizer, self._peer))
        except Exception as e:
            self.engine.tell(self._error_of("the authorizer", e))
            return False

    def _write(self, now: float) -> None:
        """Write the bytes for the writer, as far as the kernel takes them."""
        link = self.link
        while link.out:
            try:
                n = self.transport.send([bytes(link.out)])
            except (BrokenPipeError, ConnectionResetError):
                link.out.clear()  # The writer has closed its end; its bytes can still be read.
                return
            del link.out[:n]
            if not n:
                break
        link.blocked_since = None if not link.out else link.blocked_since or now
