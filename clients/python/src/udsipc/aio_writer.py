# SPDX-License-Identifier: Apache-2.0
"""The asyncio Writer."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Callable, List, Optional, Type

from ._io import AsyncIO
from ._writer_engine import WriterEngine
from .errors import BufferFullError, NotConnectedError, NotDeliveredError, StoppedError
from .wire import copy_of
from .writer import Bytes, WriterBase


class Signal:
    """Lets tasks wait for a change."""

    def __init__(self) -> None:
        self._waiters: List[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Wake all that wait."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, condition: Callable[[], bool], timeout: Optional[float]) -> bool:
        """Wait until the condition holds. It returns False if the time has passed before."""
        until = None if timeout is None else time.monotonic() + timeout
        while not condition():
            rest = None if until is None else until - time.monotonic()
            if rest is not None and rest <= 0:
                return False
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await asyncio.wait((waiter,), timeout=rest)
        return True


class AsyncWriter(WriterBase):
    """A Writer for asyncio; the options are those of WriterBase.

    It begins to run with the first call, or with async with. All calls belong to the thread of one event
    loop.
    """

    def _start(self) -> None:
        self._signal = Signal()
        self._engine_or_none: Optional[WriterEngine] = None
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def _engine(self) -> WriterEngine:
        if self._engine_or_none is None:
            loop = asyncio.get_running_loop()
            self._engine_or_none = self._new_engine(AsyncIO(loop), self._signal.notify)
            self._task = loop.create_task(self._engine_or_none.run())
            self._task.add_done_callback(self._cancelled)
        return self._engine_or_none

    def _cancelled(self, task: asyncio.Task[None]) -> None:
        """Tell what is left if the event loop ends before close, as that of asyncio.run does."""
        engine = self._engine_or_none
        if not task.cancelled() or engine is None:
            return
        engine.done = True
        self._signal.notify()
        left = self._queue.give_up_all()
        if left:
            engine.tell(NotDeliveredError(left, 0, 0, 0))
        engine.return_undelivered()

    async def write(self, data: Bytes, timeout: Optional[float] = None) -> None:
        """Queue a copy of a message, as Writer.write does."""
        message = copy_of(data)
        engine = self._engine
        self._queue.check_size(len(message))

        def put() -> bool:
            if engine.stopping or engine.done:
                raise StoppedError("the AsyncWriter was closed")
            return self._queue.put(message, self._overflow)

        if not await self._signal.wait_for(put, timeout):
            self._queue.metrics.refused += 1
            raise BufferFullError(f"the queue had no space for {timeout} s")
        engine.wake_if_sleeping()
        if len(self._queue) > self._queue.max_messages // 2:
            await asyncio.sleep(0)  # The engine runs in the same thread.

    async def flush(self, timeout: Optional[float] = None) -> None:
        """Wait until the messages that were queued before are delivered, as Writer.flush does."""
        engine, position = self._engine, self._queue.metrics.accepted
        engine.begin_flush()
        try:
            await self._signal.wait_for(lambda: engine.flushed(position), timeout)
        finally:
            engine.flushing -= 1
        self._losses.check(self._queue.metrics, self._queue.left_up_to(position))
        if not engine.flushed(position):
            raise NotDeliveredError(0, 0, 0, 0)

    async def wait_connected(self, timeout: Optional[float] = None) -> None:
        """Wait until the AsyncWriter is connected, as Writer.wait_connected does."""
        engine = self._engine
        engine.want_connection()
        await self._signal.wait_for(lambda: engine.connected or engine.done, timeout)
        if not engine.connected:
            raise NotConnectedError(f"not connected: {engine.last_error}") from engine.last_error

    async def close(self, timeout: Optional[float] = None) -> None:
        """Send what is queued within the time limit, then close, as Writer.close does."""
        engine = self._engine
        engine.stop(time.monotonic() + (self._close_timeout if timeout is None else timeout))
        self._signal.notify()
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,))
        self._check_end(engine)

    async def __aenter__(self) -> AsyncWriter:
        assert self._engine
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        try:
            await self.close()
        except NotDeliveredError:
            if error is None:
                raise
