# SPDX-License-Identifier: Apache-2.0
"""Lack of descriptors, callbacks that fail, closes that are interrupted, arguments that cannot be."""

import asyncio
import errno
import ssl

import pytest
from conftest import PATIENCE, eventually
from handlers import Got

import udsipc
from udsipc._address import parse_address
from udsipc._queue import Overflow, SendQueue
from udsipc._reader_link import ReaderLink
from udsipc._states import WriterStates
from udsipc._writer_link import Ending, WriterLink
from udsipc.rpc import Client, RpcError
from udsipc.session import GOODBYE, Hello, heartbeat_period
from udsipc.wire import Report


def quiet(error):
    pass


def test_no_descriptor_for_a_connection(path, monkeypatch):
    """The Reader pauses and goes on, as after an accept that fails."""
    got, errors, left = Got(), [], [OSError(errno.EMFILE, "too many"), RuntimeError("can't start new thread")]
    made = udsipc.reader.BlockingIO

    def scarce():
        if left:
            raise left.pop()
        return made()

    with udsipc.Reader(path, got, on_error=errors.append) as reader:
        monkeypatch.setattr(udsipc.reader, "BlockingIO", scarce)
        with udsipc.Writer(path, acknowledged=True, on_error=quiet) as writer:
            writer.write(b"a")
            writer.flush(PATIENCE)
        assert reader.metrics().accept_errors == len(errors) == 2
    assert got.data == [b"a"]


def test_no_descriptor_at_start(path, monkeypatch):
    """start tells it, and leaves no socket file."""
    made, calls = udsipc.reader.BlockingIO, []

    def scarce():
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.EMFILE, "too many")
        return made()

    monkeypatch.setattr(udsipc.reader, "BlockingIO", scarce)
    with pytest.raises(OSError):
        udsipc.Reader(path, quiet).start()
    with udsipc.Reader(path, quiet):
        pass


def test_close_interrupted(path, monkeypatch):
    """The next close tells what is left."""
    kept = []
    writer = udsipc.Writer(path, on_error=quiet, on_undelivered=kept.append)
    writer.write(b"a")

    def interrupt(*args):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._changed, "wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        writer.close(0)
    with pytest.raises(udsipc.NotDeliveredError, match="1 left"):
        writer.close()
    assert kept == [b"a"]
    writer.close()


def test_close_cancelled(path):
    kept = []

    async def main():
        writer = udsipc.AsyncWriter(path, on_error=quiet, on_undelivered=kept.append)
        await writer.write(b"a")
        closing = asyncio.ensure_future(writer.close(0.05))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(udsipc.NotDeliveredError, match="1 left"):
            await writer.close()

    asyncio.run(main())
    assert kept == [b"a"]


def test_event_loop_ends_before_close(path):
    """What is left is told, and close works with another event loop."""
    kept, errors = [], []

    async def main():
        writer = udsipc.AsyncWriter(path, on_error=errors.append, on_undelivered=kept.append)
        await writer.write(b"a")
        return writer

    writer = asyncio.run(main())
    m = writer.metrics()
    assert kept == [b"a"] and m.accepted == m.undelivered == 1
    assert any(isinstance(e, udsipc.NotDeliveredError) and e.left == 1 for e in errors)
    with pytest.raises(udsipc.NotDeliveredError):
        asyncio.run(writer.close())


@pytest.mark.parametrize("message", [3, [1, 2], "text", None])
def test_no_bytes(new_writer, path, message):
    writer = new_writer(path)
    with pytest.raises(TypeError):
        writer.write(message)
    assert writer.metrics().accepted == 0


def test_copies(new_writer, new_reader, path):
    got = Got()
    new_reader(path, got)
    writer = new_writer(path, acknowledged=True)
    for message in (bytearray(b"a"), memoryview(b"bcd")[::2]):
        writer.write(message)
    writer.flush(PATIENCE)
    assert got.data == [b"a", b"bd"]


def test_drop_oldest_only_if_it_helps():
    queue = SendQueue(100, 1000)
    queue.put(b"x" * 600, Overflow.ERROR)
    queue.take(1, 1, True)
    queue.put(b"y" * 300, Overflow.ERROR)
    with pytest.raises(udsipc.BufferFullError):
        queue.put(b"z" * 500, Overflow.DROP_OLDEST)
    assert queue.snapshot().dropped == 0
    assert queue.put(b"z" * 200, Overflow.DROP_OLDEST) and queue.snapshot().dropped == 1
    queue.disconnect()
    assert queue.give_up_all() == 2 and queue.snapshot().queued_bytes == queue._fresh_bytes == 0


def test_new_identity_marks_what_was_sent():
    queue = SendQueue(10, 1000)
    for message in (b"a", b"b", b"c"):
        queue.put(message, Overflow.ERROR)
    queue.take(2, 1000, True)
    queue.disconnect()
    writer = queue.writer
    assert not queue.welcome(77) and queue.writer != writer
    assert (queue.handled, queue.highest) == (0, 2)


@pytest.mark.parametrize("report", [Report(0, 100, 77, 9), Report(0, 0, 77, 9)])
def test_a_report_cannot_lose_more_than_was_sent(report):
    queue = SendQueue(10, 1000)
    for message in (b"a", b"b", b"c"):
        queue.put(message, Overflow.ERROR)
    link = WriterLink(queue, False, 0, 0.0)
    link.sent(sum(map(len, link.to_send())), 0.0)
    link.received(GOODBYE + report.encode(), 0.0)
    assert link.close(Ending(None, True)) == queue.snapshot().possibly_lost == 3


def test_short_heartbeat_timeouts():
    assert [heartbeat_period(ms) for ms in (0, 1, 99, 100, 1000)] == [0, 0.1, 0.1, 0.1, 1]
    link = ReaderLink(100, 0, 50.0)
    link.feed(Hello(bytes(16), 1, 1, 0, heartbeat_timeout=1).encode(), 50.0)
    assert isinstance(link.next(50.0), Hello)
    link.welcome(0, 50.0)
    assert link.heartbeat_at() == 50.025


class Owner:
    def fence(self):
        pass


def test_the_state_is_evicted_that_was_released_first():
    states, hello = WriterStates(max_states=2), Hello(bytes(16), 1, 1, 0)
    claims = {}
    for key in ("long", "short"):
        claims[key] = states.claim((0, key), hello, Owner(), lambda: None)
        assert claims[key].acquire()
    claims["short"].release(0)
    claims["long"].release(5)
    states.claim((0, "third"), hello, Owner(), lambda: None)
    assert (0, "long") in states._states and (0, "short") not in states._states


def test_dead_letter_that_fails(new_reader, new_writer, path):
    """The message counts as handled, and the error is told."""
    errors = []

    def fail(*args):
        raise KeyError("no")

    new_reader(path, fail, dead_letter=fail, max_redeliveries=0, on_error=errors.append)
    writer = new_writer(path, acknowledged=True)
    writer.write(b"a")
    writer.flush(PATIENCE)
    assert ["dead_letter" in str(e) for e in errors] == [False, True]


def test_authorizer_that_fails(new_reader, new_writer, path):
    """It has authorized nobody."""
    errors, answers = [], [KeyError("no")]

    def authorize(peer):
        if answers:
            raise answers.pop()
        return True

    reader = new_reader(path, Got(), authorizer=authorize, on_error=errors.append)
    writer = new_writer(path, acknowledged=True)
    writer.write(b"a")
    writer.flush(PATIENCE)
    assert eventually(lambda: reader.metrics().unauthorized == 1)
    assert isinstance(errors[0], udsipc.HandlerError) and "authorizer" in str(errors[0])


@pytest.mark.parametrize("address", ["tcp://..:80", "tcp://" + "a" * 70 + ".org:80", "tcp://host:\u00b2"])
def test_hosts_that_cannot_be(address):
    with pytest.raises(udsipc.InvalidAddressError):
        parse_address(address)


@pytest.mark.parametrize("kind", [udsipc.Writer, udsipc.AsyncWriter, Client])
def test_tls_without_a_name_to_check(kind):
    """ssl would accept the certificate of any name."""
    with pytest.raises(ValueError, match="server_name"):
        kind("/run/nobody.sock", tls=ssl.create_default_context())


def test_errors_collect_no_tracebacks(path):
    client = Client(path, on_error=quiet)
    client.close(0)
    for _ in range(5):
        with pytest.raises(RpcError) as raised:
            client.call("method")
    assert len(raised.traceback) < 5
