# SPDX-License-Identifier: Apache-2.0
"""The client of rpc: a state machine without locks, input or output."""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, Optional, Union

from ..errors import ProtocolError, RejectedError
from ..wire import FrameDecoder, Report, TooLarge
from . import wire
from ._pending import Notification, PendingCall, PendingStream
from .errors import Code, RpcError

HEAD = 20  # Bytes of a message over the limit that tell its type and call.


class Frame:
    """A frame to send, and the call that it begins, if any."""

    __slots__ = ("data", "call")

    def __init__(self, data: bytes, call: Optional[PendingCall]) -> None:
        self.data = data
        self.call = call


class ClientCore:
    """The calls of a client, over all its connections.

    Calls wait in waiting until there is a connection that takes them. Their frames wait in the queue of
    the connection until the kernel takes them.
    """

    def __init__(self, limit: int, max_bytes: int) -> None:
        self.limit = limit
        self.max_bytes = max_bytes
        self.calls: Dict[int, PendingCall] = {}
        self.waiting: Deque[PendingCall] = deque()
        self.connected = False
        self.leaving = False  # The server has said goodbye: nothing new begins on this connection.
        self.stopped: Optional[RpcError] = None
        self.error: Optional[Exception] = None  # Why the server has rejected the connection.
        self._number = 0
        self._out: Deque[Frame] = deque()
        self._out_bytes = 0
        self._begun = 0  # Bytes of the first frame that the kernel has taken.
        self._decoder = FrameDecoder(limit, HEAD)
        self._rejected = False
        self._unread = False  # The server has rejected the connection, and read nothing of it.

    @property
    def has_space(self) -> bool:
        """Whether the queue takes further messages."""
        return self._out_bytes < self.max_bytes

    def begin(self, call: PendingCall) -> None:
        """Send a request now, or with the next connection."""
        if self.stopped is not None:
            raise self.stopped.anew()
        if len(call.data) + len(call.method) + 32 > self.limit:
            raise RpcError(Code.TOO_LARGE, f"a request of {len(call.data)} bytes, the limit is {self.limit}")
        waiting = sum(len(c.data) for c in self.waiting) if not self.connected else self._out_bytes
        if waiting >= self.max_bytes:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{waiting} bytes wait for the server")
        if self.connected and not self.leaving:
            self._send_request(call)
        else:
            self.waiting.append(call)

    def _send_request(self, call: PendingCall) -> None:
        self._number += 1
        frame = call.encode(self._number)
        if not isinstance(call, Notification):
            self.calls[call.number] = call
        self._append(frame, call)
        if isinstance(call, PendingStream):
            if call.local_closed:
                self._append(wire.encode_about(wire.END, call.number))
            call.signal.notify()  # It may send.

    def _append(self, data: bytes, call: Optional[PendingCall] = None) -> None:
        self._out.append(Frame(data, call))
        self._out_bytes += len(data)

    def send_about(self, call: PendingCall, frame: Optional[bytes]) -> None:
        """Send a further message of a call that is in flight."""
        if frame is not None and self.connected and call.number in self.calls:
            self._append(frame)

    def close_send(self, stream: PendingStream) -> None:
        """End the sending direction of a stream."""
        stream.local_closed = True
        self.send_about(stream, wire.encode_about(wire.END, stream.number))

    def cancel(self, call: PendingCall, error: RpcError) -> None:
        """End a call at both ends."""
        call.fail(error)
        call.dropped = True
        if self.calls.pop(call.number, None) is not None and self.connected:
            self._append(wire.encode_about(wire.CANCEL, call.number))
        elif call in self.waiting:
            self.waiting.remove(call)

    def connect(self) -> None:
        """Begin to use a connection."""
        self.connected, self.leaving, self._rejected, self._unread, self.error = True, False, False, False, None
        self._decoder = FrameDecoder(self.limit, HEAD)
        waiting, self.waiting = self.waiting, deque()
        for call in waiting:
            if not call.finished:
                self._send_request(call)

    def disconnect(self, cause: str) -> None:
        """End the use of a connection. Calls of which no byte was sent wait for the next one."""
        self.connected = False
        begun = self._begun
        unsent: Deque[PendingCall] = deque()
        for i, frame in enumerate(self._out):
            call = frame.call
            if call is not None and not call.dropped and (i > 0 or not begun):
                self.calls.pop(call.number, None)
                call.number = 0
                call.finished = False if isinstance(call, Notification) else call.finished
                unsent.append(call)
        self._out.clear()
        self._out_bytes = self._begun = 0
        calls, self.calls = self.calls, {}
        again = deque(c for c in calls.values() if not c.finished and (self._is_unhandled(c) or c.retry()))
        for call in calls.values():
            if call not in again:
                call.lost(RpcError(Code.CONNECTION_LOST, cause))
        self.waiting = again + unsent + self.waiting

    def _is_unhandled(self, call: PendingCall) -> bool:
        """Whether the server has certainly not seen a call, because it has rejected the connection."""
        return self._unread and not isinstance(call, PendingStream)

    def to_send(self) -> List[memoryview]:
        """Return the bytes to write."""
        while self._out and not self._begun and self._is_dropped(self._out[0]):
            self._out_bytes -= len(self._out.popleft().data)
        buffers = []
        for i, frame in enumerate(self._out):
            if i == 64 or i > 0 and self._is_dropped(frame):
                break
            buffers.append(memoryview(frame.data)[self._begun if i == 0 else 0 :])
        return buffers

    @staticmethod
    def _is_dropped(frame: Frame) -> bool:
        return frame.call is not None and frame.call.dropped

    def sent(self, n: int) -> None:
        """Record that the kernel took n bytes."""
        full = not self.has_space
        self._out_bytes -= n
        if full and self.has_space:
            for call in self.calls.values():
                if isinstance(call, PendingStream):
                    call.signal.notify()
        n += self._begun
        while self._out and n >= len(self._out[0].data):
            n -= len(self._out.popleft().data)
        self._begun = n

    def received(self, data: bytes) -> None:
        """Handle bytes of the server. A ProtocolError means that the connection has to be closed."""
        self._decoder.feed(data)
        while (message := self._decoder.next()) is not None:
            self._on_message(message)

    @property
    def incomplete(self) -> bool:
        """Whether the bytes so far end within a message."""
        return self._decoder.incomplete

    def _on_message(self, message: Union[bytes, TooLarge]) -> None:
        if isinstance(message, TooLarge):
            self._on_too_large(message)
            return
        if self._rejected:
            report = Report.decode(message)
            self.error = RejectedError(report.reason, report.limit)
            self._unread = report.next == 1
            return
        if not message:
            self._rejected = True  # The goodbye of a reader: a report follows.
            self.error = ProtocolError("the peer is no server of rpc, or has rejected this client")
            return
        kind, at = wire.decode_number(message)
        if kind == wire.GOODBYE:
            self._on_goodbye(message[at:])
            return
        number, at = wire.decode_number(message, at)
        call = self.calls.get(number)
        if call is None:
            return  # It has ended; the server did not know that yet.
        reply = call.received(kind, message[at:])
        if reply is not None:
            self._append(reply)
        if call.finished:
            del self.calls[number]

    def _on_too_large(self, message: TooLarge) -> None:
        kind, at = wire.decode_number(message.head)
        number, _ = wire.decode_number(message.head, at)
        call = self.calls.get(number)
        if kind in (wire.RESPONSE, wire.ERROR, wire.DATA) and call is not None:
            error = RpcError(Code.TOO_LARGE, f"a response of {message.size} bytes, the limit is {self.limit}")
            if isinstance(call, PendingStream):
                self.cancel(call, error)
            else:
                del self.calls[number]
                call.fail(error)

    def _on_goodbye(self, token: bytes) -> None:
        if not 1 <= len(token) <= wire.MAX_TOKEN:
            raise ProtocolError(f"a goodbye of {len(token)} bytes")
        if self.leaving:
            return
        self.leaving = True
        for call in self.calls.values():
            if isinstance(call, PendingStream):
                call.sends_end = RpcError(Code.CONNECTION_LOST, "the server stops")
                call.signal.notify()
        self._append(wire.encode_goodbye(token))

    def stop(self, error: RpcError, streams_only: bool) -> None:
        """End all streams, and all calls unless streams_only. Nothing new begins."""
        self.stopped = RpcError(Code.STOPPED, "the client was closed")
        for call in list(self.calls.values()) + list(self.waiting):
            if isinstance(call, PendingStream) or not streams_only:
                self.cancel(call, error)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight and nothing is to be sent."""
        return not self.calls and not self.waiting and not self._out
