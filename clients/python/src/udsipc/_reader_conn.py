# SPDX-License-Identifier: Apache-2.0
"""The engine of one connection of a reader: how it begins, waits and ends."""

from __future__ import annotations

import ssl
import time
from typing import Tuple

from . import wire
from ._io import IO
from ._peer import peer_of
from ._reader_handling import Handling
from ._reader_link import WRITE_LIMIT
from .errors import HeartbeatTimeoutError, ProtocolError, UnauthorizedError

LINGER_QUIET = 1.0  # Without bytes after the goodbye; LINGER_ALIVE if bytes have come since. In seconds.
LINGER_ALIVE = 5.0
LINGER_TOTAL = 10.0
LINGER_BYTES = 16 << 20


class ReaderConnection(Handling):
    """Reads one connection."""

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
        if not await self._is_authorized():
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
                if self._half_closed:  # The time that handlers take does not count.
                    self.link.last_byte = time.monotonic()
                    self._linger_began += self.link.last_byte - now
                    if self._linger_bytes > LINGER_BYTES + self.link.limit:
                        break
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
