# SPDX-License-Identifier: Apache-2.0
"""The Readers against writers that the tests write byte by byte."""

import os
import socket
import threading

import pytest
from conftest import PATIENCE, eventually
from handlers import Got, waiting_handler
from scripted import Connection

import udsipc
from udsipc.session import GOODBYE, Hello
from udsipc.wire import Report, encode_frame

ID = bytes(range(16))
LIMIT = 10 << 20


def test_plain(new_reader, path):
    got = Got()
    reader = new_reader(path, got)
    connection = Connection.connect(path)
    connection.send(b"\x05hello\x00\x85\x00again\x03cu")
    connection.socket.shutdown(socket.SHUT_WR)
    assert connection.rest() == GOODBYE + Report(0, 4, 0, LIMIT).encode()
    assert got.data == [b"hello", b"", b"again"]
    assert got[0].peer.credentials.uid == os.geteuid() and got[0].writer is None and [d.seq for d in got] == [1, 2, 3]
    assert eventually(lambda: reader.metrics().truncated == 1)


def test_plain_byte_by_byte(new_reader, path):
    got = Got()
    new_reader(path, got)
    connection = Connection.connect(path)
    for b in b"\x02ab\x00" + encode_frame(b"x" * 300):
        connection.send(bytes((b,)))
    eventually(lambda: len(got) == 3)
    assert got.data == [b"ab", b"", b"x" * 300]


def test_message_over_the_limit(new_reader, path):
    """It is skipped, the rest is handled, and the report tells it."""
    got = Got()
    reader = new_reader(path, got, max_message_size=4)
    connection = Connection.connect(path)
    connection.send(b"\x01a\x05hello\x01b")
    assert connection.rest() == GOODBYE + Report(3, 4, 1, 4).encode()
    assert got.data == [b"a", b"b"] and reader.metrics().too_large == 1


def test_malformed_length(new_reader, path):
    got = Got()
    reader = new_reader(path, got)
    connection = Connection.connect(path)
    connection.send(b"\x01a" + b"\xff" * 11)
    assert connection.rest() == GOODBYE + Report(4, 2, 0, LIMIT).encode()
    assert got.data == [b"a"] and eventually(lambda: reader.metrics().protocol_errors == 1)


def test_stop_is_graceful(new_reader, path, request):
    """What the kernel has accepted is handled; a later write fails."""
    got, go = Got(), threading.Event()
    reader = new_reader(path, waiting_handler(request, got, go))
    connection = Connection.connect(path)
    connection.send(b"\x011")
    eventually(lambda: got)
    connection.send(b"\x012\x013")
    closing = threading.Thread(target=reader.close)
    closing.start()
    go.set()
    assert connection.rest() == GOODBYE + Report(0, 4, 0, LIMIT).encode()
    closing.join()
    assert got.data == [b"1", b"2", b"3"]
    assert not os.path.exists(path)


def test_stop_serves_the_backlog(path):
    """A connection that was made before close is served."""
    got = Got()
    with udsipc.Reader(path, got, max_connections=1000):
        connections = [Connection.connect(path) for _ in range(50)]
        for connection in connections:
            connection.send(b"\x011")
    assert len(got) == 50
    for connection in connections:
        assert connection.rest() == GOODBYE + Report(0, 2, 0, LIMIT).encode()


def test_limits_of_time(new_reader, path):
    reader = new_reader(path, Got(), inactivity_timeout=0.05, first_message_timeout=0.05, message_timeout=0.05)
    idle = Connection.connect(path)
    assert idle.rest() == GOODBYE + Report(0, 1, 0, LIMIT).encode()
    slow = Connection.connect(path)
    slow.send(b"\x05he")
    assert slow.rest() == GOODBYE + Report(5, 1, 0, LIMIT).encode()
    later = Connection.connect(path)
    later.send(b"\x011\x05he")
    assert later.rest() == GOODBYE + Report(5, 2, 0, LIMIT).encode()
    m = reader.metrics()
    assert (m.idle_closed, m.too_slow) == (1, 2)


def test_too_many_connections(new_reader, path):
    got = Got()
    reader = new_reader(path, got, max_connections=1)
    first = Connection.connect(path)
    first.send(b"\x011")
    eventually(lambda: len(got) == 1)
    second = Connection.connect(path)
    assert second.rest() == GOODBYE + Report(1, 1, 0, LIMIT).encode()
    third = Connection.connect(path)
    try:
        third.send(Hello(ID, 1, 1, 0).encode())
    except BrokenPipeError:
        pass  # The reader was quicker.
    assert third.rest() == GOODBYE + Report(1, 1, 0, LIMIT).encode()
    assert reader.metrics().refused == 2


def test_authorizer(new_reader, path):
    reader = new_reader(path, Got(), authorizer=lambda peer: peer.credentials.uid == os.geteuid() + 1)
    connection = Connection.connect(path)
    assert connection.rest() == GOODBYE + Report(2, 1, 0, LIMIT).encode()
    assert reader.metrics().unauthorized == 1
    assert udsipc.same_user()(udsipc.Peer(1, udsipc.Credentials(1, os.geteuid(), 1)))
    assert not udsipc.allow_uids()(udsipc.Peer(1, udsipc.Credentials(1, 0, 0)))


def test_forced_stop(path):
    """close does not wait for a handler that hangs."""
    entered, go = threading.Event(), threading.Event()

    def handler(delivery):
        entered.set()
        go.wait(PATIENCE)

    reader = udsipc.Reader(path, handler).start()
    connection = Connection.connect(path)
    connection.send(b"\x011\x012\x013")
    assert entered.wait(PATIENCE)
    with pytest.raises(udsipc.StoppedError):
        reader.close(0.01)
    go.set()
    connection.rest()
    assert eventually(lambda: reader.metrics().discarded == 2)


def test_tcp(new_reader):
    """Without a receiving side that can be closed, the goodbye comes first."""
    got = Got()
    reader = new_reader("tcp://127.0.0.1:0", got)
    sock = socket.create_connection(reader.address)
    connection = Connection(sock)
    connection.send(b"\x011")
    eventually(lambda: len(got) == 1)
    closing = threading.Thread(target=reader.close)
    closing.start()
    connection.expect(GOODBYE)
    connection.send(b"\x012")  # It was on its way.
    sock.shutdown(socket.SHUT_WR)
    assert connection.rest() == Report(0, 3, 0, LIMIT).encode()
    closing.join()
    assert got.data == [b"1", b"2"]
