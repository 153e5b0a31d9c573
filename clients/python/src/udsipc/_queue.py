# SPDX-License-Identifier: Apache-2.0
"""The queue of a writer: a state machine without locks, input or output."""

from __future__ import annotations

import enum
import os
from collections import deque
from dataclasses import dataclass, replace
from typing import Deque, List, Optional

from .errors import BufferFullError, MessageTooLargeError, ProtocolError
from .wire import DEFAULT_LIMIT, encode_frame


class Overflow(enum.Enum):
    """What write does if the queue is full."""

    ERROR = "error"  # It raises BufferFullError.
    BLOCK = "block"  # It waits for space.
    DROP_OLDEST = "drop_oldest"  # It drops the oldest message that was never sent.


@dataclass
class WriterMetrics:
    """What has happened to the messages of a writer: accepted = sent + dropped + undelivered + queued."""

    accepted: int = 0  # write returned for it.
    refused: int = 0  # The queue was full, with Overflow.ERROR.
    too_large: int = 0  # write refused it because of its size.
    sent: int = 0  # Acknowledged; in plain mode taken by the kernel.
    acknowledged: int = 0  # Part of sent: acknowledged by a reader.
    redelivered: int = 0  # Sent again on a later connection; counted each time.
    dropped: int = 0  # By Overflow.DROP_OLDEST.
    undelivered: int = 0  # Given up: rejected by the reader, or left when the writer was closed.
    possibly_lost: int = 0  # Part of sent: plain connections that ended badly.
    queued: int = 0
    unacknowledged: int = 0  # Part of queued: sent on the present connection.
    queued_bytes: int = 0
    bytes_sent: int = 0  # All bytes that the kernel has taken.
    connections: int = 0
    disconnects: int = 0
    connected: bool = False


class Entry:
    """A message in the queue."""

    __slots__ = ("position", "frame")

    def __init__(self, position: int, frame: bytes) -> None:
        self.position = position  # Counts accepted messages.
        self.frame = frame


class SendQueue:
    """A bounded queue with the messages that are sent, to be sent again, and never sent.

    In a session the messages have sequence numbers: handled is that of the last acknowledged one, or
    of the last one that was given up, and highest that of the newest one that was ever sent.
    """

    def __init__(self, max_messages: int, max_bytes: int, limit: int = DEFAULT_LIMIT) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.limit = limit
        self.reader_limit = limit
        self.metrics = WriterMetrics()
        self.given_up: List[bytes] = []  # Messages for the program, which the shell takes.
        self.blocked = False  # The next message is over the reader's limit, and has a number.
        self.writer = os.urandom(16)
        self.epoch = 0
        self.handled = 0
        self.highest = 0
        self._sent: Deque[Entry] = deque()
        self._again: Deque[Entry] = deque()
        self._fresh: Deque[Entry] = deque()
        self._bytes = 0
        self._fresh_bytes = 0  # Of _fresh.

    def __len__(self) -> int:
        return len(self._sent) + len(self._again) + len(self._fresh)

    def check_size(self, size: int) -> None:
        """Raise MessageTooLargeError if a message of this size can never be sent."""
        limit = min(self.limit, self.reader_limit, self.max_bytes - 10)
        if size > limit:
            self.metrics.too_large += 1
            raise MessageTooLargeError(f"a message of {size} bytes, the limit is {limit}")

    def has_space(self, size: int) -> bool:
        """Whether a message of this size fits now."""
        return len(self) < self.max_messages and self._bytes + size + 10 <= self.max_bytes

    def put(self, data: bytes, overflow: Overflow) -> bool:
        """Append a message. It returns False if the caller has to wait for space."""
        while not self.has_space(len(data)):
            if overflow is Overflow.BLOCK:
                return False
            if overflow is Overflow.ERROR or not self._droppable(len(data)):
                self.metrics.refused += 1
                raise BufferFullError(f"{len(self)} messages with {self._bytes} bytes are queued")
            self._bytes -= len(self._pop_fresh().frame)
            self.metrics.dropped += 1
        self.metrics.accepted += 1
        entry = Entry(self.metrics.accepted, encode_frame(data))
        self._bytes += len(entry.frame)
        self._fresh_bytes += len(entry.frame)
        self._fresh.append(entry)
        return True

    def _pop_fresh(self) -> Entry:
        entry = self._fresh.popleft()
        self._fresh_bytes -= len(entry.frame)
        return entry

    def _droppable(self, size: int) -> bool:
        """Whether a message of this size fits once all are dropped that were never sent."""
        kept = len(self._sent) + len(self._again)
        rest = self._bytes - self._fresh_bytes
        return bool(self._fresh) and kept < self.max_messages and rest + size + 10 <= self.max_bytes

    def done_up_to(self, position: int) -> bool:
        """Whether no message up to this position is queued any more."""
        oldest = self.oldest()
        return oldest is None or oldest.position > position

    def left_up_to(self, position: int) -> int:
        """Return the number of queued messages up to this position."""
        return sum(e.position <= position for part in (self._sent, self._again, self._fresh) for e in part)

    def oldest(self) -> Optional[Entry]:
        """Return the oldest message, or None."""
        for part in (self._sent, self._again, self._fresh):
            if part:
                return part[0]
        return None

    def has_unsent(self) -> bool:
        """Whether a message is to be sent."""
        return bool(self._again or self._fresh)

    def has_sent(self) -> bool:
        """Whether a message was begun or sent, and not removed."""
        return bool(self._sent)

    def begin_epoch(self) -> int:
        """Return the epoch of the next hello."""
        self.epoch += 1
        return self.epoch

    def take(self, max_frames: int, max_bytes: int, count_again: bool) -> List[bytes]:
        """Mark further messages as sent, and return their frames.

        Fresh messages over the limit of the reader are given up.
        """
        frames: List[bytes] = []
        size = 0
        self.blocked = False
        while len(frames) < max_frames and size < max_bytes and (self._again or self._fresh):
            part = self._again or self._fresh
            if len(part[0].frame) > self.reader_limit and self.head_over(self.reader_limit):
                if part is self._again:  # It has a number: only the first message can be given up.
                    self.blocked = True
                    break
                self._bytes -= len(part[0].frame)
                self.undeliver(self._pop_fresh().frame)
                continue
            entry = part.popleft() if part is self._again else self._pop_fresh()
            if part is self._again and count_again:
                self.metrics.redelivered += 1
            self._sent.append(entry)
            frames.append(entry.frame)
            size += len(entry.frame)
        self.highest = max(self.highest, self.handled + len(self._sent))
        return frames

    def remove_sent(self, count: int, acknowledged: bool) -> None:
        """Remove the oldest sent messages: they are acknowledged, or taken by the kernel."""
        for _ in range(count):
            self._bytes -= len(self._sent.popleft().frame)
        self.handled += count
        self.metrics.sent += count
        if acknowledged:
            self.metrics.acknowledged += count

    def acknowledge(self, handled: int, limit: int) -> None:
        """Apply an acknowledgement; limit is the newest number that may be acknowledged."""
        if not self.handled < handled <= limit:
            raise ProtocolError(f"an acknowledgement of {handled}, after {self.handled}, with {limit} sent")
        self.remove_sent(handled - self.handled, True)

    def welcome(self, handled: int) -> bool:
        """Apply the handled number of a welcome. It returns False if the reader knows too many messages.

        Then the writer has got a new ID, and has to open a new session. In its hello, what was sent before
        counts as sent: a reader may have handled it under the old ID.
        """
        if handled > self.highest:
            self.writer = os.urandom(16)
            self.epoch = self.handled = 0
            self.highest = len(self._again)
            return False
        if handled < self.handled:
            raise ProtocolError(f"a welcome with {handled} handled messages, after {self.handled}")
        for _ in range(min(handled - self.handled, len(self._again))):
            self._bytes -= len(self._again.popleft().frame)
            self.metrics.sent += 1
            self.metrics.acknowledged += 1
        self.handled = handled
        return True

    def disconnect(self) -> None:
        """Have the messages that are marked as sent sent again."""
        self._again.extendleft(reversed(self._sent))
        self._sent.clear()

    def give_up_head(self) -> Optional[bytes]:
        """Give up the oldest message, and return its frame. No message may be marked as sent."""
        for part in (self._again, self._fresh):
            if part:
                entry = part.popleft() if part is self._again else self._pop_fresh()
                self._bytes -= len(entry.frame)
                if part is self._again and self.highest > self.handled:
                    self.handled += 1
                self.undeliver(entry.frame)
                return entry.frame
        return None

    def undeliver(self, frame: bytes) -> None:
        """Count a message as undelivered, and keep it for the program."""
        self.metrics.undelivered += 1
        self.given_up.append(message_of(frame))

    def give_up_all(self) -> int:
        """Give up all messages, and return their number."""
        self.disconnect()
        count = 0
        while self.give_up_head() is not None:
            count += 1
        return count

    def head_over(self, limit: int) -> bool:
        """Whether the next message is larger than a limit of the reader."""
        for part in (self._again, self._fresh):
            if part:
                return len(part[0].frame) > limit and len(message_of(part[0].frame)) > limit
        return False

    def snapshot(self) -> WriterMetrics:
        """Return a copy of the metrics."""
        return replace(self.metrics, queued=len(self), unacknowledged=len(self._sent), queued_bytes=self._bytes)


def message_of(frame: bytes) -> bytes:
    """Return the message of a frame."""
    at = 0
    while frame[at] & 0x80:
        at += 1
    return frame[at + 1 :]
