# SPDX-License-Identifier: Apache-2.0
"""One connection of a writer: a state machine without locks, input or output."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Deque, List, Optional, Tuple

from . import wire
from ._queue import SendQueue
from .errors import FencedError, HeartbeatTimeoutError, ProtocolError, RejectedError, SessionsUnsupportedError
from .session import HEARTBEAT, OLD_EPOCH, BackDecoder, Hello, Welcome, heartbeat_period
from .wire import EndDecoder, IncompleteError, take_body

BATCH_BYTES = 256 << 10
BATCH_FRAMES = 4096
MARKED_BYTES = 16 << 20  # Send buffers are not larger.
SMALL = 4096  # Frames up to this size are joined; larger ones are buffers of their own.


class State(enum.Enum):
    """The states of a connection of a writer."""

    HELLO = "hello sent, no welcome yet"
    OPEN = "messages may be sent"
    LEAVING = "nothing more may be sent; the end of file is awaited"


@dataclass(frozen=True)
class Ending:
    """How the connection ended, as the transport knows it."""

    error: Optional[BaseException] = None  # Of reading or writing, but for EPIPE. None: end of file.
    eof_proves: bool = False  # Without an error, end of file means that the peer has read everything.
    bound: int = 0  # The bytes that may have been unread at most. 0: all.


class WriterLink:
    """Sends the messages of a queue, and understands the reader's replies.

    The caller writes what to_send returns and says with sent how much the kernel took, passes received
    bytes to received, calls tick at the time that deadline returns, and close at the end. leaving
    asks it to close its sending side.
    """

    def __init__(self, queue: SendQueue, acknowledged: bool, heartbeat_timeout: float, now: float) -> None:
        self.queue = queue
        self.acknowledged = acknowledged
        self.state = State.HELLO if acknowledged else State.OPEN
        self.progress = False  # A batch got through.
        self.error: Optional[Exception] = None  # Why the writer ends the connection, or the reader has ended it.
        self.welcomed = False
        self.midway = False  # A plain connection has ended within a message.
        self.answered = False  # The reader has sent anything.
        self._heartbeat_timeout = heartbeat_timeout
        self._peer_timeout = 0.0
        self._last_received = self._last_sent = now
        self._out: Deque[memoryview] = deque()
        self._queued = self._written = 0  # Offsets in the stream of sent bytes.
        self._ends: Deque[int] = deque()  # The offsets of the ends of frames that are not completely written.
        self.completed = 0  # Frames that are completely written.
        self._marks: Deque[Tuple[int, int]] = deque([(0, 0)])  # Earlier values of written and completed.
        self._confirmed = 0  # Frames that the peer has certainly read.
        self._short = False  # The last write took a part of the bytes.
        self._base = 0  # The sequence number before the first message of the connection.
        self._back = bytearray()
        self._acks = BackDecoder()
        self.end = EndDecoder()
        if acknowledged:
            hello = Hello(queue.writer, queue.begin_epoch(), queue.handled + 1,
                          max(queue.highest, queue.handled), int(heartbeat_timeout * 1000))
            self._append(hello.encode())

    @property
    def leaving(self) -> bool:
        """Whether the caller shall close its sending side and read until end of file."""
        return self.state is State.LEAVING

    @property
    def drained(self) -> bool:
        """Whether no byte is left to write, and no acknowledgement is missing."""
        return not self._out and len(self.queue) == 0

    def leave(self) -> None:
        """Send nothing more."""
        self.state = State.LEAVING
        self._out.clear()

    def to_send(self) -> List[memoryview]:
        """Return the bytes to write, from the frame on that the kernel has not completely taken."""
        if not self._out and self.state is State.OPEN:
            frames = self.queue.take(BATCH_FRAMES, BATCH_BYTES, self.acknowledged)
            small: List[bytes] = []
            offset = self._queued
            for frame in frames:
                offset += len(frame)
                self._ends.append(offset)
                if len(frame) <= SMALL:
                    small.append(frame)
                    continue
                self._append(b"".join(small))
                small.clear()
                self._append(frame)
            self._append(b"".join(small))
            if self.queue.blocked and not self.queue.has_sent():
                self.queue.give_up_head()  # It keeps its number: the next hello begins above it.
                self.leave()
        return list(self._out)

    def _append(self, data: bytes) -> None:
        if data:
            self._queued += len(data)
            self._out.append(memoryview(data))

    def sent(self, n: int, now: float) -> None:
        """Record that the kernel took n bytes."""
        self._short = n < sum(map(len, self._out))
        self._written += n
        self._last_sent = now
        self.queue.metrics.bytes_sent += n
        while n > 0 and n >= len(self._out[0]):
            n -= len(self._out.popleft())
        if n > 0:
            self._out[0] = self._out[0][n:]
        count = 0
        while self._ends and self._ends[0] <= self._written:
            self._ends.popleft()
            count += 1
        self.completed += count
        if not self.acknowledged:
            self.progress = self.progress or count > 0
            self.queue.remove_sent(count, False)
            self._marks.append((self._written, self.completed))
            while len(self._marks) > 2 and self._written - self._marks[1][0] > MARKED_BYTES:
                self._marks.popleft()

    def read_by_peer(self) -> None:
        """Record that the peer has read all bytes."""
        self._confirmed = self.completed

    def received(self, data: bytes, now: float) -> None:
        """Handle bytes of the reader. A ProtocolError means that the connection has to be closed."""
        self._last_received = now
        self.answered = True
        if self.welcomed:
            self._on_back(data)
        elif self.acknowledged and not self.end.goodbye:
            self._on_handshake(data)
        else:
            self._on_end(data)

    def _on_end(self, data: bytes) -> None:
        self.end.feed(data)
        if self.end.goodbye:
            self.leave()
        report = self.end.report
        if report is not None and report.reason != wire.GRACEFUL:
            self.error = RejectedError(report.reason, report.limit)
            if self.acknowledged and report.reason == wire.MALFORMED:
                self.error = SessionsUnsupportedError("the reader supports no sessions")

    def _on_handshake(self, data: bytes) -> None:
        self._back += data
        while self._back[:2] == HEARTBEAT:
            del self._back[:2]
        if self._back[:1] == b"\x00":
            data, self._back = bytes(self._back), bytearray()
            self._on_end(data)
            return
        if self._back == HEARTBEAT[:1]:
            return
        try:
            body, end = take_body(self._back)
        except IncompleteError:
            return
        welcome = Welcome.decode(body)
        if welcome.status == OLD_EPOCH:
            raise FencedError("the reader knows a newer connection of this writer")
        rest, self._back = bytes(self._back[end:]), bytearray()
        self.welcomed = True
        if not self.queue.welcome(welcome.handled):
            self.leave()
            return
        self.state = State.OPEN
        self._base = self.queue.handled
        self.queue.reader_limit = welcome.limit
        self._peer_timeout = heartbeat_period(welcome.heartbeat_timeout)
        if rest:
            self._on_back(rest)

    def _on_back(self, data: bytes) -> None:
        for item in self._acks.feed(data):
            if isinstance(item, int):
                self.queue.acknowledge(item, self._base + self.completed)
                self.progress = True
            elif item == "goodbye":
                self.end.goodbye = True
                self.leave()

    def deadline(self) -> Optional[float]:
        """Return the time at which tick has to be called, or None."""
        times = []
        if self.acknowledged and self._heartbeat_timeout:
            times.append(self._last_received + self._heartbeat_timeout)
        if self._sends_heartbeats():
            times.append(self._last_sent + self._peer_timeout / 4)
        return min(times, default=None)

    def _sends_heartbeats(self) -> bool:
        return (self._peer_timeout > 0 and self.state is State.OPEN and not self._out
                and not self.queue.has_sent())

    def tick(self, now: float) -> None:
        """Send a heartbeat if it is due. HeartbeatTimeoutError means that the reader is silent."""
        if self.acknowledged and self._heartbeat_timeout and now >= self._last_received + self._heartbeat_timeout:
            raise HeartbeatTimeoutError(f"nothing received within {self._heartbeat_timeout} s")
        if self._sends_heartbeats() and now >= self._last_sent + self._peer_timeout / 4:
            self._append(HEARTBEAT)

    def close(self, ending: Ending) -> int:
        """End the connection. It returns how many messages of a plain connection may be lost."""
        report = self.end.report
        head = self.queue.oldest()
        midway = head is not None and bool(self._ends) and self._written > self._ends[0] - len(head.frame)
        self.midway = midway and not self.acknowledged
        self.queue.disconnect()
        if report is not None and report.limit and midway and self.queue.head_over(report.limit):
            self.queue.give_up_head()
        if self.acknowledged:
            return 0
        lost = self._lost(ending)
        self.queue.metrics.possibly_lost += lost
        return lost

    def _lost(self, ending: Ending) -> int:
        report = self.end.report
        if report is not None and report.next:
            read = min(self.completed, report.next - 1)
            return self.completed - read + min(report.skipped, read)
        if isinstance(ending.error, ProtocolError):
            return self.completed
        skipped = min(report.skipped, self.completed) if report is not None else 0
        if ending.eof_proves and ending.error is None and (self.end.goodbye or not self._short):
            return skipped
        before = self._confirmed
        for written, completed in self._marks:
            if ending.bound and written <= self._written - ending.bound:
                before = max(before, completed)
        return max(skipped, self.completed - before)
