# SPDX-License-Identifier: Apache-2.0
"""Connecting to an address within a time limit."""

from __future__ import annotations

import errno
import os
import random
import socket
import ssl
import time
from typing import Any, Callable, Optional

from ._address import Address
from ._io import IO
from ._transport import Transport
from .errors import InvalidAddressError, NotConnectedError

MIN_BACKOFF = 0.01  # In seconds.


def check_encryption(address: Address, tls: Optional[ssl.SSLContext], plaintext: bool) -> None:
    """Raise InvalidAddressError for a TCP address beyond this machine without TLS."""
    if tls is None and not plaintext and not address.is_loopback:
        raise InvalidAddressError(f"{address.text} is not on this machine: use tls, or plaintext=True")


def check_name(address: Address, tls: Optional[ssl.SSLContext], server_name: Optional[str]) -> None:
    """Raise ValueError if tls checks the name in the certificate, and none is known. ssl would not check it then."""
    if tls is not None and tls.check_hostname and not (server_name or address.host):
        raise ValueError(f"tls at {address.text} needs server_name, the name in the certificate of the other end")


class Dialer:
    """Connects. limit returns a time at which a connection that is not made yet is given up, or None."""

    def __init__(self, io: IO, address: Address, tls: Optional[ssl.SSLContext], server_name: Optional[str],
                 timeout: float, limit: Callable[[], Optional[float]]) -> None:
        self._io = io
        self._address = address
        self._tls = tls
        self._server_name = server_name or address.host or None
        self._timeout = timeout
        self._limit = limit

    async def dial(self) -> Transport:
        """Return a connection after its TLS handshake. It raises OSError or NotConnectedError."""
        address = self._address
        deadline = time.monotonic() + self._timeout
        if not address.is_tcp:
            return await self._connect(socket.AF_UNIX, address.path, deadline)
        failed: Exception = NotConnectedError(f"{address.host} has no address")
        for family, _, _, _, sockaddr in await self._io.resolve(address.host, address.port, False):
            try:
                return await self._connect(family, sockaddr, deadline)
            except (OSError, NotConnectedError) as e:
                failed = e
        raise failed

    async def _connect(self, family: int, sockaddr: Any, deadline: float) -> Transport:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            code = sock.connect_ex(sockaddr)
            while code == errno.EINPROGRESS:
                await self._wait(sock, False, True, deadline)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _progress(sock)
            if code != 0:
                raise OSError(code, os.strerror(code), self._address.text)
            transport = Transport(sock, self._tls, server_name=self._server_name)
            while not transport.handshake():
                await self._wait(sock, True, transport.wants_write, deadline)
            return transport
        except BaseException:
            sock.close()
            raise

    async def _wait(self, sock: socket.socket, read: bool, write: bool, deadline: float) -> None:
        limit = self._limit()
        if limit is not None:
            deadline = min(deadline, limit)
        now = time.monotonic()
        if now >= deadline:
            raise NotConnectedError(f"no connection to {self._address.text} within the time limit")
        await self._io.wait(sock, read, write, deadline - now)


def _progress(sock: socket.socket) -> int:
    """Return 0 if the socket is connected."""
    try:
        sock.getpeername()
    except OSError:
        return errno.EINPROGRESS
    return 0


class Backoff:
    """How long to wait before the next connection: full jitter below a limit that doubles with each failure."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.failures = 0

    def delay(self) -> float:
        """Return the time to wait, in seconds. After the first failure it is short."""
        if not self.failures:
            return 0.0
        return random.uniform(0, min(self._limit, MIN_BACKOFF * 2.0 ** min(self.failures - 1, 30)))
