# SPDX-License-Identifier: Apache-2.0
"""The asyncio Reader."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Callable, Coroutine, Optional, Set, Type

from ._io import IO, AsyncIO
from .reader import ReaderBase


class AsyncReader(ReaderBase):
    """A Reader for asyncio; the options are those of ReaderBase.

    handler, authorizer and dead_letter may be coroutine functions. A handler that blocks, blocks the
    event loop. All calls belong to the thread of one event loop.
    """

    _task: Optional[asyncio.Task[None]] = None

    def _spawn(self, function: Callable[[IO], Coroutine[Any, Any, None]], name: str) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(function(AsyncIO(loop)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self) -> AsyncReader:
        """Listen and begin to accept, as Reader.start does."""
        self._tasks: Set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        io = AsyncIO(loop)
        self._sockname = await self._engine.start(io)
        self._task = loop.create_task(self._engine.run(io))
        return self

    async def run(self) -> None:
        """Start, and serve until close is called or the task is cancelled."""
        await self.start()
        try:
            if self._task is not None:
                await asyncio.wait((self._task,))
        finally:
            await self.close()

    async def close(self, timeout: Optional[float] = None) -> None:
        """Handle all messages that were sent, and end the connections, as Reader.close does."""
        if self._task is None:
            return
        self._engine.stop(time.monotonic() + (self._close_timeout if timeout is None else timeout))
        await asyncio.wait((self._task,))
        forced = self._engine.busy
        for task in list(self._tasks) if forced else []:
            task.cancel()
        self._check_end()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> AsyncReader:
        return self if self._task is not None else await self.start()

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        traceback: Optional[TracebackType]) -> None:
        await self.close()
