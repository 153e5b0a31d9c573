# SPDX-License-Identifier: Apache-2.0
"""The errors of this package. All of them are Errors."""

from __future__ import annotations

from typing import Optional


class Error(Exception):
    """The base class of all errors of this package."""


class InvalidAddressError(Error, ValueError):
    """The address is malformed, or another user could replace a part of its path."""


class SocketInUseError(Error):
    """Another process listens at the path, or another Reader starts there at this moment."""


class BufferFullError(Error):
    """The queue has no space for the message (max_messages, max_bytes)."""


class MessageTooLargeError(Error, ValueError):
    """The message is larger than max_message_size, or than the limit of the reader."""


class StoppedError(Error):
    """The Writer, Reader or Client was closed."""


class NotConnectedError(Error):
    """There is no connection, and the time limit has passed."""


class ProtocolError(Error):
    """The peer has sent bytes that the protocol does not allow."""


class HeartbeatTimeoutError(ProtocolError):
    """The peer has sent nothing for longer than the heartbeat timeout."""


class VersionError(ProtocolError):
    """The peer supports another version of the session."""

    def __init__(self, supported: int) -> None:
        super().__init__(f"the peer supports version {supported} of the session, this package version 1")
        self.supported = supported


class SessionsUnsupportedError(ProtocolError):
    """The reader supports no sessions: use a Writer without acknowledged=True."""


class FencedError(ProtocolError):
    """Another connection of the same writer has a higher epoch."""


class UnauthorizedError(Error):
    """The authorizer has rejected the peer."""


class HandlerError(Error):
    """A handler has failed; the cause is its exception."""


REASONS = {
    0: "the reader closes the connection",
    1: "too many connections are open at the reader",
    2: "the reader has not authorized this writer",
    3: "a message was over the reader's limit",
    4: "the reader has received a malformed length",
    5: "a message did not arrive in time",
    6: "the reader expects TLS",
    7: "the peer is no reader: it speaks another protocol over frames, such as rpc",
}


class RejectedError(Error):
    """The reader has ended the connection for a reason; REASONS has the texts."""

    def __init__(self, reason: int, limit: int) -> None:
        super().__init__(f"{REASONS.get(reason, 'an unknown reason')} (reason {reason})")
        self.reason = reason
        self.limit = limit


class PossibleLossError(Error):
    """A plain connection ended while messages may have been unread: at most count of them."""

    def __init__(self, count: int, cause: Optional[BaseException] = None) -> None:
        super().__init__(f"at most {count} messages may be lost" + (f": {cause}" if cause else ""))
        self.count = count
        self.__cause__ = cause


class NotDeliveredError(Error):
    """Messages that were accepted have not been delivered, or may not have been.

    left counts the messages that were still queued or unacknowledged at the time limit, dropped those
    of the overflow policy, undelivered those that were given up, possibly_lost those of plain
    connections that ended badly. All are 0 if only the peer of a plain connection has not read everything.
    """

    def __init__(self, left: int, dropped: int, undelivered: int, possibly_lost: int) -> None:
        counts = {"left": left, "dropped": dropped, "undelivered": undelivered, "possibly lost": possibly_lost}
        text = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        super().__init__(f"messages not delivered: {text}" if text else "the peer has not read all messages in time")
        self.left = left
        self.dropped = dropped
        self.undelivered = undelivered
        self.possibly_lost = possibly_lost
