# SPDX-License-Identifier: Apache-2.0
"""The bytes of the messages of rpc. No input or output."""

from __future__ import annotations

from typing import List, Mapping, Optional, Tuple

from ..errors import ProtocolError
from ..wire import IncompleteError, decode_varint, encode_frame, encode_varint

from .errors import Code, RpcError

REQUEST, RESPONSE, ERROR, CANCEL, NOTIFICATION, OPEN, DATA, CREDIT, END, GOODBYE = range(1, 11)

WINDOW = 1 << 20  # Bytes of a stream that may be unread in each direction, but for the last message.
MAX_WINDOW = 64 << 20
MESSAGE_COST = 16  # What a message of a stream uses of the window besides its bytes.
MAX_METADATA = 8 << 10
MAX_METADATA_VALUES = 64
MAX_TOKEN = 16
MAX_CODE = (1 << 32) - 1
HANDLER_RETURNED = b"\x01"


def encode_method(method: str, metadata: Optional[Mapping[str, str]]) -> bytes:
    """Return the name of a method, with metadata after it."""
    if "\0" in method:
        raise RpcError(Code.INVALID_ARGUMENT, f"a method with a zero byte: {method!r}")
    if not metadata:
        return method.encode()
    pairs = b"".join(encode_frame(part.encode()) for pair in metadata.items() for part in pair)
    if len(pairs) > MAX_METADATA or len(metadata) > MAX_METADATA_VALUES:
        raise RpcError(Code.INVALID_ARGUMENT, f"{len(metadata)} values of metadata with {len(pairs)} bytes, the "
                                              f"limits are {MAX_METADATA_VALUES} and {MAX_METADATA}")
    return method.encode() + b"\0" + pairs


def encode_request(kind: int, number: int, timeout_us: int, method: bytes, data: bytes) -> bytes:
    """Return the frame of a request, or of the opening of a stream."""
    window = encode_varint(WINDOW) if kind == OPEN else b""
    head = b"".join(map(encode_varint, (kind, number, timeout_us, len(method))))
    return encode_frame(b"".join((head, method, window, data)))


def encode_notification(method: bytes, data: bytes) -> bytes:
    """Return the frame of a notification."""
    return encode_frame(b"".join((encode_varint(NOTIFICATION), encode_varint(len(method)), method, data)))


def encode_about(kind: int, number: int, data: bytes = b"") -> bytes:
    """Return the frame of a message about a call."""
    return encode_frame(b"".join((encode_varint(kind), encode_varint(number), data)))


def encode_goodbye(token: bytes) -> bytes:
    """Return the frame of a reply to a goodbye."""
    return encode_frame(encode_varint(GOODBYE) + token)


def decode_number(data: bytes, at: int = 0) -> Tuple[int, int]:
    """Return a number of a message and the offset after it."""
    try:
        return decode_varint(data, at)
    except IncompleteError:
        raise ProtocolError("a message of rpc that ends within a number") from None


def decode_error(data: bytes) -> RpcError:
    """Return the error of a message, after the number of the call."""
    code, at = decode_number(data)
    if not 1 <= code <= MAX_CODE:
        code = Code.UNKNOWN
    return RpcError(code, data[at:].decode("utf-8", "replace"))


def decode_messages(data: bytes, allowed: int) -> Tuple[List[bytes], int]:
    """Return the messages of a stream, and what they use of the window.

    A ProtocolError: a message is incomplete, or begins after the window is used up.
    """
    messages, cost, at = [], 0, 0
    while at < len(data):
        size, begin = decode_number(data, at)
        at = begin + size
        if at > len(data) or cost >= allowed:
            raise ProtocolError("flow-control violation or malformed stream data")
        messages.append(data[begin:at])
        cost += size + MESSAGE_COST
    return messages, cost
