# SPDX-License-Identifier: Apache-2.0
"""The engine of the rpc clients: it connects, writes, reads and reconnects."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from typing import Callable, Optional

from .._address import Address
from .._dial import Backoff, Dialer
from .._io import IO
from .._transport import Transport
from ..errors import NotConnectedError, ProtocolError
from ._core import ClientCore
from .errors import Code, RpcError

logger = logging.getLogger("udsipc")


class ClientEngine:
    """Runs in a thread or a task of its own. lock guards the core and the fields that shells read."""

    def __init__(self, io: IO, core: ClientCore, address: Address, tls: Optional[ssl.SSLContext],
                 server_name: Optional[str], dial_timeout: float, max_backoff: float, lock: threading.RLock,
                 notify: Callable[[], None], on_error: Optional[Callable[[Exception], object]]) -> None:
        self.io = io
        self.core = core
        self.lock = lock
        self.last_error: Optional[Exception] = None
        self.stop_at: Optional[float] = None
        self.wanted = True
        self.done = False
        self._notify = notify  # Called with lock held: the connection has changed, or there is space.
        self._address = address
        self._on_error = on_error
        self._backoff = Backoff(max_backoff)
        self._dialer = Dialer(io, address, tls, server_name, dial_timeout, lambda: self.stop_at)
        self._sleeping = True

    def wake_if_sleeping(self) -> None:
        """Wake the engine, with lock held, if it may wait for this change."""
        if self._sleeping:
            self._sleeping = False
            self.io.wake()

    def stop(self, at: float) -> None:
        """Complete the calls until a time, then end. lock is held."""
        if self.stop_at is None:
            self.stop_at = at
            self.core.stop(RpcError(Code.STOPPED, "the client was closed"), True)
            self._sleeping = True
            self.wake_if_sleeping()

    def _ended(self) -> bool:
        return self.stop_at is not None and (self.core.idle or time.monotonic() >= self.stop_at)

    async def run(self) -> None:
        """Serve the calls until the client is closed."""
        try:
            while await self._until_wanted():
                try:
                    transport = await self._dialer.dial()
                except (OSError, NotConnectedError) as e:
                    self._disconnected(e)
                else:
                    await self._serve(transport)
        finally:
            with self.lock:
                self.done = True
                self.core.stop(RpcError(Code.STOPPED, "the client was closed"), False)
                self._notify()
            self.io.close()

    async def _until_wanted(self) -> bool:
        until = time.monotonic() + self._backoff.delay()
        while True:
            with self.lock:
                now = time.monotonic()
                if self._ended():
                    return False
                wanted = bool(self.core.waiting) or self.wanted
                if wanted and now >= until:
                    return True
                limits = [until] if wanted else []
                if self.stop_at is not None:
                    limits.append(self.stop_at)
                self._sleeping = True
            await self.io.wait(None, False, False, min(limits) - now if limits else None)

    async def _serve(self, transport: Transport) -> None:
        with self.lock:
            self.core.connect()
            self.wanted = False
            self._notify()
        cause: Optional[Exception] = None
        try:
            cause = await self._exchange(transport)
        except (OSError, ProtocolError) as e:
            cause = e
        finally:
            transport.close()
            self._disconnected(cause)

    async def _exchange(self, transport: Transport) -> Optional[Exception]:
        """Write and read until the end of file. It returns why the connection has ended, if not gracefully."""
        began = time.monotonic()
        broken = False
        while True:
            with self.lock:
                if self._ended():
                    self.core.stop(RpcError(Code.STOPPED, "the client was closed"), False)
                    return None
                buffers = [] if broken else self.core.to_send()
                n = 0
                if buffers:
                    try:
                        n = transport.send(buffers)
                    except BrokenPipeError:
                        broken = True
                    else:
                        self.core.sent(n)
                        if n:
                            self._notify()
            data = transport.receive()
            if data == b"":
                if transport.cut or self.core.incomplete:
                    return ProtocolError("the end of the connection came within a message, or without notice")
                return self.core.error
            with self.lock:
                if data:
                    self.core.received(data)
                    self._backoff.failures = 0
                more = [] if broken else self.core.to_send()
                if more and (n or not buffers) or self._ended():
                    continue
                self._sleeping = True
                if time.monotonic() - began > 1.0:
                    self._backoff.failures = 0
                limit = None if self.stop_at is None else self.stop_at - time.monotonic()
            await self.io.wait(transport.sock, True, bool(more) or transport.wants_write, limit)

    def _disconnected(self, cause: Optional[Exception]) -> None:
        with self.lock:
            stopping = self.core.leaving and cause is None
            if self.core.connected:
                self.core.disconnect(str(cause or "the server has closed the connection"))
            self.last_error = cause or self.last_error
            if not stopping:
                self._backoff.failures += 1
            self._notify()
        if cause is not None and self._backoff.failures == 1:
            self._tell(cause)

    def _tell(self, error: Exception) -> None:
        if self._on_error is None:
            logger.warning("udsipc client %s: %s", self._address.text, error)
            return
        try:
            self._on_error(error)
        except Exception:
            logger.exception("udsipc: on_error has failed")
