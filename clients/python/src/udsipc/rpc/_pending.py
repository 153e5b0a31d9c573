# SPDX-License-Identifier: Apache-2.0
"""Calls and streams in flight, without locks, input or output."""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, Mapping, Optional, Protocol, Union

from ..errors import ProtocolError
from ..wire import encode_frame, encode_varint
from . import wire
from .errors import Code, RpcError

MAX_RETRIES = 3  # How often an idempotent call is sent again.


class Signal(Protocol):
    """Wakes the thread or task that waits for a call."""

    def notify(self) -> None:
        """Have the waiting check its condition again."""


class PendingCall:
    """A call, a stream or a notification that was begun."""

    kind = wire.REQUEST

    def __init__(self, method: str, data: bytes, deadline: Optional[float], signal: Signal,
                 idempotent: bool = False, metadata: Optional[Mapping[str, str]] = None) -> None:
        self.method = wire.encode_method(method, metadata)
        self.data = data
        self.deadline = deadline  # As of time.monotonic.
        self.signal = signal
        self.number = 0  # 0: it was not sent yet.
        self.dropped = False  # It ended before it was sent.
        self.finished = False
        self.response = b""
        self.error: Optional[RpcError] = None
        self._retries = MAX_RETRIES if idempotent else 0

    def encode(self, number: int) -> bytes:
        """Return the frame of the request."""
        self.number = number
        timeout = 0 if self.deadline is None else max(1, int((self.deadline - time.monotonic()) * 1e6))
        return wire.encode_request(self.kind, number, timeout, self.method, self.data)

    def retry(self) -> bool:
        """Whether the call may be sent again after its connection was lost."""
        self._retries -= 1
        self.number = 0
        return self._retries >= 0

    def fail(self, error: RpcError) -> None:
        """End the call with an error."""
        if not self.finished:
            self.finished, self.error = True, error
            self.signal.notify()

    def lost(self, error: RpcError) -> None:
        """End the call because its connection has ended."""
        self.fail(error)

    def received(self, kind: int, data: bytes) -> Optional[bytes]:
        """Handle a message of the server. It returns a frame to send, or None."""
        if kind == wire.RESPONSE:
            self.finished, self.response = True, data
            self.signal.notify()
        elif kind == wire.ERROR:
            self.fail(wire.decode_error(data))
        return None


class PendingStream(PendingCall):
    """A stream. Either direction ends by itself."""

    kind = wire.OPEN

    def __init__(self, method: str, data: bytes, deadline: Optional[float], signal: Signal,
                 metadata: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(method, data, deadline, signal, False, metadata)
        self.credit = wire.WINDOW  # Bytes that may be sent.
        self.local_closed = False
        self.remote_closed = False
        self.sends_end: Optional[RpcError] = None  # Why nothing more may be sent.
        self._incoming: Deque[bytes] = deque()
        self._window = wire.WINDOW  # Bytes that the server may send.
        self._returned = 0  # Bytes that were received, and are not yet returned as credit.

    def received(self, kind: int, data: bytes) -> Optional[bytes]:
        """Handle a message of the server, as PendingCall does."""
        reply = None
        if kind == wire.DATA and not self.remote_closed:
            reply = self._on_data(data)
        elif kind == wire.CREDIT:
            self.credit = min(self.credit + wire.decode_number(data)[0], wire.MAX_WINDOW)
        elif kind == wire.END:
            self.remote_closed = True
            if data[:1] == wire.HANDLER_RETURNED:
                self.finished = True
        elif kind == wire.ERROR:
            self.fail(wire.decode_error(data))
        self.signal.notify()
        return reply

    def _on_data(self, data: bytes) -> Optional[bytes]:
        try:
            messages, cost = wire.decode_messages(data, self._window)
        except ProtocolError as e:
            self.fail(RpcError(Code.UNKNOWN, str(e)))
            body = encode_varint(Code.UNKNOWN) + str(e).encode()
            return wire.encode_about(wire.ERROR, self.number, body)
        self._window -= cost
        self._incoming.extend(messages)
        return None

    def lost(self, error: RpcError) -> None:
        """End the stream because its connection has ended: a stream that the server had ended is complete."""
        if self.remote_closed:
            self.sends_end = self.sends_end or error
            self.finished = True
            self.signal.notify()
        else:
            self.fail(error)

    def take(self) -> Union[bytes, None, bool]:
        """Return the next message, None at the end of the stream, or False if it is still to come."""
        if self._incoming:
            return self._incoming.popleft()
        if self.error is not None:
            raise self.error.anew()
        return None if self.remote_closed else False

    def return_credit(self, size: int) -> Optional[bytes]:
        """Record that a message was taken. It returns a frame that allows the server to send more, or None."""
        self._returned += size + wire.MESSAGE_COST
        if self._returned < wire.WINDOW // 2 or self.finished:
            return None
        n, self._returned = self._returned, 0
        self._window += n
        return wire.encode_about(wire.CREDIT, self.number, encode_varint(n))

    def check_send(self) -> None:
        """Raise the reason why nothing more can be sent."""
        if self.error is not None:
            raise self.error.anew()
        if self.local_closed:
            raise RpcError(Code.FAILED_PRECONDITION, "send after close_send")
        if self.sends_end is not None:
            raise self.sends_end.anew()
        if self.finished:
            raise RpcError(Code.FAILED_PRECONDITION, "the handler of the stream has returned")

    def encode_data(self, message: bytes) -> bytes:
        """Return the frame of a message, and use up its part of the window."""
        self.credit -= len(message) + wire.MESSAGE_COST
        return wire.encode_about(wire.DATA, self.number, encode_frame(message))


class Notification(PendingCall):
    """A request without a response."""

    def encode(self, number: int) -> bytes:
        """Return the frame of the notification."""
        self.finished = True
        return wire.encode_notification(self.method, self.data)
