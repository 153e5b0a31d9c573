# SPDX-License-Identifier: Apache-2.0
"""The Writer that udsipc conform tests: it sends each line of its input.

lines.py [--plain] [--asyncio] ADDRESS
"""

import asyncio
import sys

import udsipc

ACKNOWLEDGED = "--plain" not in sys.argv


def send() -> None:
    """Send with a thread."""
    with udsipc.Writer(sys.argv[-1], acknowledged=ACKNOWLEDGED, overflow="block", max_backoff=0.02,
                       close_timeout=60) as writer:
        for line in sys.stdin.buffer:
            writer.write(line.rstrip(b"\n"))


async def send_async() -> None:
    """Send with a task."""
    async with udsipc.AsyncWriter(sys.argv[-1], acknowledged=ACKNOWLEDGED, overflow="block", max_backoff=0.02,
                                  close_timeout=60) as writer:
        for line in sys.stdin.buffer:
            await writer.write(line.rstrip(b"\n"))


try:
    asyncio.run(send_async()) if "--asyncio" in sys.argv else send()
except udsipc.NotDeliveredError as e:
    sys.exit(str(e))
