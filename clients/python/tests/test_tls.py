# SPDX-License-Identifier: Apache-2.0
"""TLS between this package and the Go library."""

import os
import subprocess

import pytest
from conftest import PATIENCE, client_context, eventually, server_context
from shells import READERS, WRITERS
from test_live import BOTH, parse, quiet

import udsipc


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("kind", BOTH)
def test_tls(peers, certificate, kind, acknowledged):
    reader = peers("read", "-tls", certificate, "tcp://127.0.0.1:0")
    writer = WRITERS[kind](f"tcp://{reader.address}", tls=client_context(certificate), server_name="app.internal",
                           acknowledged=acknowledged)
    message = b"secret" * 50_000
    for _ in range(10):
        writer.write(message)
    writer.flush(PATIENCE)
    writer.close(PATIENCE)
    assert len(parse(reader.stop())) == 10
    assert writer.metrics().possibly_lost == 0

    got = []
    reader = READERS[kind]("tcp://127.0.0.1:0", lambda d: got.append(d.peer.certificate), on_error=quiet,
                           tls=server_context(certificate))
    with reader:
        flags = ["-acks"] if acknowledged else []
        peer = peers("write", *flags, "-tls", certificate, "-count", 10, "-size", 300_000,
                     f"tcp://127.0.0.1:{reader.address[1]}")
        assert peer.line() == "flushed <nil>"
        assert peer.line() == f"end 10 {10 if acknowledged else 0} 0 <nil>"
    assert len(got) == 10 and all(got)
    assert reader.metrics().idle_closed == 0  # The end was seen, also when it came with the last bytes.


@pytest.mark.parametrize("kind", BOTH)
def test_tls_is_expected(peers, certificate, kind):
    """A peer without TLS is told so, by both sides."""
    reader = peers("read", "-tls", certificate, "tcp://127.0.0.1:0")
    errors = []
    writer = WRITERS[kind](f"tcp://{reader.address}", acknowledged=True, on_error=errors.append)
    writer.write(b"m")
    assert eventually(lambda: [e for e in errors if isinstance(e, udsipc.RejectedError) and e.reason == 6])
    with pytest.raises(udsipc.NotDeliveredError):
        writer.close(0)

    reader = READERS[kind]("tcp://127.0.0.1:0", lambda d: None, on_error=quiet, tls=server_context(certificate))
    with reader:
        peer = peers("write", "-acks", "-count", 1, f"tcp://127.0.0.1:{reader.address[1]}")
        assert eventually(lambda: [line for line in peer.log if "TLS" in line])
        assert reader.metrics().handshake_errors > 0


def test_wrong_certificate(peers, certificate, tmp_path):
    other = str(tmp_path / "other.pem")
    subprocess.run([os.environ["UDSIPC_PEER"], "cert", other], check=True)
    reader = peers("read", "-tls", certificate, "tcp://127.0.0.1:0")
    writer = udsipc.Writer(f"tcp://{reader.address}", tls=client_context(other), server_name="app.internal",
                           on_error=quiet)
    with pytest.raises(udsipc.NotConnectedError, match="CERTIFICATE_VERIFY_FAILED"):
        writer.wait_connected(0.3)
    writer.close()
