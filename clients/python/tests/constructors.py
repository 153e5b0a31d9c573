# SPDX-License-Identifier: Apache-2.0
"""Constructors of writers, readers and clients of both kinds, which are closed with the test."""

import pytest
from shells import CLIENTS, READERS, WRITERS

import udsipc


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


@pytest.fixture(params=READERS)
def new_reader(request):
    made = []

    def make(address, handler, **options):
        options.setdefault("on_error", lambda error: None)
        reader = READERS[request.param](address, handler, **options)
        made.append(reader)
        reader.start()
        return reader

    yield make
    for reader in made:
        try:
            reader.close(0)
        except udsipc.StoppedError:
            pass


@pytest.fixture(params=CLIENTS)
def new_client(request):
    made = []

    def make(address, **options):
        options.setdefault("on_error", lambda error: None)
        made.append(CLIENTS[request.param](address, **options))
        return made[-1]

    yield make
    for client in made:
        client.close(0)
