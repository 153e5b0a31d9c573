# SPDX-License-Identifier: Apache-2.0
"""The bytes of the plain protocol: varints, frames, the goodbye and the report. No input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

from .errors import ProtocolError

DEFAULT_LIMIT = 10 << 20  # The default limit of a message, in bytes.
MAX_LIMIT = 1 << 30
MAX_NUMBER = (1 << 63) - 1  # The largest number of a hello, a welcome and a report.
MAX_BODY = 128  # The largest body of a hello, a welcome and a report, in bytes.

GRACEFUL, TOO_MANY, UNAUTHORIZED, TOO_LARGE, MALFORMED, TOO_SLOW, NEEDS_TLS, NO_READER = range(8)


def encode_varint(n: int) -> bytes:
    """Return n as an unsigned varint in its shortest form."""
    if n < 0x80:
        return bytes((n,))
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def encode_frame(message: bytes) -> bytes:
    """Return the frame of a message: its length and its bytes."""
    return encode_varint(len(message)) + message


def copy_of(data: bytes | bytearray | memoryview) -> bytes:
    """Return a copy of the bytes of a message. What has no bytes, such as a number or a str, is a TypeError."""
    return data if type(data) is bytes else bytes(memoryview(data))


class IncompleteError(Exception):
    """The bytes end within a varint."""


def decode_varint(data: bytes | bytearray, at: int = 0) -> Tuple[int, int]:
    """Return the varint of up to 64 bits that begins at an offset, and the offset after it.

    It raises IncompleteError if the bytes end within the varint, ProtocolError if it does not fit.
    """
    n = shift = 0
    for i in range(at, min(len(data), at + 10)):
        b = data[i]
        if shift == 63 and b > 1:
            break
        n |= (b & 0x7F) << shift
        if b < 0x80:
            return n, i + 1
        shift += 7
    else:
        if len(data) - at < 10:
            raise IncompleteError
    raise ProtocolError("a varint of more than 64 bits")


class Fields:
    """A reader of the numbers in a body, each of up to 63 bits."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def number(self) -> int:
        """Return the next number."""
        try:
            n, self._at = decode_varint(self._body, self._at)
        except IncompleteError:
            raise ProtocolError("a field is missing") from None
        if n > MAX_NUMBER:
            raise ProtocolError("a number of 64 bits")
        return n

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        part = self._body[self._at : self._at + size]
        if len(part) < size:
            raise ProtocolError("a field is missing")
        self._at += size
        return part

    def rest(self) -> bytes:
        """Return the bytes after the fields."""
        return self._body[self._at :]


def take_body(data: bytes | bytearray, at: int = 0) -> Tuple[bytes, int]:
    """Return a body of 1 to 128 bytes, and the offset after it. It raises as decode_varint does."""
    size, begin = decode_varint(data, at)
    if not 1 <= size <= MAX_BODY:
        raise ProtocolError(f"a body of {size} bytes")
    if len(data) - begin < size:
        raise IncompleteError
    return bytes(data[begin : begin + size]), begin + size


@dataclass(frozen=True)
class TooLarge:
    """A message over the limit, in the place of its bytes; head has the first of them."""

    size: int
    head: bytes = b""


class FrameDecoder:
    """Decodes a stream of frames.

    feed appends bytes and next returns the messages one by one. A message over the limit is returned
    as a TooLarge as soon as its length is known, and its bytes are skipped.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, keep_head: int = 0) -> None:
        self.limit = limit
        self.heartbeats = False  # In a session 80 00 is no message, and is skipped.
        self._keep_head = keep_head
        self._data = bytearray()
        self._at = 0
        self._skip = 0
        self._oversized: Optional[int] = None

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        if self._at == len(self._data):
            self._data = bytearray(data)
            self._at = 0
            return
        if self._at > 1 << 16:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def next(self) -> Optional[bytes | TooLarge]:
        """Return the next message, or None if more bytes are needed. A malformed length is a ProtocolError."""
        if self._skip:
            n = min(self._skip, len(self._data) - self._at)
            self._skip -= n
            self._at += n
            if self._skip:
                return None
        try:
            if self._at < len(self._data) and self._data[self._at] < 0x80:  # The most frequent case.
                size, begin = self._data[self._at], self._at + 1
            else:
                while self.heartbeats and self._data[self._at : self._at + 2] == b"\x80\x00":
                    self._at += 2
                size, begin = decode_varint(self._data, self._at)
        except IncompleteError:
            return None
        if size > self.limit:
            if len(self._data) - begin < self._keep_head:
                return None
            head = bytes(self._data[begin : begin + self._keep_head])
            self._skip, self._at = size, begin
            return TooLarge(size, head)
        end = begin + size
        if end > len(self._data):
            return None
        with memoryview(self._data) as view:
            message = bytes(view[begin:end])
        self._at = end
        return message

    @property
    def incomplete(self) -> bool:
        """Whether the bytes so far end within a frame."""
        return self._skip > 0 or self._at < len(self._data)

    @property
    def buffered(self) -> int:
        """The number of bytes that next has not returned."""
        return len(self._data) - self._at

    def peek(self, size: int) -> bytes:
        """Return up to this many bytes that next has not returned."""
        return bytes(self._data[self._at : self._at + size])

    def skip(self, size: int) -> None:
        """Forget bytes that peek has returned."""
        self._at += size

    def discard(self) -> None:
        """Forget the bytes that next has not returned."""
        self._data, self._at, self._skip = bytearray(), 0, 0


@dataclass(frozen=True)
class Report:
    """Why a reader ends a connection, and what it has read of it."""

    reason: int
    next: int
    skipped: int
    limit: int

    def encode(self) -> bytes:
        """Return the frame of the report, without the goodbye before it."""
        return encode_frame(b"".join(map(encode_varint, (self.reason, self.next, self.skipped, self.limit))))

    @classmethod
    def decode(cls, body: bytes) -> Report:
        """Return the report of a body; bytes after its fields are ignored."""
        fields = Fields(body)
        report = cls(fields.number(), fields.number(), fields.number(), fields.number())
        if report.next and report.skipped > report.next - 1:
            raise ProtocolError("a report that skips more messages than were read")
        return report


class EndDecoder:
    """Decodes what a reader sends to a plain writer: nothing, or the goodbye and the report."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.goodbye = False
        self.report: Optional[Report] = None

    def feed(self, data: bytes) -> None:
        """Append received bytes. Bytes of another protocol are a ProtocolError."""
        if self.report is not None:
            raise ProtocolError("bytes after the report")
        self._data += data
        if not self.goodbye and self._data:
            if self._data[0] != 0:
                raise ProtocolError("the peer sends bytes that no reader sends")
            self.goodbye = True
            del self._data[0]
        if self._data:
            try:
                body, end = take_body(self._data)
            except IncompleteError:
                return
            self.report = Report.decode(body)
            if end != len(self._data):
                raise ProtocolError("bytes after the report")


def messages_in(data: bytes, limit: int = DEFAULT_LIMIT) -> Tuple[List[bytes | TooLarge], bool]:
    """Return the messages of a whole stream, and whether it ends at the end of a frame."""
    decoder, found = FrameDecoder(limit), []
    decoder.feed(data)
    while (message := decoder.next()) is not None:
        found.append(message)
    return found, not decoder.incomplete
