# SPDX-License-Identifier: Apache-2.0
"""The asyncio classes behind the methods of the blocking ones, so that tests run with both."""

import asyncio
import inspect
import threading

from conftest import PATIENCE

import udsipc
from udsipc import rpc


class Loop:
    """An event loop in a thread, as long as the process."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, function, *args, **kwargs):
        async def call():
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE)


LOOP = Loop()


class Blocking:
    """Calls the coroutine functions of an object of asyncio from another thread."""

    def __init__(self, made):
        self._made = made

    def __getattr__(self, name):
        found = getattr(self._made, name)
        return (lambda *args, **kwargs: wrap(LOOP.run(found, *args, **kwargs))) if callable(found) else found

    def __enter__(self):
        LOOP.run(self._made.__aenter__)
        return self

    def __exit__(self, *args):
        LOOP.run(self._made.__aexit__, *args)

    def __iter__(self):
        while (message := self.receive()) is not None:
            yield message


def flood(writer, count):
    """Write numbers from a thread, which is returned."""

    async def write():
        for i in range(count):
            await writer._made.write(b"%d" % i)

    def write_blocking():
        for i in range(count):
            writer.write(b"%d" % i)

    if isinstance(writer, Blocking):
        thread = threading.Thread(target=lambda: asyncio.run_coroutine_threadsafe(write(), LOOP.loop).result(60))
    else:
        thread = threading.Thread(target=write_blocking)
    thread.start()
    return thread


def wrap(result):
    known = (rpc.AsyncStream, udsipc.AsyncReader, udsipc.AsyncWriter)
    return Blocking(result) if isinstance(result, known) else result


def shell(kind):
    """Return a constructor like kind, whose objects have blocking methods."""

    def make(*args, **kwargs):
        made = LOOP.run(kind, *args, **kwargs)
        if kind is not udsipc.AsyncReader:
            LOOP.run(made.__aenter__)  # It begins to run, as the blocking ones do.
        return Blocking(made)

    return make


WRITERS = {"blocking": udsipc.Writer, "asyncio": shell(udsipc.AsyncWriter)}
READERS = {"blocking": udsipc.Reader, "asyncio": shell(udsipc.AsyncReader)}
CLIENTS = {"blocking": rpc.Client, "asyncio": shell(rpc.AsyncClient)}
