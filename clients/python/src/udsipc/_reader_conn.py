# SPDX-License-Identifier: Apache-2.0
"""The engine of one connection of a reader."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Optional, Tuple

from . import wire
from ._io import IO
from ._peer import Authorizer, Delivery, Peer, peer_of
from ._reader_link import ACK_INTERVAL, WRITE_LIMIT, ReaderLink
from ._states import Claim
from ._transport import Transport
from .errors import HandlerError, HeartbeatTimeoutError, ProtocolError, RejectedError, UnauthorizedError
from .session import OLD_EPOCH, Hello
from .wire import TooLarge

if TYPE_CHECKING:
    from ._reader_engine import ReaderEngine

LINGER_QUIET = 1.0  # Without bytes after the goodbye; LINGER_ALIVE if bytes have come since. In seconds.
LINGER_ALIVE = 5.0
LINGER_TOTAL = 10.0
LINGER_BYTES = 16 << 20
YIELD_MESSAGES = 256


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


class ReaderConnection:
    """Reads one connection. lock guards the link and the transport; it is not held while a handler runs."""

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

    async def run(self, io: IO) -> None:
        """Serve the connection to its end."""
        self.io = io
        self._running = True  # From here on it is woken; it has not looked at reason before.
        try:
            if await self._authenticate():
                await self._serve()
        except (OSError, ProtocolError) as e:
            self._failed(e)
        finally:
            if self._claim is not None:
                with self.engine.lock:
                    self._claim.release(self.link.handled)
            self.transport.close()
            self.io.close()

    def _failed(self, error: Exception) -> None:
        """Report an error, and send what can still be sent."""
        if isinstance(error, ProtocolError):
            self.metrics.protocol_errors += 1
            if self.link.plain and not self.link.goodbye_sent:
                self.link.goodbye(time.monotonic())
                self.link.report(wire.MALFORMED)
        try:
            self._write(time.monotonic())
        except OSError:
            pass  # The connection has ended.
        self.engine.tell(error)

    async def _authenticate(self) -> bool:
        deadline = time.monotonic() + self.options.handshake_timeout
        try:
            while not self.transport.handshake():
                rest = deadline - time.monotonic()
                if rest <= 0 or self.reason is not None and self.reason != wire.TOO_MANY:
                    raise ssl.SSLError("the TLS handshake took too long")
                await self.io.wait(self.transport.sock, True, self.transport.wants_write, rest)
        except (OSError, ValueError) as e:
            self.metrics.handshake_errors += 1
            if not self.transport.first_bytes.startswith(b"\x16"):  # No TLS: the writer understands a report.
                self.link.goodbye(time.monotonic())
                self.link.report(wire.NEEDS_TLS)
                self.transport.sock.send(bytes(self.link.out))
                self.link.out.clear()
            self.engine.tell(e)
            return False
        self._peer = peer_of(self.transport, self._number)
        authorizer = self.options.authorizer
        if authorizer is not None and not await self.io.call(authorizer, self._peer):
            self.metrics.unauthorized += 1
            self.link.goodbye(time.monotonic())
            self.link.report(wire.UNAUTHORIZED)
            self._write(time.monotonic())
            self.engine.tell(UnauthorizedError(f"{self._peer} is not authorized"))
            return False
        return True

    async def _serve(self) -> None:
        while not self._fenced and not self.forced:
            now = time.monotonic()
            with self.lock:
                if self.reason is not None:
                    self._begin_end(now)
                data = self.transport.receive()
                if data:
                    self.metrics.bytes_received += len(data)
                    self._linger_bytes += len(data)
                    self.link.feed(data, now)
                elif data is None:
                    self.link.acknowledge(now)
                    self.link.heartbeat(now)
                    self._write(now)
                    limit, what = self._next_limit(now)
                else:
                    break
            if data:
                await self._handle_all()
            elif limit > now:
                write = bool(self.link.out) or self.transport.wants_write
                await self.io.wait(self.transport.sock, True, write, limit - now)
            elif self._limit_passed(what):
                break
        await self._finish()

    def _begin_end(self, now: float) -> None:
        """Begin the graceful end."""
        if self._half_closed:
            return
        self._half_closed = True
        self._linger_began, self._linger_bytes = now, 0.0
        self.link.last_byte = now
        if not self.transport.shutdown_read():
            self.link.goodbye(now)

    def _next_limit(self, now: float) -> Tuple[float, str]:
        """Return when the wait for bytes ends, and which limit has passed then."""
        link, options = self.link, self.options
        if self._half_closed:
            quiet = LINGER_ALIVE if self._linger_bytes else LINGER_QUIET
            return min(link.last_byte + quiet, self._linger_began + LINGER_TOTAL), "linger"
        limits = [(now + 3600.0, "none")]
        if link.blocked_since is not None:
            limits.append((link.blocked_since + WRITE_LIMIT, "blocked"))
        for at, what in ((link.silent_at(), "silent"), (link.heartbeat_at(), "heartbeat")):
            if at is not None:
                limits.append((at, what))
        if not link.read and link.session is None and options.first_message_timeout:
            limits.append((link.opened + options.first_message_timeout, "slow" if link.any_bytes else "idle"))
        if link.frame_since is not None and options.message_timeout:
            limits.append((link.frame_since + options.message_timeout, "slow"))
        if link.frame_since is None and options.inactivity_timeout:
            limits.append((link.last_message + options.inactivity_timeout, "idle"))
        return min(limits)

    def _limit_passed(self, what: str) -> bool:
        """Handle a limit that has passed. It returns whether the connection has to end at once."""
        if what == "silent":
            raise HeartbeatTimeoutError(f"nothing received within {self.options.heartbeat_timeout} s")
        if what == "blocked":
            raise TimeoutError(f"the writer has not read acknowledgements for {WRITE_LIMIT} s")
        if what == "slow":
            self.metrics.too_slow += 1
            self.reason = wire.TOO_SLOW
        if what == "idle":
            self.metrics.idle_closed += 1
            self.reason = wire.GRACEFUL
        return what in ("slow", "linger")

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
            error = HandlerError(f"the handler has failed: {cause!r}")
            error.__cause__ = cause
            self.engine.tell(error)
        if attempt + 1 == tries and self._claim is not None:
            self.metrics.dead_letters += 1
            if self.options.dead_letter is not None:
                await self.io.call(self.options.dead_letter, delivery, cause)

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

    async def _finish(self) -> None:
        """Send the last acknowledgement, the goodbye and the report."""
        link, now = self.link, time.monotonic()
        with self.lock:
            if link.decoder.incomplete or link.any_bytes and not link.detected:
                self.metrics.truncated += 1
            if self.forced and self._claim is None:
                self.metrics.discarded += link.count_unread()
            if not self._fenced and not self.forced:
                link.goodbye(now)
                link.report(wire.GRACEFUL if self.reason is None else self.reason)
            link.acknowledge(now)
            self._write(now)
        until = now + WRITE_LIMIT
        while (link.out or self.transport.wants_write) and not self.forced and time.monotonic() < until:
            await self.io.wait(self.transport.sock, False, True, until - time.monotonic())
            self._write(time.monotonic())
