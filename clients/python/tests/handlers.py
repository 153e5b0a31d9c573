# SPDX-License-Identifier: Apache-2.0
"""Handlers of the tests."""

import asyncio

from conftest import PATIENCE


class Got(list):
    """A handler that keeps the deliveries."""

    def __call__(self, delivery):
        self.append(delivery)

    @property
    def data(self):
        return [d.data for d in self]


def waiting_handler(request, got, go):
    """A handler that keeps the deliveries, and waits."""

    def handler(delivery):
        got(delivery)
        assert go.wait(PATIENCE)

    async def handler_async(delivery):
        got(delivery)
        while not go.is_set():
            await asyncio.sleep(0.001)

    return handler_async if "asyncio" in request.node.name else handler
