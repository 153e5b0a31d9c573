# SPDX-License-Identifier: Apache-2.0
"""The Writers against readers that the tests write byte by byte."""

import threading

import pytest
from conftest import eventually
from scripted import Listener

import udsipc
from udsipc.session import GOODBYE
from udsipc.wire import Report, encode_frame

LIMIT = 1 << 20


def test_overflow_error(new_writer, path):
    writer = new_writer(path, max_messages=2)
    writer.write(b"1")
    writer.write(b"2")
    with pytest.raises(udsipc.BufferFullError):
        writer.write(b"3")
    assert writer.metrics().refused == 1 and writer.metrics().queued == 2


def test_overflow_bytes(new_writer, path):
    writer = new_writer(path, max_bytes=100)
    writer.write(b"x" * 60)
    with pytest.raises(udsipc.BufferFullError):
        writer.write(b"x" * 60)
    with pytest.raises(udsipc.MessageTooLargeError):
        writer.write(b"x" * 100)


def test_overflow_drop_oldest(new_writer, path):
    writer = new_writer(path, max_messages=2, overflow="drop_oldest")
    for message in (b"1", b"2", b"3"):
        writer.write(message)
    connection = Listener(path).accept()
    connection.expect(encode_frame(b"2") + encode_frame(b"3"))
    assert writer.metrics().dropped == 1
    connection.close()
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.flush()
    assert e.value.dropped == 1 and e.value.left == 0
    writer.flush()  # A loss is told once.


def test_overflow_block(new_writer, path):
    writer = new_writer(path, max_messages=1, overflow=udsipc.Overflow.BLOCK)
    writer.write(b"1")
    with pytest.raises(udsipc.BufferFullError):
        writer.write(b"2", timeout=0.001)
    thread = threading.Thread(target=lambda: writer.write(b"2"))
    thread.start()
    connection = Listener(path).accept()
    connection.expect(encode_frame(b"1") + encode_frame(b"2"))
    thread.join()


def test_sizes(new_writer, path):
    """Small messages are joined, large ones are not copied: all arrive in order."""
    writer = new_writer(path, overflow="block")
    messages = [bytes((n % 251,)) * n for n in (0, 1, 127, 128, 4094, 4095, 4096, 100_000, 3, 0, 1 << 20, 5)]
    connection = Listener(path)
    for message in messages:
        writer.write(message)
    connection.accept().expect(b"".join(map(encode_frame, messages)))


def test_close_tells_what_is_left(new_writer, path):
    undelivered = []
    writer = new_writer(path, on_undelivered=undelivered.append)
    for message in (b"1", b"2"):
        writer.write(message)
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.flush(0.01)
    assert e.value.left == 2
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.close(0.01)
    assert e.value.left == 2 and e.value.undelivered == 0
    assert undelivered == [b"1", b"2"]
    writer.close()
    with pytest.raises(udsipc.StoppedError):
        writer.write(b"3")


def test_wait_connected(new_writer, path):
    writer = new_writer(path)
    with pytest.raises(udsipc.NotConnectedError):
        writer.wait_connected(0.01)
    listener = Listener(path)
    writer.wait_connected()
    listener.accept().close()


@pytest.mark.parametrize("end, lost", [
    (GOODBYE, 0),
    (b"", 0),
    (GOODBYE + Report(0, 3, 0, LIMIT).encode(), 0),
    (GOODBYE + Report(2, 1, 0, LIMIT).encode(), 2),
    (GOODBYE + Report(3, 3, 1, LIMIT).encode(), 1),
    (GOODBYE + Report(5, 0, 1, LIMIT).encode(), 1),
    (b"HTTP/1.1 400", 2),
])
def test_plain_end(new_writer, path, end, lost):
    """What a reader has not handled is counted exactly, and further messages take another connection."""
    listener, writer = Listener(path), new_writer(path)
    writer.write(b"1")
    writer.write(b"2")
    connection = listener.accept()
    connection.expect(b"\x011\x012")
    connection.send(end)
    connection.close()
    eventually(lambda: writer.metrics().disconnects == 1)
    assert writer.metrics().possibly_lost == lost
    writer.write(b"3")
    listener.accept().expect(b"\x013")


def test_plain_reset(new_writer, path):
    """Bytes that were unread when the reader closed are a possible loss."""
    errors = []
    listener, writer = Listener(path), new_writer(path, on_error=errors.append)
    connection = listener.accept()
    writer.write(b"1")
    eventually(lambda: writer.metrics().sent == 1)
    connection.close()
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.flush()
    assert e.value.possibly_lost == 1
    assert any(isinstance(error, udsipc.PossibleLossError) and error.count == 1 for error in errors)


def test_plain_continues_at_a_frame(new_writer, path):
    """A message that was taken in part is sent again from its beginning."""
    listener, writer = Listener(path), new_writer(path)
    writer.write(b"first")
    writer.write(b"x" * (8 << 20))
    connection = listener.accept()
    connection.expect(encode_frame(b"first"))
    connection.socket.shutdown(0)  # The writes fail with EPIPE.
    connection.rest()
    connection.send(GOODBYE)
    connection.close()
    listener.accept().expect(encode_frame(b"x" * (8 << 20)))
    assert writer.metrics().possibly_lost == 0


def test_plain_flush_waits_for_the_peer(new_writer, path):
    listener, writer = Listener(path), new_writer(path)
    connection = listener.accept()
    writer.write(b"1")
    eventually(lambda: writer.metrics().sent == 1)
    with pytest.raises(udsipc.NotDeliveredError, match="not read"):
        writer.flush(0.02)
    thread = threading.Thread(target=writer.flush)
    thread.start()
    connection.expect(b"\x011")
    thread.join()
    connection.close()


def test_plain_goodbye(new_writer, path):
    """The writer closes its sending side, and waits for the end."""
    listener, writer = Listener(path), new_writer(path)
    connection = listener.accept()
    writer.write(b"1")
    connection.expect(b"\x011")
    connection.send(GOODBYE)
    assert connection.rest() == b""
    writer.write(b"2")
    connection.close()
    listener.accept().expect(b"\x012")
    assert writer.metrics().possibly_lost == 0


def test_abstract_address(new_writer):
    name = f"@udsipc-python-{id(new_writer)}"
    listener, writer = Listener("\0" + name[1:]), new_writer(name)
    writer.write(b"1")
    listener.accept().expect(b"\x011")


@pytest.mark.parametrize("address", ["", "tcp://host", "tcp://host:x", "/" + "x" * 108])
def test_invalid_addresses(address):
    with pytest.raises(udsipc.InvalidAddressError):
        udsipc.Writer(address)


def test_plaintext_beyond_the_machine():
    with pytest.raises(udsipc.InvalidAddressError):
        udsipc.Writer("tcp://192.0.2.1:7")
