# SPDX-License-Identifier: Apache-2.0
"""One connection of a reader: a state machine without locks, input or output."""

from __future__ import annotations

from typing import Optional, Union

from .errors import ProtocolError, VersionError
from .session import (GOODBYE, HEARTBEAT, PREFACE, UNSUPPORTED_VERSION, Hello, Welcome, heartbeat_period,
                      split_hello)
from .wire import FrameDecoder, IncompleteError, Report, TooLarge, encode_varint

ACK_MESSAGES = 2048
ACK_BYTES = 256 << 10
ACK_INTERVAL = 0.01  # While handlers are slow, in seconds.
WRITE_LIMIT = 1.0  # How long the writer may leave acknowledgements unread, in seconds.

Event = Union[Hello, bytes, TooLarge]


class ReaderLink:
    """Understands the bytes of a writer, plain or in a session, and has the bytes to reply.

    The caller passes received bytes to feed, and handles what next returns: a Hello first, in a
    session, which it answers with welcome or reject; then messages, each followed by done. It writes
    what out has.
    """

    def __init__(self, limit: int, heartbeat_timeout: float, now: float) -> None:
        self.limit = limit
        self.decoder = FrameDecoder(limit)
        self.session: Optional[Hello] = None
        self.welcomed = False
        self.detected = False  # The first bytes tell a session from plain frames.
        self.preface = False  # The connection began with the session preface.
        self.any_bytes = False
        self.out = bytearray()  # Bytes for the writer.
        self.blocked_since: Optional[float] = None  # The writer has left them unread since then.
        self.handled = 0  # Of a session: the number of the last handled message.
        self.read = 0  # Of a plain connection: messages that were read, with skipped ones.
        self.skipped = 0
        self.goodbye_sent = False
        self.last_message = self.last_byte = self.opened = now
        self.frame_since: Optional[float] = None  # A message is incomplete since then.
        self._heartbeat_timeout = heartbeat_timeout
        self._peer_timeout = 0.0
        self._last_sent = now
        self._acknowledged = 0
        self._unacknowledged_bytes = 0

    def feed(self, data: bytes, now: float) -> None:
        """Append received bytes."""
        self.any_bytes = True
        self.last_byte = now
        self.decoder.feed(data)

    def next(self, now: float) -> Optional[Event]:
        """Return what is to be handled next, or None. A ProtocolError ends the connection at once."""
        if not self.detected:
            hello = self._detect()
            if hello is not None or not self.detected:
                return hello
        message = self.decoder.next()
        if message is None:
            if not self.decoder.incomplete:
                self.frame_since = None
            elif self.frame_since is None:
                self.frame_since = now
            return None
        self.frame_since = None
        self.last_message = now
        self.read += 1
        if isinstance(message, TooLarge):
            self.skipped += 1
            if self.session is not None:
                raise ProtocolError(f"a message of {message.size} bytes, the limit is {self.limit}")
        return message

    def _detect(self) -> Optional[Hello]:
        data = self.decoder.peek(len(PREFACE) + 130)
        if not data:
            return None
        try:
            hello, end = split_hello(data)
        except IncompleteError:
            return None
        except VersionError:
            self.detected = self.preface = True
            self.out += Welcome(UNSUPPORTED_VERSION).encode()
            raise
        except ProtocolError:
            self.detected = True
            self.preface = data.startswith(PREFACE)
            if self.preface:
                raise
            return None  # Plain frames.
        self.detected = self.preface = True
        self.session = hello
        self.decoder.skip(end)
        self.decoder.heartbeats = True
        self._peer_timeout = heartbeat_period(hello.heartbeat_timeout) if hello else 0.0
        return hello

    def welcome(self, handled: int, now: float) -> None:
        """Let the writer send messages after a number."""
        self.welcomed = True
        self.handled = self._acknowledged = handled
        self._last_sent = self.last_message = now
        self.out += Welcome(0, handled, self.limit, int(self._heartbeat_timeout * 1000)).encode()

    def reject(self, status: int) -> None:
        """Reject a hello."""
        self.out += Welcome(status).encode()

    def done(self, size: int) -> bool:
        """Record that a message is handled. It returns whether an acknowledgement is due at once."""
        self.handled += 1
        self._unacknowledged_bytes += size
        return self.handled - self._acknowledged >= ACK_MESSAGES or self._unacknowledged_bytes >= ACK_BYTES

    def acknowledge(self, now: float) -> None:
        """Acknowledge what is handled."""
        if self.welcomed and self.handled > self._acknowledged:
            self._acknowledged = self.handled
            self._unacknowledged_bytes = 0
            self._last_sent = now
            self.out += encode_varint(self.handled)

    def heartbeat(self, now: float) -> None:
        """Send a heartbeat if it is due."""
        if self._peer_timeout and now >= self._last_sent + self._peer_timeout / 4:
            self._last_sent = now
            self.out += HEARTBEAT

    def heartbeat_at(self) -> Optional[float]:
        """Return the time at which a heartbeat is due, or None."""
        return self._last_sent + self._peer_timeout / 4 if self._peer_timeout else None

    def silent_at(self) -> Optional[float]:
        """Return the time until which the writer of a session may be silent, or None."""
        if not self.welcomed or not self._heartbeat_timeout:
            return None
        return self.last_byte + self._heartbeat_timeout

    def goodbye(self, now: float) -> None:
        """Say that no further message will be read."""
        if not self.goodbye_sent:
            self.acknowledge(now)
            self.goodbye_sent = True
            self.out += GOODBYE

    def report(self, reason: int) -> None:
        """Say why the connection ends; after the welcome of a session acknowledgements tell that."""
        if not self.welcomed:
            read = self.read if self.session is None else 0
            self.out += Report(reason, read + 1, self.skipped, self.limit).encode()

    def count_unread(self) -> int:
        """Return how many whole messages were received and not handled, and forget them."""
        count = 0
        try:
            while self.detected and self.decoder.next() is not None:
                count += 1
        except ProtocolError:
            pass
        return count

    @property
    def plain(self) -> bool:
        """Whether the connection has shown itself to be a plain one."""
        return self.detected and not self.preface
