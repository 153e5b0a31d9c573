# SPDX-License-Identifier: Apache-2.0
"""What the tests share: paths, the Go side and waiting for it."""

import os
import queue
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

pytest_plugins = ["constructors"]

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 30.0  # No test waits longer for anything, in seconds.


def eventually(condition, what="the condition"):
    """Wait until a condition holds that another thread or process brings about."""
    until = time.monotonic() + PATIENCE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < until, f"{what} has not come"
        time.sleep(0.002)


class Peer:
    """A process of the Go side, or another program."""

    def __init__(self, *args, program=(), ready=True):
        command = [*(program or [os.environ["UDSIPC_PEER"]]), *map(str, args)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self._lines = queue.Queue()
        self.log = []
        self._threads = [threading.Thread(target=self._read, daemon=True),
                         threading.Thread(target=self._read_log, daemon=True)]
        for thread in self._threads:
            thread.start()
        self.address = ""
        self._early = []  # A message may come before the Reader says that it is ready.
        if ready:
            early = []
            while not (line := self.line()).startswith("ready"):
                early.append(line)
            self._early = early
            self.address = line.partition(" ")[2]

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def line(self):
        """Return the next line that it has printed."""
        if self._early:
            return self._early.pop(0)
        line = self._lines.get(timeout=PATIENCE)
        assert line is not None, ("it has ended", self.log)
        return line

    def rest(self):
        """Return all further lines to its end."""
        lines, self._early = self._early, []
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            lines.append(line)
        return lines

    def stop(self):
        """End it gracefully, and return what it has printed."""
        self.process.stdin.close()
        lines = self.rest()
        status = self.process.wait(PATIENCE)
        self._threads[1].join()
        assert status == 0, "\n".join(self.log)
        return lines

    def kill(self):
        """Kill it, and return what it has printed."""
        self.process.send_signal(signal.SIGKILL)
        lines = self.rest()
        self.process.wait(PATIENCE)
        return lines


@pytest.fixture
def peers():
    """A function that starts processes of the Go side; they end with the test."""
    started = []

    def start(*args, **options):
        started.append(Peer(*args, **options))
        return started[-1]

    yield start
    for peer in started:
        if peer.process.poll() is None:
            peer.process.kill()
        peer.process.wait()
        peer.process.stdin.close()


@pytest.fixture
def folder():
    """A folder with a short path."""
    path = tempfile.mkdtemp(prefix="udsipc-")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def path(folder):
    """The path of a socket."""
    return f"{folder}/s"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The file of a certificate with its key."""
    file = str(tmp_path_factory.mktemp("tls") / "identity.pem")
    subprocess.run([os.environ["UDSIPC_PEER"], "cert", file], check=True)
    return file


def client_context(certificate):
    """A context that presents the certificate and accepts no other."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=certificate)
    context.load_cert_chain(certificate)
    return context


def server_context(certificate):
    """The same for the server side."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
