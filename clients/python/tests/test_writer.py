# SPDX-License-Identifier: Apache-2.0
"""The Writers against readers that the tests write byte by byte."""

import threading

import pytest
from conftest import eventually
from scripted import Listener
from shells import WRITERS

import udsipc
from udsipc.session import GOODBYE, HEARTBEAT, Welcome
from udsipc.wire import Report, encode_frame

LIMIT = 1 << 20


@pytest.fixture(params=WRITERS)
def new_writer(request):
    made = []

    def make(address, **options):
        options.setdefault("on_error", lambda error: None)
        made.append(WRITERS[request.param](address, **options))
        return made[-1]

    yield make
    for writer in made:
        try:
            writer.close(0)
        except udsipc.NotDeliveredError:
            pass
        m = writer.metrics()
        assert m.accepted == m.sent + m.dropped + m.undelivered + m.queued


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
    flushed = threading.Event()
    thread = threading.Thread(target=lambda: (writer.flush(), flushed.set()))
    thread.start()
    assert not flushed.is_set()
    connection.expect(b"\x011")
    thread.join()
    connection.close()


def session(listener, handled=None, limit=LIMIT, heartbeat_timeout=0):
    """Accept a session."""
    connection = listener.accept()
    hello = connection.hello()
    handled = hello.first - 1 if handled is None else handled
    connection.send(Welcome(0, handled, limit, heartbeat_timeout).encode())
    return connection, hello


def test_session(new_writer, path):
    listener, writer = Listener(path), new_writer(path, acknowledged=True, heartbeat_timeout=7)
    for message in (b"1", b"2", b"3"):
        writer.write(message)
    connection, hello = session(listener)
    assert (hello.epoch, hello.first, hello.sent, hello.heartbeat_timeout) == (1, 1, 0, 7000)
    connection.expect(b"\x011\x012\x013")
    connection.send(HEARTBEAT + b"\x02")
    eventually(lambda: writer.metrics().acknowledged == 2)
    connection.close()
    connection, again = session(listener)
    assert (again.writer, again.epoch, again.first, again.sent) == (hello.writer, 2, 3, 3)
    connection.expect(b"\x013")
    connection.send(b"\x03")
    writer.flush()
    assert writer.metrics().redelivered == 1
    connection.send(GOODBYE)
    assert connection.rest() == b""
    connection.close()


def test_session_resumes(new_writer, path):
    """A welcome acknowledges, too."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    for message in (b"1", b"2", b"3"):
        writer.write(message)
    connection, _ = session(listener)
    connection.expect(b"\x011\x012\x013")
    connection.close()
    connection, hello = session(listener, handled=2)
    assert (hello.first, hello.sent) == (1, 3)
    connection.expect(b"\x013")
    assert writer.metrics().acknowledged == 2


def test_session_goodbye(new_writer, path):
    """After the goodbye nothing is sent on the connection, and the last acknowledgement counts."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    connection, _ = session(listener)
    writer.write(b"1")
    connection.expect(b"\x011")
    connection.send(GOODBYE)
    assert connection.rest() == b""  # The writer has closed its sending side.
    writer.write(b"2")
    connection.send(b"\x01")
    connection.close()
    connection, hello = session(listener)
    assert hello.first == 2
    connection.expect(b"\x012")


@pytest.mark.parametrize("bytes_", [b"\x03", b"\x01\x01", b"\x81\x00", b"\x80\x80\x00"])
def test_invalid_acknowledgements(new_writer, path, bytes_):
    """They are ignored, and end the connection."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    writer.write(b"2")
    connection, _ = session(listener)
    connection.expect(b"\x011\x012")
    connection.send(bytes_)
    assert connection.rest() == b""
    eventually(lambda: any(isinstance(e, udsipc.ProtocolError) for e in errors))
    connection, hello = session(listener)
    assert hello.first == (2 if bytes_.startswith(b"\x01") else 1)


@pytest.mark.parametrize("reply, error", [
    (Welcome(1, version=2).encode(), udsipc.VersionError),
    (Welcome(2).encode(), udsipc.FencedError),
    (GOODBYE + Report(4, 1, 0, LIMIT).encode(), udsipc.SessionsUnsupportedError),
    (GOODBYE + Report(2, 1, 0, LIMIT).encode(), udsipc.RejectedError),
    (b"HTTP/1.1 400 Bad Request" * 9, udsipc.ProtocolError),
    (b"\x05\x01\x00\x00\x00\x00", udsipc.ProtocolError),
])
def test_refusal(new_writer, path, reply, error):
    """A reader that refuses the session costs no message."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    connection = listener.accept()
    connection.hello()
    connection.send(HEARTBEAT + reply)
    connection.close()
    assert eventually(lambda: [e for e in errors if isinstance(e, error)])
    connection, hello = session(listener)
    connection.expect(b"\x011")
    connection.send(b"\x01")
    writer.flush()


def test_reader_without_sessions(new_writer, path):
    """Two connections that end without an answer."""
    errors = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_error=errors.append)
    writer.write(b"1")
    for _ in range(2):
        connection = listener.accept()
        connection.hello()
        connection.close()
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.SessionsUnsupportedError)])


def test_limit_of_the_welcome(new_writer, path):
    undelivered = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_undelivered=undelivered.append)
    for message in (b"small", b"larger than the limit", b"last"):
        writer.write(message)
    connection, _ = session(listener, limit=5)
    connection.expect(b"\x05small\x04last")
    connection.send(b"\x02")
    with pytest.raises(udsipc.NotDeliveredError) as e:
        writer.flush()
    assert e.value.undelivered == 1
    assert undelivered == [b"larger than the limit"]
    with pytest.raises(udsipc.MessageTooLargeError):
        writer.write(b"larger")


def test_limit_that_shrinks(new_writer, path):
    """A message that was sent keeps its number when it is given up: the next hello begins above it."""
    undelivered = []
    listener, writer = Listener(path), new_writer(path, acknowledged=True, on_undelivered=undelivered.append)
    for message in (b"1", b"larger", b"3"):
        writer.write(message)
    connection, _ = session(listener)
    connection.expect(b"\x011\x06larger\x013")
    connection.close()
    connection, _ = session(listener, limit=5)
    connection.expect(b"\x011")
    connection.send(b"\x01")
    assert connection.rest() == b""
    connection.close()
    connection, hello = session(listener, limit=5)
    assert (hello.first, hello.sent) == (3, 3)
    connection.expect(b"\x013")
    assert undelivered == [b"larger"]


def test_heartbeats(new_writer, path):
    listener, writer = Listener(path), new_writer(path, acknowledged=True, heartbeat_timeout=0)
    connection, _ = session(listener, heartbeat_timeout=40)
    connection.expect(HEARTBEAT * 3)
    writer.write(b"1")
    while connection.data[:2] != b"\x011":
        connection.expect(HEARTBEAT) if connection.data[:2] == HEARTBEAT else None
        connection.data += connection.socket.recv(100) if len(connection.data) < 2 else b""


def test_silent_reader(new_writer, path):
    errors = []
    listener = Listener(path)
    new_writer(path, acknowledged=True, heartbeat_timeout=0.05, on_error=errors.append)
    connection, _ = session(listener)
    assert connection.rest() == b""
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.HeartbeatTimeoutError)])


def test_reader_that_knows_too_much(new_writer, path):
    """The writer goes on with a new ID."""
    listener, writer = Listener(path), new_writer(path, acknowledged=True)
    writer.write(b"1")
    connection, first = session(listener, handled=99)
    assert connection.rest() == b""
    connection.close()
    connection, second = session(listener)
    assert second.writer != first.writer and second.epoch == 1
    connection.expect(b"\x011")


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


