/* SPDX-License-Identifier: Apache-2.0 */

/* Tests of udsipc.h in one process: its parsers and both ends against the protocol's vectors, a writer and a reader
 * against each other, cuts of a connection after every byte, and every allocation that can fail. */

#define UDSIPC_IMPLEMENTATION
#include "../udsipc.h"

#include "check.h"
#include "vectors.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static char path[100];

/* ---- A world: a writer, a reader, and what was delivered */

typedef struct world {
	udsipc_writer *writer;
	udsipc_reader *reader;
	udsipc_writer_options writer_options;
	udsipc_reader_options reader_options;
	uint64_t handled, handled_bytes, redelivered, undelivered, commits, dead, events[16];
	uint64_t times[1000]; /* How often each message came; messages are numbers. */
	uint64_t sequences[1000];
	uint64_t last;
	int disordered, foreign, fail_next, fail_commits;
	long allocations, fail_allocation; /* The number of the one that fails; 0: none. */
	uint64_t clock, handler_ms; /* A handler takes that long. */
} world;

static void *world_allocate(void *user, void *block, size_t size) {
	world *w = (world *)user;
	if (size > 0) {
		w->allocations++;
		if (w->allocations == w->fail_allocation) {
			return NULL;
		}
	}
	return udsipc__allocate(NULL, block, size);
}

static int world_handle(void *user, const udsipc_delivery *delivery) {
	world *w = (world *)user;
	char text[32] = "";
	if (w->fail_next > 0) {
		w->fail_next--;
		return 1;
	}
	memcpy(text, delivery->data, delivery->size < sizeof text ? delivery->size : sizeof text - 1);
	uint64_t number = strtoull(text, NULL, 10);
	w->clock += w->handler_ms;
	w->handled++;
	w->handled_bytes += delivery->size;
	w->redelivered += (uint64_t)delivery->redelivered;
	w->disordered |= !delivery->redelivered && number < w->last;
	w->last = number;
	if (number < COUNT(w->times)) {
		w->times[number]++;
		w->sequences[number] = delivery->sequence;
	}
	return 0;
}

static int world_commit(void *user) {
	world *w = (world *)user;
	w->commits++;
	return w->fail_commits > 0 && w->fail_commits-- > 0;
}

static void world_event(void *user, const udsipc_event *event) {
	world *w = (world *)user;
	w->events[event->kind]++;
	w->foreign |= event->text != NULL && strcmp(event->text, "the peer is no reader") == 0;
}

static void world_undelivered(void *user, const void *data, size_t size) {
	((world *)user)->undelivered++;
	(void)data;
	(void)size;
}

static void world_dead_letter(void *user, const udsipc_delivery *delivery) {
	((world *)user)->dead++;
	(void)delivery;
}

static uint64_t world_now(void *user) { return ((world *)user)->clock; }

static void world_init(world *w, const char *name, const char *address, int acknowledgements) {
	check_name = name;
	memset(w, 0, sizeof *w);
	w->writer_options = udsipc_writer_defaults();
	w->writer_options.address = address;
	w->writer_options.acknowledgements = acknowledgements;
	w->writer_options.user = w;
	w->writer_options.allocate = world_allocate;
	w->writer_options.on_event = world_event;
	w->writer_options.on_undelivered = world_undelivered;
	w->writer_options.max_backoff_ms = 5;
	w->reader_options = udsipc_reader_defaults();
	w->reader_options.address = address;
	w->reader_options.user = w;
	w->reader_options.allocate = world_allocate;
	w->reader_options.handle = world_handle;
	w->reader_options.on_event = world_event;
	w->reader_options.on_dead_letter = world_dead_letter;
}

static void world_open(world *w) {
	EQUAL(udsipc_reader_open(&w->reader, &w->reader_options), UDSIPC_OK);
	EQUAL(udsipc_writer_open(&w->writer, &w->writer_options), UDSIPC_OK);
}

static void world_close(world *w) {
	udsipc_writer_close(w->writer);
	udsipc_reader_close(w->reader);
}

/* Writes the numbers from first to last, each padded to size with blanks. */
static void world_write(world *w, uint64_t first, uint64_t last, size_t size) {
	char *message = (char *)malloc(size + 32);
	CHECK(message != NULL, "no memory");
	memset(message, ' ', size + 32);
	for (uint64_t n = first; n <= last; n++) {
		int digits = snprintf(message, 32, "%llu", (unsigned long long)n);
		message[digits] = ' ';
		EQUAL(udsipc_writer_write(w->writer, message, size > (size_t)digits ? size : (size_t)digits), UDSIPC_OK);
	}
	free(message);
}

/* Runs both ends until nothing is queued, in at most that many steps. */
static void world_run(world *w, int until, int steps) {
	for (int i = 0; i < steps; i++) {
		int result = udsipc_writer_run(w->writer, until, 0);
		if (w->reader != NULL) {
			(void)udsipc_reader_run(w->reader, 0);
		}
		if (result == UDSIPC_OK) {
			return;
		}
		if (udsipc_writer_fd(w->writer) < 0) {
			struct timespec pause = {0, 200000};
			nanosleep(&pause, NULL); /* The backoff is on a real clock. */
		}
	}
	CHECK(0, "not done: %llu queued, %llu handled", (unsigned long long)w->writer->metrics.queued,
		  (unsigned long long)w->handled);
}

static void world_check(const world *w, uint64_t first, uint64_t last) {
	for (uint64_t n = first; n <= last; n++) {
		CHECK(w->times[n] == 1, "message %llu came %llu times", (unsigned long long)n, (unsigned long long)w->times[n]);
	}
	CHECK(!w->disordered, "out of order");
}

/* ---- Vectors */

static void test_session_vectors(void) {
	for (size_t i = 0; i < COUNT(session_vectors); i++) {
		const unsigned char *data = session_vectors[i].bytes.data;
		size_t size = session_vectors[i].bytes.size;
		const uint64_t *f = session_vectors[i].fields;
		unsigned char made[256];
		udsipc__hello hello;
		udsipc__welcome welcome;
		check_name = session_vectors[i].name;
		switch (session_vectors[i].kind) {
		case 'h':
			for (size_t part = 0; part < size; part++) {
				EQUAL(udsipc__get_hello(data, part, &hello), 0);
			}
			EQUAL(udsipc__get_hello(data, size, &hello), size);
			CHECK(hello.epoch == f[0] && hello.first == f[1] && hello.sent == f[2] && hello.heartbeat_timeout == f[3] &&
					  memcmp(hello.writer, session_vectors[i].writer.data, 16) == 0, "fields");
			EQUAL(udsipc__put_hello(made, &hello), size);
			CHECK(memcmp(made, data, size) == 0, "bytes");
			break;
		case 'w':
			EQUAL(udsipc__get_welcome(data, size, &welcome), size);
			CHECK(welcome.status == f[0] && welcome.handled == f[1] && welcome.limit == f[2] &&
					  welcome.heartbeat_timeout == f[3], "fields");
			EQUAL(udsipc__put_welcome(made, &welcome), size);
			CHECK(memcmp(made, data, size) == 0, "bytes");
			break;
		case 'H': CHECK(udsipc__get_hello(data, size, &hello) < 0, "accepted"); break;
		case 'W': CHECK(udsipc__get_welcome(data, size, &welcome) < 0, "accepted"); break;
		default: {
			size_t at = 0, count = 0;
			uint64_t handled = 0;
			int alive = 0, used;
			while ((used = udsipc__get_ack(data + at, size - at, &handled, &alive)) > 0) {
				EQUAL(session_vectors[i].acks[count], alive ? -1 : (int64_t)handled);
				at += (size_t)used;
				count++;
			}
			EQUAL(count, session_vectors[i].count);
			EQUAL(used < 0, session_vectors[i].kind == 'B');
		}
		}
	}
}

static int vector_handle(void *user, const udsipc_delivery *delivery) {
	size_t *at = (size_t *)user;
	const vector_bytes *want = &frame_vectors[at[0]].messages[at[1]];
	CHECK(at[1] < frame_vectors[at[0]].count, "one message too many");
	EQUAL(delivery->size, want->size);
	CHECK(memcmp(delivery->data, want->data, want->size) == 0, "other bytes");
	at[1]++;
	return 0;
}

/* Connects a plain socket to the reader. */
static int dial(void) {
	udsipc__address address;
	EQUAL(udsipc__parse_address(path, &address), UDSIPC_OK);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(connect(fd, (const struct sockaddr *)&address.sock, address.size) == 0, "%s", strerror(errno));
	return fd;
}

/* Sends each vector to a reader, in parts of some sizes, and reads the report. */
static void test_frame_vectors(void) {
	static const size_t parts[] = {1, 7, 1 << 20};
	for (size_t i = 0; i < COUNT(frame_vectors) * COUNT(parts); i++) {
		size_t at[2] = {i / COUNT(parts), 0}, part = parts[i % COUNT(parts)];
		const vector_bytes *bytes = &frame_vectors[at[0]].bytes;
		unsigned char back[512];
		size_t back_size = 0;
		udsipc__report report;
		udsipc_reader *reader;
		udsipc_reader_options options = udsipc_reader_defaults();
		check_name = frame_vectors[at[0]].name;
		options.address = path;
		options.user = at;
		options.handle = vector_handle;
		options.max_message_size = frame_vectors[at[0]].limit;
		options.read_buffer_size = 256;
		EQUAL(udsipc_reader_open(&reader, &options), UDSIPC_OK);
		int fd = dial();
		for (size_t sent = 0; sent < bytes->size;) {
			size_t size = bytes->size - sent < part ? bytes->size - sent : part;
			ssize_t n = send(fd, bytes->data + sent, size, MSG_NOSIGNAL);
			if (n < 0) {
				break; /* The reader has closed its receiving side. */
			}
			sent += (size_t)n;
			EQUAL(udsipc_reader_run(reader, 0), UDSIPC_ERR_TIMEOUT);
		}
		shutdown(fd, SHUT_WR);
		while (udsipc_reader_get_metrics(reader).open > 0 || udsipc_reader_get_metrics(reader).connections == 0) {
			(void)udsipc_reader_run(reader, 10);
		}
		for (ssize_t n; (n = recv(fd, back + back_size, sizeof back - back_size, 0)) > 0;) {
			back_size += (size_t)n;
		}
		close(fd);
		const char *end = frame_vectors[at[0]].end;
		CHECK(back_size > 1 && back[0] == 0, "no goodbye");
		EQUAL(udsipc__get_report(back + 1, back_size - 1, &report), back_size - 1);
		EQUAL(report.reason, end[0] == 'p' ? 4 : end[0] == 's' ? 3 : 0);
		if (end[0] != 's') {
			EQUAL(udsipc_reader_get_metrics(reader).incomplete, end[0] == 'i');
		}
		if (end[0] != 's' || part >= bytes->size) { /* Else the rest was not taken. */
			EQUAL(at[1], frame_vectors[at[0]].count);
		}
		EQUAL(report.next - report.skipped, at[1] + 1);
		EQUAL(report.limit, frame_vectors[at[0]].limit);
		udsipc_reader_close(reader);
	}
}

/* A reader that the test plays: it accepts the connection of the writer. */
static int play(int listener) {
	struct pollfd ready = {listener, POLLIN, 0};
	CHECK(poll(&ready, 1, 5000) == 1, "no connection");
	return accept(listener, NULL, NULL);
}

static int listen_at(void) {
	udsipc__address address;
	EQUAL(udsipc__parse_address(path, &address), UDSIPC_OK);
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(fd, (const struct sockaddr *)&address.sock, address.size) == 0 && listen(fd, 8) == 0, "%s",
		  strerror(errno));
	return fd;
}

static void must_send(int fd, const unsigned char *data, size_t size) {
	CHECK(send(fd, data, size, MSG_NOSIGNAL) == (ssize_t)size, "%s", strerror(errno));
}

/* A plain writer has sent 400 messages, all of which were read, and gets each vector. */
static void test_goodbye_vectors(void) {
	static unsigned char drained[1 << 16];
	for (size_t i = 0; i < COUNT(goodbye_vectors); i++) {
		world w;
		world_init(&w, goodbye_vectors[i].name, path, 0);
		int listener = listen_at();
		EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
		world_write(&w, 1, 400, 4);
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 0);
		int fd = play(listener);
		EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 5000), UDSIPC_OK);
		EQUAL(recv(fd, drained, sizeof drained, 0), 2000);
		must_send(fd, goodbye_vectors[i].bytes.data, goodbye_vectors[i].bytes.size);
		close(fd);
		EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_FINISHED, 5000), UDSIPC_OK);
		uint64_t lost = 0, next = goodbye_vectors[i].next, skipped = goodbye_vectors[i].skipped;
		if (goodbye_vectors[i].foreign) {
			lost = 400;
		} else if (goodbye_vectors[i].report) {
			lost = (next > 0 ? 400 - (next - 1) : 0) + skipped;
		}
		EQUAL(w.foreign, goodbye_vectors[i].foreign);
		EQUAL(udsipc_writer_get_metrics(w.writer).possibly_lost, lost);
		close(listener);
		unlink(path);
		world_close(&w);
	}
}

/* ---- Both ends */

static void test_both(const char *address, int acknowledgements) {
	static const size_t sizes[] = {1, 100, 70000, 300000};
	for (size_t i = 0; i < COUNT(sizes); i++) {
		world w;
		world_init(&w, acknowledgements ? "both ends, session" : "both ends, plain", address, acknowledgements);
		world_open(&w);
		world_write(&w, 1, 100, sizes[i]);
		world_run(&w, UDSIPC_UNTIL_SENT, 100000);
		world_write(&w, 101, 130, sizes[i]);
		world_run(&w, UDSIPC_UNTIL_FINISHED, 100000);
		world_check(&w, 1, 130);
		udsipc_writer_metrics m = udsipc_writer_get_metrics(w.writer);
		EQUAL(m.sent, 130);
		EQUAL(m.possibly_lost + m.retransmitted + w.redelivered + w.events[UDSIPC_EVENT_MALFORMED], 0);
		EQUAL(m.connections, 1);
		world_close(&w);
	}
}

/* Once the first messages have gone through, nothing is allocated any more. */
static void test_no_allocations(void) {
	for (int acknowledgements = 0; acknowledgements < 2; acknowledgements++) {
		world w;
		world_init(&w, "allocations", path, acknowledgements);
		world_open(&w);
		for (uint64_t round = 0; round < 50; round++) {
			long before = w.allocations;
			world_write(&w, 1 + round * 10, 10 + round * 10, round % 5 == 0 ? 200000 : 100);
			world_run(&w, UDSIPC_UNTIL_SENT, 100000);
			CHECK(round < 3 || w.allocations == before, "%ld allocations in round %d", w.allocations - before, (int)round);
		}
		world_check(&w, 1, 500);
		world_run(&w, UDSIPC_UNTIL_FINISHED, 100000);
		world_close(&w);
	}
}

/* Reads end within messages; the buffer of a connection stays as it is. */
static void test_small_buffer(void) {
	world w;
	world_init(&w, "small buffer", path, 1);
	world_open(&w);
	world_write(&w, 1, 5000, 101);
	world_run(&w, UDSIPC_UNTIL_SENT, 100000);
	EQUAL(w.handled, 5000);
	EQUAL(udsipc_reader_get_metrics(w.reader).read_memory, 64 * 1024);
	world_close(&w);
}

/* Each allocation in turn fails. Nothing is lost: an open or a write that fails is repeated. */
static void test_failed_allocations(int acknowledgements) {
	for (long fail = 1;; fail++) {
		world w;
		char message[60000];
		world_init(&w, "failed allocations", path, acknowledgements);
		w.fail_allocation = fail;
		for (int result; (result = udsipc_reader_open(&w.reader, &w.reader_options)) != UDSIPC_OK;) {
			CHECK(result == UDSIPC_ERR_MEMORY, "%s", udsipc_strerror(result));
		}
		for (int result; (result = udsipc_writer_open(&w.writer, &w.writer_options)) != UDSIPC_OK;) {
			CHECK(result == UDSIPC_ERR_MEMORY, "%s", udsipc_strerror(result));
		}
		memset(message, ' ', sizeof message);
		for (int n = 1; n <= 20; n++) {
			message[0] = (char)('0' + n / 10);
			message[1] = (char)('0' + n % 10);
			size_t size = n % 5 == 0 ? sizeof message : 10;
			for (int result; (result = udsipc_writer_write(w.writer, message, size)) != UDSIPC_OK;) {
				CHECK(result == UDSIPC_ERR_MEMORY, "%s", udsipc_strerror(result));
			}
		}
		for (int i = 0; udsipc_writer_run(w.writer, UDSIPC_UNTIL_FINISHED, 0) != UDSIPC_OK; i++) {
			CHECK(i < 2000, "not done");
			int result = udsipc_reader_run(w.reader, 1);
			CHECK(result == UDSIPC_ERR_TIMEOUT || result == UDSIPC_ERR_MEMORY, "%s", udsipc_strerror(result));
		}
		world_check(&w, 1, 20);
		EQUAL(udsipc_writer_get_metrics(w.writer).possibly_lost, 0);
		long made = w.allocations;
		world_close(&w);
		if (made < fail) {
			CHECK(fail > 8, "only %ld allocations", fail);
			return;
		}
	}
}

/* ---- Cuts: a relay passes so many bytes in each direction, then closes both connections. */

typedef struct relay {
	int listener, in, out;
	size_t left[2]; /* Bytes until the cut: to the reader, and back. */
	size_t passed[2];
	int cuts;
	udsipc__address target;
} relay;

static void relay_close(relay *r) {
	close(r->in);
	close(r->out);
	r->in = r->out = -1;
}

static void relay_pass(relay *r, int direction) {
	unsigned char bytes[4096];
	int from = direction == 0 ? r->in : r->out, to = direction == 0 ? r->out : r->in;
	size_t want = r->left[direction] < sizeof bytes ? r->left[direction] : sizeof bytes;
	if (want == 0) {
		r->cuts++;
		r->left[0] = r->left[1] = SIZE_MAX;
		relay_close(r);
		return;
	}
	ssize_t n = recv(from, bytes, want, MSG_DONTWAIT);
	if (n < 0 && udsipc__is_again(errno)) {
		return;
	}
	if (n <= 0) {
		if (direction == 0 && n == 0) {
			shutdown(to, SHUT_WR);
		} else {
			relay_close(r);
		}
		return;
	}
	r->passed[direction] += (size_t)n;
	if (r->left[direction] != SIZE_MAX) {
		r->left[direction] -= (size_t)n;
	}
	(void)send(to, bytes, (size_t)n, MSG_NOSIGNAL);
}

static void relay_step(relay *r) {
	if (r->in < 0) {
		r->in = accept(r->listener, NULL, NULL);
		if (r->in < 0) {
			return;
		}
		r->out = socket(AF_UNIX, SOCK_STREAM, 0);
		CHECK(connect(r->out, (const struct sockaddr *)&r->target.sock, r->target.size) == 0, "%s", strerror(errno));
	}
	for (int direction = 0; direction < 2 && r->in >= 0; direction++) {
		relay_pass(r, direction);
	}
}

/* A session of ten messages whose first connection is cut after left[0] bytes to the reader, or left[1] bytes back.
 * Returns the number of cuts. */
static int cut_session(const char *front, size_t left_to, size_t left_back) {
	world w;
	relay r = {-1, -1, -1, {left_to, left_back}, {0, 0}, 0, {{0}, 0, 0, 0}};
	udsipc__address address;
	world_init(&w, "cuts", path, 1);
	w.writer_options.address = front;
	world_open(&w);
	EQUAL(udsipc__parse_address(path, &r.target), UDSIPC_OK);
	EQUAL(udsipc__parse_address(front, &address), UDSIPC_OK);
	unlink(front);
	r.listener = udsipc__socket(AF_UNIX);
	CHECK(bind(r.listener, (const struct sockaddr *)&address.sock, address.size) == 0 && listen(r.listener, 4) == 0,
		  "%s", strerror(errno));
	world_write(&w, 1, 10, 3);
	for (int i = 0; udsipc_writer_run(w.writer, UDSIPC_UNTIL_FINISHED, 0) != UDSIPC_OK; i++) {
		CHECK(i < 100000, "not done");
		relay_step(&r);
		(void)udsipc_reader_run(w.reader, 0);
	}
	check_name = "cuts: delivered once";
	world_check(&w, 1, 10);
	EQUAL(w.handled, 10);
	EQUAL(udsipc_writer_get_metrics(w.writer).sent, 10);
	relay_close(&r);
	close(r.listener);
	unlink(front);
	world_close(&w);
	return r.cuts;
}

static void test_cuts(void) {
	char front[sizeof path + 8];
	snprintf(front, sizeof front, "%s.relay", path);
	size_t bytes = 0;
	while (cut_session(front, bytes, SIZE_MAX) > 0) {
		bytes++;
	}
	CHECK(bytes > 60, "only %d bytes to the reader", (int)bytes);
	for (bytes = 0; cut_session(front, SIZE_MAX, bytes) > 0;) {
		bytes++;
	}
	CHECK(bytes >= 10, "only %d bytes back", (int)bytes);
}

/* ---- The writer */

static void test_queue_bounds(void) {
	world w;
	world_init(&w, "queue bounds", path, 1);
	w.writer_options.max_messages = 5;
	w.writer_options.max_bytes = 1000;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	static const char message[2000];
	EQUAL(udsipc_writer_write(w.writer, message, 999), UDSIPC_ERR_TOO_LARGE);
	EQUAL(udsipc_writer_write(w.writer, message, 998), UDSIPC_OK);
	EQUAL(udsipc_writer_write(w.writer, message, 0), UDSIPC_ERR_FULL);
	EQUAL(udsipc_writer_get_metrics(w.writer).queued_bytes, 1000);
	world_close(&w);
	EQUAL(w.undelivered, 1);
	w.writer = NULL;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	for (int i = 0; i < 5; i++) {
		EQUAL(udsipc_writer_write(w.writer, message, 0), UDSIPC_OK);
	}
	EQUAL(udsipc_writer_write(w.writer, message, 0), UDSIPC_ERR_FULL);
	EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 0), UDSIPC_ERR_TIMEOUT);
	CHECK(udsipc_writer_fd(w.writer) < 0 && udsipc_writer_timeout(w.writer) >= 0, "it does not try again");
	EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_FINISHED, 0), UDSIPC_ERR_TIMEOUT);
	EQUAL(udsipc_writer_write(w.writer, message, 0), UDSIPC_ERR_STOPPED);
	world_close(&w);
	EQUAL(w.undelivered, 6);
}

/* Reads a hello from the writer. */
static udsipc__hello await_hello(world *w, int fd) {
	udsipc__hello hello;
	unsigned char bytes[256];
	size_t size = 0;
	for (int i = 0; i < 10000; i++) {
		(void)udsipc_writer_run(w->writer, UDSIPC_UNTIL_SENT, 0);
		ssize_t n = recv(fd, bytes + size, 1, MSG_DONTWAIT);
		size += n > 0 ? (size_t)n : 0;
		if (udsipc__get_hello(bytes, size, &hello) > 0) {
			return hello;
		}
	}
	CHECK(0, "no hello in %d bytes", (int)size);
	return hello;
}

static void answer(int fd, uint64_t status, uint64_t handled, uint64_t limit) {
	unsigned char bytes[64];
	udsipc__welcome welcome = {status, handled, limit, 0};
	must_send(fd, bytes, udsipc__put_welcome(bytes, &welcome));
}

/* Replies of a reader to a hello, after which the writer keeps all messages and connects again with a higher epoch. */
static void test_refusals(void) {
	static const struct {
		const char *name;
		unsigned char bytes[16];
		size_t size;
		int kind;
	} refusals[] = {
		{"another version", {5, 2, 1, 0, 0, 0}, 6, UDSIPC_EVENT_NO_SESSION},
		{"another version, other fields", {2, 7, 9}, 3, UDSIPC_EVENT_NO_SESSION},
		{"an old epoch", {5, 1, 2, 0, 0, 0}, 6, UDSIPC_EVENT_CONTESTED},
		{"a plain reader", {0, 7, 4, 1, 0, 0x80, 0x80, 0x80, 5}, 9, UDSIPC_EVENT_NO_SESSION},
		{"too many connections", {0, 7, 1, 1, 0, 0x80, 0x80, 0x80, 5}, 9, UDSIPC_EVENT_TROUBLE},
		{"a killed reader", {0}, 0, UDSIPC_EVENT_TROUBLE},
		{"a limit of 0", {5, 1, 0, 0, 0, 0}, 6, UDSIPC_EVENT_NO_SESSION},
		{"messages that were not sent", {8, 1, 0, 9, 0x80, 0x80, 0x80, 5, 0}, 9, UDSIPC_EVENT_CONTESTED},
		{"another protocol", {'H', 'T', 'T', 'P'}, 4, UDSIPC_EVENT_TROUBLE},
	};
	world w;
	world_init(&w, "refusals", path, 1);
	int listener = listen_at();
	uint64_t epoch = 0;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	world_write(&w, 1, 3, 10);
	for (size_t i = 0; i < COUNT(refusals); i++) {
		check_name = refusals[i].name;
		memset(w.events, 0, sizeof w.events);
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 10);
		int fd = play(listener);
		udsipc__hello hello = await_hello(&w, fd);
		CHECK(hello.epoch > epoch && hello.first == 1 && hello.sent == 0, "hello");
		epoch = hello.epoch;
		must_send(fd, refusals[i].bytes, refusals[i].size);
		shutdown(fd, SHUT_WR);
		for (int step = 0; w.events[refusals[i].kind] == 0; step++) {
			CHECK(step < 1000, "no event");
			(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1);
		}
		EQUAL(udsipc_writer_get_metrics(w.writer).queued, 3);
		unsigned char byte;
		CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) <= 0, "a message was sent");
		close(fd);
	}
	close(listener);
	unlink(path);
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	world_run(&w, UDSIPC_UNTIL_FINISHED, 10000);
	world_check(&w, 1, 3);
	world_close(&w);
}

/* Acknowledgements that cannot be end the connection, and remove nothing. */
static void test_bad_acks(void) {
	static const unsigned char bad[][2] = {{4, 4}, {2, 1}, {2, 2}, {0x81, 0}, {9, 9}};
	world w;
	world_init(&w, "bad acknowledgements", path, 1);
	int listener = listen_at();
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	world_write(&w, 1, 3, 10);
	for (size_t i = 0; i < COUNT(bad); i++) {
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 10);
		int fd = play(listener);
		(void)await_hello(&w, fd);
		uint64_t queued = udsipc_writer_get_metrics(w.writer).queued;
		answer(fd, 0, 3 - queued, 1 << 20);
		EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_CONNECTED, 1000), UDSIPC_OK);
		unsigned char drained[256];
		CHECK(recv(fd, drained, sizeof drained, 0) > 0, "no messages");
		must_send(fd, bad[i], 2);
		for (int step = 0; w.events[UDSIPC_EVENT_DISCONNECTED] <= i; step++) {
			CHECK(step < 1000, "it goes on");
			(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1);
		}
		close(fd);
	}
	CHECK(udsipc_writer_get_metrics(w.writer).queued >= 1, "an acknowledgement of nothing counted");
	close(listener);
	unlink(path);
	world_close(&w);
}

/* A reader with a smaller limit: messages over it are given up, the others keep their order and numbers. */
static void test_smaller_limit(void) {
	world w;
	world_init(&w, "a smaller limit", path, 1);
	w.reader_options.max_message_size = 100;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	for (uint64_t n = 1; n <= 30; n++) {
		world_write(&w, n, n, n % 3 == 0 ? 101 : 100);
	}
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	world_run(&w, UDSIPC_UNTIL_SENT, 10000);
	EQUAL(w.handled, 20);
	EQUAL(w.undelivered, 10);
	EQUAL(udsipc_writer_write(w.writer, path, 101), UDSIPC_ERR_TOO_LARGE);
	udsipc_writer_metrics m = udsipc_writer_get_metrics(w.writer);
	EQUAL(m.sent, 20);
	EQUAL(m.sequence, 20);
	world_close(&w);

	/* The messages were sent before, so they keep their numbers. */
	world_init(&w, "a smaller limit later", path, 1);
	int listener = listen_at();
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	for (uint64_t n = 1; n <= 6; n++) {
		world_write(&w, n, n, n % 3 == 0 ? 101 : 100);
	}
	(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 10);
	int fd = play(listener);
	(void)await_hello(&w, fd);
	answer(fd, 0, 0, 1 << 20);
	for (int i = 0; udsipc_writer_get_metrics(w.writer).sequence < 6; i++) {
		CHECK(i < 1000, "not sent");
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1);
	}
	close(fd);
	(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 10);
	fd = play(listener);
	(void)await_hello(&w, fd);
	answer(fd, 0, 0, 100);
	for (int i = 0; udsipc_writer_get_metrics(w.writer).retransmitted < 2; i++) {
		CHECK(i < 1000, "not sent");
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1);
	}
	EQUAL(udsipc_writer_events(w.writer), POLLIN); /* It waits for acknowledgements. */
	close(fd);
	close(listener);
	unlink(path);
	w.reader_options.max_message_size = 100;
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	world_run(&w, UDSIPC_UNTIL_SENT, 100000);
	EQUAL(w.handled, 4);
	EQUAL(w.redelivered, 4);
	EQUAL(w.undelivered, 2);
	EQUAL(w.sequences[4], 4);
	EQUAL(w.sequences[5], 5);
	EQUAL(udsipc_writer_get_metrics(w.writer).sequence, 6);
	EQUAL(w.events[UDSIPC_EVENT_MALFORMED], 0);
	world_close(&w);
}

/* A message over the limit of a plain reader is given up; those around it arrive. */
static void test_plain_limit(void) {
	world w;
	world_init(&w, "plain limit", path, 0);
	w.reader_options.max_message_size = 1000;
	world_open(&w);
	world_write(&w, 1, 3, 1000);
	world_write(&w, 4, 4, 4 << 20); /* More than the kernel takes. */
	world_write(&w, 5, 7, 1000);
	world_run(&w, UDSIPC_UNTIL_FINISHED, 100000);
	world_check(&w, 1, 3);
	world_check(&w, 5, 7);
	EQUAL(w.times[4], 0);
	EQUAL(w.undelivered + udsipc_writer_get_metrics(w.writer).possibly_lost, 1);
	world_close(&w);
}

/* A writer that goes on in another process knows from the welcome where it stopped. */
static void test_identity(void) {
	static const unsigned char identity[16] = {1, 2, 3};
	world w;
	world_init(&w, "identity", path, 1);
	w.writer_options.identity = identity;
	w.writer_options.first_epoch = 1;
	world_open(&w);
	world_write(&w, 1, 5, 10);
	world_run(&w, UDSIPC_UNTIL_FINISHED, 10000);
	EQUAL(udsipc_writer_get_metrics(w.writer).sequence, 5);
	udsipc_writer_close(w.writer);
	w.writer_options.first_epoch = 1u << 20;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	world_run(&w, UDSIPC_UNTIL_CONNECTED, 10000);
	EQUAL(udsipc_writer_get_metrics(w.writer).sequence, 5);
	world_write(&w, 6, 9, 10);
	world_run(&w, UDSIPC_UNTIL_FINISHED, 10000);
	world_check(&w, 1, 9);
	EQUAL(w.redelivered, 0);
	world_close(&w);
}

/* A plain reader that is killed with bytes unread: at most what it had not read is told as a loss. */
static void test_plain_reset(void) {
	static unsigned char bytes[1000];
	world w;
	world_init(&w, "plain reset", path, 0);
	int listener = listen_at();
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	world_write(&w, 10, 19, 99);
	(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 10);
	int fd = play(listener);
	EQUAL(recv(fd, bytes, sizeof bytes, 0), 1000);
	(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 0);
	world_write(&w, 20, 29, 99);
	EQUAL(udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1000), UDSIPC_OK);
	EQUAL(recv(fd, bytes, 500, 0), 500);
	close(fd);
	close(listener);
	unlink(path);
	(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_CONNECTED, 10);
	EQUAL(udsipc_writer_get_metrics(w.writer).possibly_lost, 10);
	EQUAL(w.events[UDSIPC_EVENT_LOSS], 1);
	world_close(&w);
}

/* ---- The reader */

/* What writers have sent before they were accepted is handled at a stop. */
static void test_stop_backlog(void) {
	world w;
	world_init(&w, "stop with a backlog", path, 0);
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	int fds[3];
	for (int i = 0; i < 3; i++) {
		fds[i] = dial();
		must_send(fds[i], (const unsigned char *)"\x01\x31\x01\x32", 4);
	}
	udsipc_reader_stop(w.reader);
	EQUAL(udsipc_reader_run(w.reader, 5000), UDSIPC_ERR_STOPPED);
	EQUAL(w.handled, 6);
	for (int i = 0; i < 3; i++) {
		unsigned char bytes[32];
		CHECK(recv(fds[i], bytes, sizeof bytes, 0) > 1 && bytes[0] == 0 && bytes[3] == 3, "report");
		close(fds[i]);
	}
	world_close(&w);
}

static int dial_tcp(const char *text) {
	udsipc__address address;
	EQUAL(udsipc__parse_address(text, &address), UDSIPC_OK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(connect(fd, (const struct sockaddr *)&address.sock, address.size) == 0, "%s", strerror(errno));
	return fd;
}

/* Runs the reader until so many bytes have come from it. */
static void await_bytes(world *w, int fd, unsigned char *bytes, size_t size) {
	for (size_t have = 0, i = 0; have < size; i++) {
		CHECK(i < 5000, "%d of %d bytes", (int)have, (int)size);
		(void)udsipc_reader_run(w->reader, 0);
		ssize_t n = recv(fd, bytes + have, size - have, MSG_DONTWAIT);
		have += n > 0 ? (size_t)n : 0;
		if (n < 0) {
			struct timespec pause = {0, 100000};
			nanosleep(&pause, NULL);
		}
	}
}

/* A stop over TCP, with a peer that does not end its side: a second later it gets the report. */
static void test_tcp_times(const char *tcp) {
	unsigned char bytes[64];
	world w;
	world_init(&w, "times over TCP", tcp, 0);
	w.clock = 1000;
	w.reader_options.now = world_now;
	w.reader_options.inactivity_timeout_ms = 0;
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	int fd = dial_tcp(tcp);
	udsipc__hello hello = {{9}, 1, 1, 0, 0};
	must_send(fd, bytes, udsipc__put_hello(bytes, &hello));
	await_bytes(&w, fd, bytes, 10);
	CHECK(bytes[8] == 0x90 && bytes[9] == 0x4e, "no heartbeat timeout of 10 s");
	for (int i = 0; i < 3; i++) {
		w.handler_ms = i == 1 ? 60000 : 0; /* The writer sends no heartbeats meanwhile. */
		w.clock += 9000;
		must_send(fd, (const unsigned char *)"\x80\x00\x01\x31", 4);
		await_bytes(&w, fd, bytes, 1);
		EQUAL(bytes[0], i + 1);
	}
	w.clock += 10001;
	while (udsipc_reader_get_metrics(w.reader).open > 0) {
		(void)udsipc_reader_run(w.reader, 0);
	}
	close(fd);
	fd = dial_tcp(tcp);
	must_send(fd, (const unsigned char *)"\x01\x31", 2);
	while (w.handled < 4) {
		(void)udsipc_reader_run(w.reader, 0);
	}
	udsipc_reader_stop(w.reader);
	await_bytes(&w, fd, bytes, 1);
	EQUAL(bytes[0], 0);
	EQUAL(udsipc_reader_run(w.reader, 0), UDSIPC_ERR_TIMEOUT);
	w.clock += 1001;
	EQUAL(udsipc_reader_run(w.reader, 0), UDSIPC_ERR_STOPPED);
	EQUAL(recv(fd, bytes, sizeof bytes, 0), 8);
	EQUAL(bytes[1], 0); /* Reason 0, next 2. */
	EQUAL(bytes[2], 2);
	close(fd);
	world_close(&w);
}

/* The reader stops and comes again, ten times. It keeps no state between, so some messages may come again. */
static void test_reader_restarts(const char *address, int acknowledgements) {
	world w;
	world_init(&w, "reader restarts", address, acknowledgements);
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	for (uint64_t round = 0; round < 10; round++) {
		EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
		world_write(&w, round * 50 + 1, round * 50 + 50, 2000);
		for (uint64_t i = 0; i < round * 3; i++) {
			(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 1);
			(void)udsipc_reader_run(w.reader, 0);
		}
		udsipc_reader_stop(w.reader);
		for (int i = 0; udsipc_reader_run(w.reader, 1) != UDSIPC_ERR_STOPPED; i++) {
			CHECK(i < 1000, "it does not stop");
			(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 0);
		}
		CHECK(access(path, F_OK) != 0, "the socket is left");
		udsipc_reader_close(w.reader);
	}
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	world_run(&w, UDSIPC_UNTIL_FINISHED, 100000);
	world_check(&w, 1, 500);
	EQUAL(udsipc_writer_get_metrics(w.writer).possibly_lost, 0);
	world_close(&w);
}

/* A handler that fails: again, then the dead letter. A commit that fails: the messages come again. */
static void test_failures(void) {
	world w;
	world_init(&w, "failures", path, 1);
	w.reader_options.commit = world_commit;
	w.fail_next = 3;
	world_open(&w);
	world_write(&w, 1, 2, 10);
	world_run(&w, UDSIPC_UNTIL_SENT, 10000);
	world_check(&w, 1, 2);
	EQUAL(w.dead, 0);
	w.fail_next = 4;
	world_write(&w, 3, 4, 10);
	world_run(&w, UDSIPC_UNTIL_SENT, 10000);
	EQUAL(w.dead, 1);
	EQUAL(w.times[3], 0);
	EQUAL(w.times[4], 1);
	EQUAL(udsipc_reader_get_metrics(w.reader).failed, 7);
	w.redelivered = 0;
	w.fail_commits = 1;
	world_write(&w, 5, 9, 10);
	world_run(&w, UDSIPC_UNTIL_SENT, 10000);
	EQUAL(w.times[5], 2);
	CHECK(w.redelivered > 0 && w.commits > 2, "redelivered");
	world_close(&w);
}

/* Too many connections, and one that is not authorized, are told so. */
static int reject_all(void *user, int fd) {
	(void)user;
	(void)fd;
	return 1;
}

static void test_turned_away(void) {
	for (int i = 0; i < 2; i++) {
		world w;
		world_init(&w, "turned away", path, 0);
		w.reader_options.max_connections = 1;
		w.reader_options.authorize = i == 1 ? reject_all : NULL;
		EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
		int first = dial();
		(void)udsipc_reader_run(w.reader, 0);
		int fd = i == 0 ? dial() : dup(first);
		(void)udsipc_reader_run(w.reader, 0);
		unsigned char bytes[64];
		udsipc__report report;
		ssize_t n = recv(fd, bytes, sizeof bytes, 0);
		CHECK(n > 1 && bytes[0] == 0 && udsipc__get_report(bytes + 1, (size_t)n - 1, &report) == n - 1, "report");
		EQUAL(report.reason, i + 1);
		EQUAL(report.next, 1);
		close(first);
		close(fd);
		world_close(&w);
	}
}

/* A file of a reader that was killed is replaced; one that is in use, or is no socket, is not. */
static void test_addresses(void) {
	world w;
	world_init(&w, "addresses", path, 0);
	close(listen_at());
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	struct stat info;
	CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600, "mode");
	udsipc_reader *second;
	EQUAL(udsipc_reader_open(&second, &w.reader_options), UDSIPC_ERR_IN_USE);
	CHECK(access(path, F_OK) == 0, "the socket was removed");
	udsipc_reader_close(w.reader);
	CHECK(access(path, F_OK) != 0, "the socket is left");
	fclose(fopen(path, "w"));
	EQUAL(udsipc_reader_open(&second, &w.reader_options), UDSIPC_ERR_IN_USE);
	unlink(path);
	static const char *const wrong[] = {"", "tcp://localhost:80", "tcp://127.0.0.1", "tcp://127.0.0.1:x", NULL};
	for (size_t i = 0; i < COUNT(wrong); i++) {
		w.reader_options.address = wrong[i];
		EQUAL(udsipc_reader_open(&second, &w.reader_options), UDSIPC_ERR_ARGUMENT);
	}
}

/* Heartbeats, and the time without messages, on a clock of the test. */
static void test_times(void) {
	world w;
	unsigned char bytes[64];
	world_init(&w, "times", path, 1);
	w.clock = 1000;
	w.reader_options.now = w.writer_options.now = world_now;
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	udsipc__hello hello = {{7}, 1, 1, 0, 3000};
	int fd = dial();
	must_send(fd, bytes, udsipc__put_hello(bytes, &hello));
	for (int i = 0; i < 3; i++) {
		(void)udsipc_reader_run(w.reader, 0);
	}
	CHECK(recv(fd, bytes, sizeof bytes, 0) > 5, "no welcome");
	EQUAL(udsipc_reader_timeout(w.reader), 1000);
	for (int i = 0; i < 9; i++) {
		w.clock += 1000;
		(void)udsipc_reader_run(w.reader, 0);
		EQUAL(recv(fd, bytes, sizeof bytes, 0), 2);
		CHECK(bytes[0] == 0x80 && bytes[1] == 0, "no heartbeat");
		must_send(fd, bytes, 2);
		(void)udsipc_reader_run(w.reader, 0);
	}
	w.clock += 1000; /* Ten seconds without a message. */
	for (int i = 0; i < 3; i++) {
		(void)udsipc_reader_run(w.reader, 0);
	}
	ssize_t n = recv(fd, bytes, sizeof bytes, 0);
	CHECK(n > 0 && bytes[n - 1] == 0, "no goodbye");
	CHECK(recv(fd, bytes, sizeof bytes, 0) == 0, "not closed");
	close(fd);
	EQUAL(w.handled, 0);
	world_close(&w);
}

/* A writer over TCP sends heartbeats, and ends a connection over which nothing comes. */
static void test_writer_times(void) {
	world w;
	unsigned char bytes[256];
	struct sockaddr_in local;
	socklen_t size = sizeof local;
	char address[64];
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	memset(&local, 0, sizeof local);
	local.sin_family = AF_INET;
	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(listener, (struct sockaddr *)&local, size) == 0 && listen(listener, 4) == 0 &&
			  getsockname(listener, (struct sockaddr *)&local, &size) == 0, "%s", strerror(errno));
	snprintf(address, sizeof address, "tcp://127.0.0.1:%d", ntohs(local.sin_port));
	world_init(&w, "the writer's times", address, 1);
	w.clock = 1000;
	w.writer_options.now = world_now;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	w.writer->wanted = 1;
	udsipc_writer_step(w.writer, 0);
	int fd = play(listener);
	udsipc_writer_step(w.writer, POLLOUT);
	CHECK(recv(fd, bytes, sizeof bytes, 0) > 12, "no hello");
	udsipc__welcome welcome = {0, 0, 1000, 3000};
	must_send(fd, bytes, udsipc__put_welcome(bytes, &welcome));
	struct pollfd ready = {udsipc_writer_fd(w.writer), POLLIN, 0};
	CHECK(poll(&ready, 1, 5000) == 1, "no welcome");
	udsipc_writer_step(w.writer, ready.revents);
	EQUAL(udsipc_writer_timeout(w.writer), 1000);
	for (int i = 0; i < 9; i++) {
		w.clock += 1000;
		udsipc_writer_step(w.writer, 0);
		EQUAL(recv(fd, bytes, sizeof bytes, 0), 2);
		CHECK(bytes[0] == 0x80 && bytes[1] == 0, "no heartbeat");
	}
	EQUAL(w.events[UDSIPC_EVENT_DISCONNECTED], 0);
	w.clock += 1000;
	udsipc_writer_step(w.writer, 0);
	EQUAL(w.events[UDSIPC_EVENT_DISCONNECTED], 1);
	EQUAL(udsipc_writer_fd(w.writer), -1);
	close(fd);
	close(listener);
	world_close(&w);
}

/* Random bytes harm neither end. */
static void test_garbage(void) {
	uint64_t random = 1;
	world w;
	world_init(&w, "garbage", path, 1);
	EQUAL(udsipc_reader_open(&w.reader, &w.reader_options), UDSIPC_OK);
	for (int round = 0; round < 300; round++) {
		unsigned char bytes[300];
		size_t begin = round % 3 == 0 ? 0 : UDSIPC__PREFACE;
		memcpy(bytes, udsipc__preface, UDSIPC__PREFACE);
		for (size_t i = begin; i < sizeof bytes; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[i] = (unsigned char)(random >> (round % 2 == 0 ? 56 : 61));
		}
		int fd = dial();
		(void)send(fd, bytes, (size_t)round, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		for (int i = 0; i == 0 || udsipc_reader_get_metrics(w.reader).open > 0; i++) {
			CHECK(i < 1000, "it does not end");
			(void)udsipc_reader_run(w.reader, 1);
		}
		close(fd);
	}
	world_close(&w);
	int listener = listen_at();
	w.reader = NULL;
	EQUAL(udsipc_writer_open(&w.writer, &w.writer_options), UDSIPC_OK);
	world_write(&w, 1, 5, 10);
	for (int round = 0; round < 100; round++) {
		unsigned char bytes[100];
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 5);
		int fd = play(listener);
		if (round % 2 == 1) {
			answer(fd, 0, 0, 1000);
		}
		for (size_t i = 0; i < sizeof bytes; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			bytes[i] = (unsigned char)(random >> 60);
		}
		(void)send(fd, bytes, (size_t)round, MSG_NOSIGNAL);
		shutdown(fd, SHUT_WR);
		(void)udsipc_writer_run(w.writer, UDSIPC_UNTIL_SENT, 2);
		close(fd);
		if (udsipc_writer_get_metrics(w.writer).queued == 0) {
			world_write(&w, 1, 5, 10);
		}
	}
	close(listener);
	unlink(path);
	world_close(&w);
}

/* More connections than max_read_memory has room for messages of: all arrive. */
static void test_read_memory(void) {
	enum { WRITERS = 6 };
	world w[WRITERS];
	world_init(&w[0], "read memory", path, 1);
	w[0].reader_options.max_read_memory = 1 << 20;
	EQUAL(udsipc_reader_open(&w[0].reader, &w[0].reader_options), UDSIPC_OK);
	for (int i = 0; i < WRITERS; i++) {
		udsipc_reader *reader = w[0].reader;
		if (i > 0) {
			world_init(&w[i], "read memory", path, i % 2);
		}
		w[i].reader = reader;
		EQUAL(udsipc_writer_open(&w[i].writer, &w[i].writer_options), UDSIPC_OK);
		world_write(&w[i], (uint64_t)i * 3, (uint64_t)i * 3 + 2, 900000);
	}
	for (int i = 0; w[0].handled < 3 * WRITERS; i++) {
		CHECK(i < 20000, "%d handled", (int)w[0].handled);
		for (int k = 0; k < WRITERS; k++) {
			udsipc_writer_step(w[k].writer, 0);
		}
		(void)udsipc_reader_run(w[0].reader, 1);
		CHECK(udsipc_reader_get_metrics(w[0].reader).read_memory < 3 << 20, "too much memory");
	}
	EQUAL(w[0].handled_bytes, 3 * WRITERS * 900000);
	for (int i = 0; i < WRITERS; i++) {
		udsipc_writer_close(w[i].writer);
	}
	udsipc_reader_close(w[0].reader);
}

/* Returns a TCP address that nobody listens at. */
static void free_address(char *to, size_t size) {
	struct sockaddr_in local;
	socklen_t length = sizeof local;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	memset(&local, 0, sizeof local);
	local.sin_family = AF_INET;
	local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(fd, (struct sockaddr *)&local, length) == 0 && getsockname(fd, (struct sockaddr *)&local, &length) == 0,
		  "%s", strerror(errno));
	snprintf(to, size, "tcp://127.0.0.1:%d", ntohs(local.sin_port));
	close(fd);
}

#define HOLDS(condition) CHECK(condition, "it does not")

/* Accepts a writer's connection, reads its hello, and sends a welcome. */
static int welcome_at(int listener, uint64_t limit) {
	unsigned char bytes[200];
	udsipc__welcome welcome = {0, 0, limit, 0};
	int fd = accept(listener, NULL, NULL);
	HOLDS(fd >= 0 && recv(fd, bytes, sizeof bytes, 0) > 0);
	size_t size = udsipc__put_welcome(bytes, &welcome);
	HOLDS(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	return fd;
}

static void count_undelivered(void *user, const void *data, size_t size) {
	(void)data;
	*(size_t *)user += size;
}

/* Messages over a reader's limit, between others, are given up in one pass: moving all for each would take a minute. */
static void test_many_over_the_limit(void) {
	static const unsigned char large[6000];
	size_t undelivered = 0;
	udsipc_writer_options options = udsipc_writer_defaults();
	udsipc_writer *writer;
	int listener = listen_at(), fd;
	options.address = path;
	options.acknowledgements = 1;
	options.user = &undelivered;
	options.on_undelivered = count_undelivered;
	HOLDS(udsipc_writer_open(&writer, &options) == UDSIPC_OK);
	for (int i = 0; i < 10000; i++) {
		HOLDS(udsipc_writer_write(writer, large, i % 5000 == 0 ? 5 : sizeof large) == UDSIPC_OK);
	}
	udsipc_writer_step(writer, 0);
	fd = welcome_at(listener, 100);
	udsipc_writer_step(writer, POLLIN | POLLOUT);
	udsipc_writer_metrics metrics = udsipc_writer_get_metrics(writer);
	HOLDS(metrics.undelivered == 9998 && undelivered == 9998 * sizeof large && metrics.queued == 2);
	unsigned char bytes[100];
	HOLDS(recv(fd, bytes, sizeof bytes, 0) == 12 && bytes[0] == 5 && bytes[6] == 5);
	HOLDS(send(fd, "\2", 1, MSG_NOSIGNAL) == 1);
	udsipc_writer_step(writer, POLLIN);
	HOLDS(udsipc_writer_get_metrics(writer).sent == 2);
	close(fd);
	close(listener);
	udsipc_writer_close(writer);
}

/* A reader that sends heartbeats whenever the writer looks at its clock, which it does for each part that it reads. */
typedef struct talker {
	int fd;
	unsigned calls;
} talker;

static uint64_t talk(void *user) {
	static unsigned char heartbeats[1024];
	talker *t = (talker *)user;
	for (size_t i = 0; i < sizeof heartbeats; i += 2) {
		heartbeats[i] = 0x80;
	}
	if (t->fd >= 0 && ++t->calls < 5000) {
		must_send(t->fd, heartbeats, sizeof heartbeats);
	}
	return 1;
}

/* A step returns although the reader never stops to send heartbeats. */
static void test_endless_reader(void) {
	talker reader = {-1, 0};
	udsipc_writer_options options = udsipc_writer_defaults();
	udsipc_writer *writer;
	int listener = listen_at();
	options.address = path;
	options.acknowledgements = 1;
	options.max_message_size = SIZE_MAX;
	options.user = &reader;
	options.now = talk;
	HOLDS(udsipc_writer_open(&writer, &options) == UDSIPC_OK);
	HOLDS(udsipc_writer_write(writer, path, SIZE_MAX - 3) == UDSIPC_ERR_TOO_LARGE);
	HOLDS(udsipc_writer_write(writer, "a", 1) == UDSIPC_OK);
	udsipc_writer_step(writer, 0);
	reader.fd = welcome_at(listener, 100);
	udsipc_writer_step(writer, POLLIN | POLLOUT);
	CHECK(reader.calls > 10 && reader.calls < 1000, "a step has looked at its clock %u times", reader.calls);
	close(reader.fd);
	close(listener);
	reader.fd = -1;
	udsipc_writer_close(writer);
}

static int count_handled(void *user, const udsipc_delivery *delivery) {
	(void)delivery;
	++*(size_t *)user;
	return 0;
}

static uint64_t stand_still(void *user) {
	(void)user;
	return 1;
}

static int connect_to(const char *address) {
	udsipc__address parsed;
	EQUAL(udsipc__parse_address(address, &parsed), UDSIPC_OK);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	HOLDS(connect(fd, (const struct sockaddr *)&parsed.sock, parsed.size) == 0);
	return fd;
}

/* A connection that waits for memory has no descriptor to poll. It does not take the place of the listener, which a stop
 * has closed. */
static void test_stop_with_a_starved_connection(void) {
	size_t handled = 0;
	struct pollfd fds[4];
	udsipc_reader_options options = udsipc_reader_defaults();
	udsipc_reader *reader;
	options.address = path;
	options.user = &handled;
	options.handle = count_handled;
	options.now = stand_still;
	HOLDS(udsipc_reader_open(&reader, &options) == UDSIPC_OK);
	int first = connect_to(path), second = connect_to(path);
	size_t count = udsipc_reader_fds(reader, fds, COUNT(fds));
	HOLDS(poll(fds, count, 5000) == 1);
	(void)udsipc_reader_step(reader, fds, count);
	EQUAL(reader->conn_count, 2);
	must_send(second, (const unsigned char *)"\001a", 2);
	reader->conns[0]->starved = 1;
	udsipc_reader_stop(reader);
	(void)udsipc_reader_step(reader, NULL, 0);
	count = udsipc_reader_fds(reader, fds, COUNT(fds));
	HOLDS(count == 2 && poll(fds, count, 5000) == 1);
	(void)udsipc_reader_step(reader, fds, count);
	EQUAL(handled, 1);
	close(first);
	close(second);
	udsipc_reader_close(reader);
}

int main(int argc, char **argv) {
	char tcp[64];
	if (argc != 2) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	snprintf(path, sizeof path, "%s/unit.sock", argv[1]);
	free_address(tcp, sizeof tcp);
	test_session_vectors();
	test_frame_vectors();
	test_goodbye_vectors();
	for (int acknowledgements = 0; acknowledgements < 2; acknowledgements++) {
		test_both(path, acknowledgements);
		test_both(tcp, acknowledgements);
#ifdef __linux__
		test_both("@udsipc-c-unit", acknowledgements);
#endif
		test_failed_allocations(acknowledgements);
		test_reader_restarts(path, acknowledgements);
		test_reader_restarts(tcp, acknowledgements);
	}
	test_no_allocations();
	test_small_buffer();
	test_cuts();
	test_queue_bounds();
	test_refusals();
	test_bad_acks();
	test_smaller_limit();
	test_plain_limit();
	test_plain_reset();
	test_stop_backlog();
	test_tcp_times(tcp);
	test_identity();
	test_failures();
	test_turned_away();
	test_addresses();
	test_times();
	test_writer_times();
	test_garbage();
	test_read_memory();
	test_many_over_the_limit();
	test_endless_reader();
	test_stop_with_a_starved_connection();
	printf("all tests of one process passed\n");
	return 0;
}
