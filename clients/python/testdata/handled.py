# SPDX-License-Identifier: Apache-2.0
"""The Reader that udsipc conform tests: it prints a line for each message.

handled.py [--asyncio] ADDRESS
"""

import asyncio
import sys
import time

import udsipc


def show(delivery: udsipc.Delivery) -> None:
    """Print the length, the sum, the flag and the start of a message."""
    data = delivery.data
    flag = "r" if delivery.redelivered else "-"
    head = f"{len(data)} {sum(data)} {flag} ".encode()
    sys.stdout.buffer.write(head + data[:40] + b"\n")
    sys.stdout.flush()


def handle(delivery: udsipc.Delivery) -> None:
    """Handle a message in a thread."""
    if delivery.data.startswith(b"sleep "):
        time.sleep(int(delivery.data[6:]) / 1000)
    show(delivery)


async def handle_async(delivery: udsipc.Delivery) -> None:
    """Handle a message in a task."""
    if delivery.data.startswith(b"sleep "):
        await asyncio.sleep(int(delivery.data[6:]) / 1000)
    show(delivery)


if sys.argv[1] == "--asyncio":
    asyncio.run(udsipc.AsyncReader(sys.argv[2], handle_async).run())
else:
    udsipc.Reader(sys.argv[1], handle).run()
