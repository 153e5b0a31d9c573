# SPDX-License-Identifier: Apache-2.0
"""The clients of rpc against the Go server, and against servers that the tests write byte by byte."""

import asyncio
import threading

import pytest
from conftest import PATIENCE, client_context, eventually
from scripted import Listener
from shells import LOOP

from udsipc import rpc
from udsipc.wire import Report, encode_frame


def code_of(function, *args, **kwargs):
    with pytest.raises(rpc.RpcError) as e:
        function(*args, **kwargs)
    return e.value.code


def test_calls(peers, path, new_client):
    peers("rpc", path)
    client = new_client(path)
    assert client.call("echo", b"hi") == b"hi"
    assert client.call("echo") == b""
    assert client.call("echo", b"x" * (5 << 20)) == b"x" * (5 << 20)
    assert code_of(client.call, "none") == rpc.Code.UNKNOWN_METHOD
    assert code_of(client.call, "fail", b"\x03") == rpc.Code.NOT_FOUND
    assert code_of(client.call, "fail", b"\xe9\x07") == 1001
    assert code_of(client.call, "echo", b"x" * (10 << 20)) == rpc.Code.TOO_LARGE


def test_many_threads(peers, path):
    peers("rpc", path)
    with rpc.Client(path) as client:
        wrong = []

        def work(n):
            for i in range(50):
                if client.call("echo", b"%d %d" % (n, i)) != b"%d %d" % (n, i):
                    wrong.append((n, i))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_deadline_and_cancellation(peers, path, new_client):
    peer = peers("rpc", path)
    client = new_client(path)
    assert code_of(client.call, "wait", timeout=0.02) == rpc.Code.DEADLINE_EXCEEDED
    assert [peer.line(), peer.line()][0] == "waiting"
    assert code_of(client.call, "echo", timeout=-1) == rpc.Code.DEADLINE_EXCEEDED
    assert client.call("echo", b"after") == b"after"


def test_cancelled_task(peers, path):
    """The handler's context ends."""
    peer = peers("rpc", path)

    async def main():
        async with rpc.AsyncClient(path) as client:
            task = asyncio.ensure_future(client.call("wait"))
            while not task.done() and await asyncio.to_thread(peer.line) != "waiting":
                pass
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
            assert await asyncio.to_thread(peer.line) == "context canceled"

    LOOP.run(main)


def test_notifications(peers, path, new_client):
    peer = peers("rpc", path)
    client = new_client(path)
    for i in range(3):
        client.notify("print", b"%d" % i)
    assert [peer.line() for _ in range(3)] == ["0", "1", "2"]


def test_response_over_the_limit(peers, path, new_client):
    peers("rpc", path)
    client = new_client(path, max_message_size=1 << 20)
    assert code_of(client.call, "big") == rpc.Code.TOO_LARGE
    assert client.call("echo", b"after") == b"after"


@pytest.mark.parametrize("n", [0, 1, 2, 5000, 5001])
def test_stream_from_server(peers, path, new_client, n):
    """Flow control lets five megabytes through; an error comes after the messages."""
    peers("rpc", path)
    got = []
    with new_client(path).stream("count", b"%d" % n) as stream:
        try:
            got.extend(stream)
        except rpc.RpcError as e:
            assert n % 2 == 1 and e.code == rpc.Code.FAILED_PRECONDITION
        else:
            assert n % 2 == 0
    assert [int(m) for m in got] == list(range(n)) and all(len(m) == 1000 for m in got)


def test_stream_both_ways(peers, path, new_client):
    peers("rpc", path)
    client = new_client(path)
    messages = [b"%d" % i * (i % 700) for i in range(4000)]
    with client.stream("echo-stream") as stream:
        thread = threading.Thread(target=lambda: ([stream.send(m) for m in messages], stream.close_send()))
        thread.start()
        assert list(stream) == messages
        thread.join()
        assert code_of(stream.send, b"late") == rpc.Code.FAILED_PRECONDITION


def test_stream_that_is_closed(peers, path, new_client):
    peer = peers("rpc", path)
    client = new_client(path)
    with client.stream("wait-stream") as stream:
        assert stream.receive() == b"begun"
    assert peer.line() == "stream context canceled"
    assert code_of(stream.receive) == rpc.Code.CANCELED
    with client.stream("wait-stream", timeout=0.05) as stream:
        assert stream.receive() == b"begun"
        assert code_of(stream.receive) == rpc.Code.DEADLINE_EXCEEDED
    assert code_of(client.stream("none").receive) == rpc.Code.UNKNOWN_METHOD


def test_server_that_is_killed(peers, path, new_client):
    """A call of unknown outcome fails; an idempotent one, and one that was not sent, go to the next server."""
    peer = peers("rpc", path)
    client = new_client(path, max_backoff=0.05)
    codes, results = [], []
    threads = [threading.Thread(target=lambda: codes.append(code_of(client.call, "wait"))),
               threading.Thread(target=lambda: results.append(client.call("sleep", b"200ms", idempotent=True)))]
    for thread in threads:
        thread.start()
    assert peer.line() == "waiting"
    peer.kill()
    threads.append(threading.Thread(target=lambda: results.append(client.call("echo", b"slept"))))
    threads[-1].start()
    peers("rpc", path)
    for thread in threads:
        thread.join()
    assert codes == [rpc.Code.CONNECTION_LOST] and results == [b"slept"] * 2


def test_server_that_stops(peers, path, new_client):
    """Calls in flight complete, and new ones wait for the next server."""
    peer = peers("rpc", path)
    client = new_client(path, max_backoff=0.05)
    results = []
    thread = threading.Thread(target=lambda: results.append(client.call("sleep", b"300ms")))
    stream = client.stream("echo-stream")
    stream.send(b"before")
    assert stream.receive() == b"before"
    thread.start()
    stopping = threading.Thread(target=peer.stop)
    eventually(lambda: client._made._core.calls if hasattr(client, "_made") else client._core.calls)
    stopping.start()
    thread.join()
    stopping.join()
    assert results == [b"slept"]
    assert code_of(stream.receive) == rpc.Code.CONNECTION_LOST
    waiting = threading.Thread(target=lambda: results.append(client.call("echo", b"next")))
    waiting.start()
    peers("rpc", path)
    waiting.join()
    assert results == [b"slept", b"next"]


def test_metadata(peers, path, new_client):
    peers("rpc", path)
    client = new_client(path)
    metadata = {"traceparent": "00-1", "leer": ""}
    assert client.call("metadata", b"traceparent", metadata=metadata) == b"00-1"
    assert client.call("metadata", b"leer", metadata=metadata) == b""
    assert code_of(client.call, "metadata", metadata={"x": "y" * 8200}) == rpc.Code.INVALID_ARGUMENT
    assert code_of(client.call, "meta\0data") == rpc.Code.INVALID_ARGUMENT


def test_fail_fast(path, new_client):
    client = new_client(path, fail_fast=True)
    assert code_of(client.call, "echo") == rpc.Code.UNAVAILABLE
    with pytest.raises(Exception, match="not connected"):
        client.wait_connected(0.01)


def test_close(peers, path, new_client):
    peers("rpc", path)
    client = new_client(path)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(code_of(client.call, "wait")))
    thread.start()
    client.call("echo")
    client.close(0.05)
    thread.join()
    assert codes == [rpc.Code.STOPPED] and code_of(client.call, "echo") == rpc.Code.STOPPED


def test_close_is_prompt(peers, path, new_client):
    """It does not wait for its time limit after the last message was sent."""
    peers("rpc", path)
    client = new_client(path, close_timeout=1000)
    with client.stream("wait-stream") as stream:
        stream.receive()
    client.close()


def test_tls(peers, certificate, new_client):
    peer = peers("rpc", "-tls", certificate, "tcp://127.0.0.1:0")
    client = new_client(f"tcp://{peer.address}", tls=client_context(certificate), server_name="app.internal")
    assert client.call("echo", b"x" * 1_000_000) == b"x" * 1_000_000


def test_vectors(path, new_client):
    """The examples of docs/PROTOCOL.md."""
    listener = Listener(path)
    client = new_client(path)
    results = []
    thread = threading.Thread(target=lambda: results.append(client.call("greet", b"bob!")))
    thread.start()
    server = listener.accept()
    server.expect(bytes.fromhex("0d 01 01 00 05 67 72 65 65 74 62 6f 62 21"))
    server.send(b"\x07\x02\x01hello")
    thread.join()
    assert results == [b"hello"]
    stream = client.stream("watch", b"x")
    server.expect(bytes.fromhex("0d 06 02 00 05 77 61 74 63 68 80 80 40 78"))
    server.send(bytes.fromhex("07 07 02 01 61 02 62 63"))
    server.send(bytes.fromhex("03 09 02 01"))
    assert list(stream) == [b"a", b"bc"]
    thread = threading.Thread(target=lambda: results.append(client.call("get", b"x", metadata={"k": "v1"})))
    thread.start()
    server.expect(bytes.fromhex("0e 01 03 00 09 67 65 74 00 01 6b 02 76 31 78"))
    server.send(b"\x02\x02\x03")
    thread.join()
    server.send(bytes.fromhex("03 0a 61 62"))
    server.expect(bytes.fromhex("03 0a 61 62"))
    thread = threading.Thread(target=lambda: results.append(client.call("greet")))
    thread.start()  # After its reply to the goodbye, the client begins nothing on this connection.
    core = client._made._core if hasattr(client, "_made") else client._core
    eventually(lambda: core.waiting)
    server.close()
    server = listener.accept()
    server.expect(b"\x09\x01\x04\x00\x05greet")
    server.send(b"\x04\x02\x04ok")
    thread.join()
    assert results[-1] == b"ok"
    server.close()


def test_hostile_server(path, new_client):
    """What the protocol does not allow ends the stream or the connection, and nothing else."""
    listener = Listener(path)
    client = new_client(path, max_backoff=0.02)
    stream = client.stream("watch")
    server = listener.accept()
    server.expect(b"\x0c\x06\x01\x00\x05watch\x80\x80\x40")
    server.send(b"\x04\x07\x01\x05a")  # An incomplete message.
    assert code_of(stream.receive) == rpc.Code.UNKNOWN
    server.expect(encode_frame(b"\x03\x01\x01flow-control violation or malformed stream data"))
    server.send(b"\x02\x02\x63")  # The response of an unknown call.
    server.send(b"\xff" * 11)
    server.rest()
    server.close()
    results = []
    thread = threading.Thread(target=lambda: results.append(client.call("greet", timeout=PATIENCE)))
    thread.start()
    server = listener.accept()
    assert server.socket.recv(1 << 16)
    server.send(b"\x00" + Report(2, 1, 0, 100).encode())
    server.close()
    server = listener.accept()  # The server had rejected the call unread: it is sent again.
    assert server.socket.recv(1 << 16)
    server.send(b"\x04\x02\x02ok" + b"\x04\x02\x03ok" + b"\x04\x02\x04ok")
    thread.join()
    assert results == [b"ok"]
    engine = client._made._engine if hasattr(client, "_made") else client._engine
    assert "not authorized" in str(engine.last_error)
    server.close()
