# SPDX-License-Identifier: Apache-2.0
"""The asyncio client of rpc."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import AsyncIterator, Callable, Mapping, Optional, Type, Union

from .._io import AsyncIO
from ..aio_writer import Signal
from ..errors import NotConnectedError
from ..wire import copy_of
from ._engine import ClientEngine
from ._pending import Notification, PendingCall, PendingStream
from .client import Bytes, ClientBase, deadline_of
from .errors import Code, RpcError


def _rest(deadline: Optional[float]) -> Optional[float]:
    return None if deadline is None else deadline - time.monotonic()


class AsyncClient(ClientBase):
    """A Client for asyncio; the options are those of ClientBase.

    It begins to run with the first call, or with async with. A call whose task is cancelled is cancelled at the
    server. All calls belong to the thread of one event loop.
    """

    def _start(self) -> None:
        self._changed = Signal()
        self._engine_or_none: Optional[ClientEngine] = None
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def _engine(self) -> ClientEngine:
        if self._engine_or_none is None:
            loop = asyncio.get_running_loop()
            self._engine_or_none = self._new_engine(AsyncIO(loop), self._changed.notify)
            self._task = loop.create_task(self._engine_or_none.run())
        return self._engine_or_none

    async def call(self, method: str, request: Bytes = b"", timeout: Optional[float] = None, *,
                   idempotent: bool = False, metadata: Optional[Mapping[str, str]] = None) -> bytes:
        """Call a method and return its response, as Client.call does."""
        signal = Signal()
        call = PendingCall(method, copy_of(request), deadline_of(timeout), signal, idempotent, metadata)
        self._begin(self._engine, call)
        try:
            if not await signal.wait_for(lambda: call.finished, _rest(call.deadline)):
                self._expire(self._engine, call, Code.DEADLINE_EXCEEDED, method)
        except asyncio.CancelledError:
            self._expire(self._engine, call, Code.CANCELED, method)
            raise
        if call.error is not None:
            raise call.error
        return call.response

    async def notify(self, method: str, data: Bytes = b"") -> None:
        """Send a request without a response."""
        self._begin(self._engine, Notification(method, copy_of(data), None, self._changed))

    async def stream(self, method: str, request: Bytes = b"", timeout: Optional[float] = None,
                     metadata: Optional[Mapping[str, str]] = None) -> AsyncStream:
        """Open a stream. The time limit is that of the whole stream."""
        signal = Signal()
        pending = PendingStream(method, copy_of(request), deadline_of(timeout), signal, metadata)
        self._begin(self._engine, pending)
        return AsyncStream(self, pending, signal)

    async def wait_connected(self, timeout: Optional[float] = None) -> None:
        """Wait until there is a connection. NotConnectedError has the cause."""
        engine = self._engine
        engine.wanted = True
        engine.wake_if_sleeping()
        await self._changed.wait_for(lambda: self._core.connected or engine.done, timeout)
        if not self._core.connected:
            raise NotConnectedError(f"not connected: {engine.last_error}") from engine.last_error

    async def close(self, timeout: Optional[float] = None) -> None:
        """End the streams, wait for the calls in flight within the time limit, and disconnect."""
        self._engine.stop(time.monotonic() + (self._close_timeout if timeout is None else timeout))
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))

    async def __aenter__(self) -> AsyncClient:
        assert self._engine
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        await self.close()


class AsyncStream:
    """A stream of messages in both directions. One task may send and one may receive at a time."""

    def __init__(self, client: AsyncClient, pending: PendingStream, signal: Signal) -> None:
        self._client = client
        self._pending = pending
        self._signal = signal

    async def _wait(self, condition: Callable[[], bool]) -> None:
        if not await self._signal.wait_for(condition, _rest(self._pending.deadline)):
            self._client._expire(self._client._engine, self._pending, Code.DEADLINE_EXCEEDED,
                                 "the time limit of the stream has passed")

    async def send(self, message: Bytes) -> None:
        """Send a message. It waits while the server has the window unread."""
        client, pending, data = self._client, self._pending, copy_of(message)
        if len(data) + 32 > client._core.limit:
            raise RpcError(Code.TOO_LARGE, f"a message of {len(data)} bytes")

        def sendable() -> bool:
            pending.check_send()
            return pending.number > 0 and pending.credit > 0 and client._core.has_space

        await self._wait(sendable)
        pending.check_send()
        client._core.send_about(pending, pending.encode_data(data))
        client._engine.wake_if_sleeping()

    async def receive(self) -> Optional[bytes]:
        """Return the next message, or None at the end of the stream."""
        client, pending = self._client, self._pending
        message: Union[bytes, None, bool] = False

        def taken() -> bool:
            nonlocal message
            message = pending.take()
            return message is not False

        await self._wait(taken)
        if isinstance(message, bool):  # The time limit has passed.
            message = pending.take()
        if message is None or isinstance(message, bool):
            return None
        client._core.send_about(pending, pending.return_credit(len(message)))
        client._engine.wake_if_sleeping()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.receive()) is not None:
            yield message

    async def close_send(self) -> None:
        """End the sending direction. This side may still receive."""
        if not self._pending.local_closed:
            self._client._core.close_send(self._pending)
            self._client._engine.wake_if_sleeping()

    async def close(self) -> None:
        """End the stream at both ends."""
        if not self._pending.finished:
            self._client._expire(self._client._engine, self._pending, Code.CANCELED, "the stream was closed")

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        await self.close()
