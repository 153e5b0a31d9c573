# SPDX-License-Identifier: Apache-2.0
"""The bytes of the session: the hello, the welcome, acknowledgements and heartbeats. No input or output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

from .errors import ProtocolError, VersionError
from .wire import Fields, IncompleteError, decode_varint, encode_frame, encode_varint, take_body

PREFACE = bytes(b | 0x80 for b in b"udsipc-acked")
VERSION = 1
HEARTBEAT = b"\x80\x00"
GOODBYE = b"\x00"

def heartbeat_period(milliseconds: int) -> float:
    """Return the period that a heartbeat_timeout asks for, in seconds. One below 100 ms counts as 100 ms."""
    return max(milliseconds, 100) / 1000 if milliseconds else 0.0


WELCOME, UNSUPPORTED_VERSION, OLD_EPOCH = range(3)


@dataclass(frozen=True)
class Hello:
    """What a writer says first; heartbeat_timeout is in milliseconds."""

    writer: bytes
    epoch: int
    first: int
    sent: int
    heartbeat_timeout: int = 0
    version: int = VERSION

    def encode(self) -> bytes:
        """Return the preface and the hello."""
        numbers = (self.epoch, self.first, self.sent, self.heartbeat_timeout)
        body = encode_varint(self.version) + self.writer + b"".join(map(encode_varint, numbers))
        return PREFACE + encode_frame(body)

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        """Return the hello of a body. One of another version is a VersionError."""
        fields = Fields(body)
        version = fields.number()
        if version != VERSION:
            raise VersionError(version)
        hello = cls(fields.take(16), fields.number(), fields.number(), fields.number(), fields.number())
        if hello.epoch < 1 or hello.first < 1 or hello.sent < hello.first - 1 or fields.rest():
            raise ProtocolError("an invalid hello")
        return hello


@dataclass(frozen=True)
class Welcome:
    """A reader's reply to a hello; heartbeat_timeout is in milliseconds."""

    status: int
    handled: int = 0
    limit: int = 0
    heartbeat_timeout: int = 0
    version: int = VERSION

    def encode(self) -> bytes:
        """Return the frame of the welcome."""
        numbers = (self.version, self.status, self.handled, self.limit, self.heartbeat_timeout)
        return encode_frame(b"".join(map(encode_varint, numbers)))

    @classmethod
    def decode(cls, body: bytes) -> Welcome:
        """Return the welcome of a body. A reader of another version is a VersionError."""
        fields = Fields(body)
        version, status = fields.number(), fields.number()
        if status == UNSUPPORTED_VERSION:
            raise VersionError(version)
        if version != VERSION:
            raise ProtocolError(f"a welcome of version {version}")
        welcome = cls(status, fields.number(), fields.number(), fields.number())
        if status not in (WELCOME, OLD_EPOCH) or fields.rest() or status == WELCOME and welcome.limit < 1:
            raise ProtocolError("an invalid welcome")
        return welcome


def split_hello(data: bytes) -> Tuple[Optional[Hello], int]:
    """Return the hello at the start of a connection and the number of its bytes.

    It raises IncompleteError if more bytes are needed, and ProtocolError if the bytes are no hello.
    """
    if not PREFACE.startswith(bytes(data[: len(PREFACE)])):
        raise ProtocolError("no session preface")
    if len(data) < len(PREFACE):
        raise IncompleteError
    body, end = take_body(data, len(PREFACE))
    return Hello.decode(body), end


BackItem = Union[int, str]  # An acknowledgement, "heartbeat" or "goodbye".


class BackDecoder:
    """Decodes what a reader sends after the welcome."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> List[BackItem]:
        """Return what is complete. Bytes that are not in their shortest form are a ProtocolError."""
        self._data += data
        found: List[BackItem] = []
        at = 0
        while at < len(self._data):
            if self._data[at : at + 2] == HEARTBEAT:
                found.append("heartbeat")
                at += 2
                continue
            try:
                n, end = decode_varint(self._data, at)
            except IncompleteError:
                if self._data[at : at + 2] == b"\x80\x80" and self._data[at + 2 : at + 3] == b"\x00":
                    raise ProtocolError("a heartbeat in a longer form") from None
                break
            if end - at > 1 and self._data[end - 1] == 0:
                raise ProtocolError("an acknowledgement in a longer form")
            found.append(n if n else "goodbye")
            at = end
        del self._data[:at]
        return found
