# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, and what a handler gets."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Callable, Optional

from ._transport import LINUX, Transport


@dataclass(frozen=True)
class Credentials:
    """The process that has called connect, as the kernel reports it (SO_PEERCRED, Linux)."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Peer:
    """The other end of a connection. credentials is None where the transport has none.

    certificate is that of a TLS peer, in DER, if the context of the reader asks for one.
    """

    id: int
    credentials: Optional[Credentials] = None
    certificate: Optional[bytes] = None

    @property
    def identity(self) -> object:
        """The user or the TLS key: writer states belong to it."""
        return self.credentials.uid if self.credentials is not None else self.certificate


Authorizer = Callable[[Peer], bool]


def same_user() -> Authorizer:
    """Return an authorizer that accepts the processes of this process's user."""
    return allow_uids(os.geteuid())


def allow_uids(*uids: int) -> Authorizer:
    """Return an authorizer that accepts the processes of these users."""
    return lambda peer: peer.credentials is not None and peer.credentials.uid in uids


def peer_of(transport: Transport, number: int) -> Peer:
    """Return the peer of a connection after its TLS handshake."""
    credentials = None
    if transport.is_unix and LINUX:
        raw = transport.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        credentials = Credentials(*struct.unpack("3i", raw))
    return Peer(number, credentials, transport.certificate())


class Delivery:
    """A message for a handler.

    seq is the number of the message, from 1: of its writer in a session, and writer is the ID of the
    writer; of its connection otherwise, and writer is None.
    redelivered is set if the message may have been handled before.
    """

    __slots__ = ("data", "peer", "writer", "seq", "redelivered")

    def __init__(self, data: bytes, peer: Peer, writer: Optional[bytes], seq: int, redelivered: bool) -> None:
        self.data = data
        self.peer = peer
        self.writer = writer
        self.seq = seq
        self.redelivered = redelivered

    def __repr__(self) -> str:
        return f"Delivery(seq={self.seq}, redelivered={self.redelivered}, data={self.data[:60]!r})"
