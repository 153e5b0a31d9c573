# SPDX-License-Identifier: Apache-2.0
"""Messages over Unix sockets and TCP: a client of the protocol of the Go library udsipc.

Writer and AsyncWriter queue messages and send them, over connections that they make anew. Reader and
AsyncReader accept them and call a handler. With acknowledged=True a message counts as sent when the
handler has returned. Package udsipc.rpc calls functions of another process.
"""

from ._peer import Authorizer, Credentials, Delivery, Peer, allow_uids, same_user
from ._queue import Overflow, WriterMetrics
from ._reader_engine import ReaderMetrics
from ._states import WriterStates
from .aio_reader import AsyncReader
from .aio_writer import AsyncWriter
from .errors import (BufferFullError, Error, FencedError, HandlerError, HeartbeatTimeoutError,
                     InvalidAddressError, MessageTooLargeError, NotConnectedError, NotDeliveredError,
                     PossibleLossError, ProtocolError, RejectedError, SessionsUnsupportedError,
                     SocketInUseError, StoppedError, UnauthorizedError, VersionError)
from .reader import Reader
from .writer import Writer

__all__ = [
    "AsyncReader", "AsyncWriter", "Authorizer", "BufferFullError", "Credentials", "Delivery", "Error",
    "FencedError", "HandlerError", "HeartbeatTimeoutError", "InvalidAddressError", "MessageTooLargeError",
    "NotConnectedError", "NotDeliveredError", "Overflow", "Peer", "PossibleLossError", "ProtocolError",
    "Reader", "ReaderMetrics", "RejectedError", "SessionsUnsupportedError", "SocketInUseError", "StoppedError",
    "UnauthorizedError", "VersionError", "Writer", "WriterMetrics", "WriterStates", "allow_uids", "same_user",
]
