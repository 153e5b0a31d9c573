# SPDX-License-Identifier: Apache-2.0
"""A connected stream socket that never blocks, with or without TLS."""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from typing import List, Optional, Sequence, Union

LINUX = sys.platform.startswith("linux")
MAX_BUFFERS = 512  # Of one system call; IOV_MAX is at least 1,024 on Linux.
RECEIVE_SIZE = 256 << 10
_TLS_PART = 64 << 10

Buffer = Union[bytes, memoryview]


class Transport:
    """A non-blocking socket.

    send returns the number of bytes that were taken, 0 if there is no space; receive returns None if
    there are no bytes, and b"" at end of file. Both raise OSError (ssl.SSLError is one).
    """

    def __init__(self, sock: socket.socket, tls: Optional[ssl.SSLContext] = None, server_side: bool = False,
                 server_name: Optional[str] = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.is_unix = sock.family == getattr(socket, "AF_UNIX", None)
        if not self.is_unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls: Optional[ssl.SSLObject] = None
        self._in, self._cipher_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._pending = b""  # Bytes of TLS that the kernel has not taken.
        self._ended = False  # The end of the TLS stream was read.
        self.cut = False  # The end of file came without close_notify.
        self.first_bytes = b""  # Of a TLS handshake, to recognize a peer without TLS.
        if tls is not None:
            self._tls = tls.wrap_bio(self._in, self._cipher_out, server_side=server_side,
                                     server_hostname=server_name)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._tls is not None

    @property
    def wants_write(self) -> bool:
        """Whether bytes of TLS wait for space in the socket."""
        return bool(self._pending)

    @property
    def eof_proves(self) -> bool:
        """Whether end of file means that the peer has read all bytes, if nothing is unread."""
        if self.is_tls or not LINUX:
            return False
        return self.is_unix or self.unread() == 0

    def certificate(self) -> Optional[bytes]:
        """Return the certificate of a TLS peer in DER, or None."""
        return self._tls.getpeercert(True) if self._tls is not None else None

    def unread(self) -> int:
        """Return the size of what the peer (on TCP: its kernel) has not taken, or -1 if it is not known."""
        if self.is_tls or not LINUX:
            return -1
        import fcntl
        import struct
        import termios

        try:
            raw = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return -1
        return int(struct.unpack("i", raw)[0])

    def unread_bound(self) -> int:
        """Return how many bytes may be unread at most, or 0 if there is no bound."""
        if not self.is_unix or self.is_tls or not LINUX:
            return 0
        return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) * 3 // 2

    def handshake(self) -> bool:
        """Continue the TLS handshake. It returns whether it is complete."""
        if self._tls is None:
            return True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            self._fill(4096)
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                return False
        except ssl.SSLError:
            self._flush()
            raise
        self._flush()
        return True

    def _fill(self, size: int) -> Optional[bytes]:
        """Read bytes of TLS. It returns them, or None."""
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, InterruptedError):
            return None
        if len(self.first_bytes) < 8:
            self.first_bytes += data[:8]
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        return data

    def _flush(self, strict: bool = False) -> None:
        """Write bytes of TLS. Unless strict, errors are left to the next read, which has the reason."""
        self._pending += self._cipher_out.read()
        while self._pending:
            try:
                self._pending = self._pending[self.sock.send(self._pending) :]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                if strict:
                    raise
                self._pending = b""

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Write as much of the buffers as the kernel takes at once."""
        if self._tls is None:
            try:
                return self.sock.sendmsg(buffers[:MAX_BUFFERS])
            except (BlockingIOError, InterruptedError):
                return 0
            except OSError as e:
                if e.errno == errno.ENOBUFS:
                    return 0
                raise
        self._flush(strict=True)
        taken = 0
        for buffer in buffers:
            if self._pending:
                break
            part = memoryview(buffer)[:_TLS_PART]
            taken += self._tls.write(part)
            self._flush(strict=True)
            if len(part) < len(buffer):
                break
        return taken

    def receive(self, size: int = RECEIVE_SIZE) -> Optional[bytes]:
        """Read bytes."""
        if self._tls is None:
            try:
                return self.sock.recv(size)
            except (BlockingIOError, InterruptedError):
                return None
        self._flush()
        if self._ended:
            return b""
        if self._fill(size) is None and not self._in.pending:
            return None
        parts: List[bytes] = []
        while True:
            try:
                part = self._tls.read(size)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                part = b""
            except ssl.SSLEOFError:
                self.cut = True
                part = b""
            if not part:
                self._ended = True
                return b"".join(parts)
            parts.append(part)
        self._flush()
        return b"".join(parts) or None

    def shutdown_write(self) -> None:
        """Close the sending side: over TLS with close_notify."""
        if self._tls is not None:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # The peer has not answered it, and need not.
            self._flush()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The peer has closed the connection.

    def shutdown_read(self) -> bool:
        """Close the receiving side, so that the peer's writes fail. It returns False if that would lose bytes."""
        if not self.is_unix or self.is_tls or not LINUX:
            return False
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # The peer has closed the connection: its bytes can be read.
        return True

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()
