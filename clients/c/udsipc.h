/* SPDX-License-Identifier: Apache-2.0 */

/*
 * udsipc.h: messages between processes, in one header. C11, POSIX sockets, nothing else.
 *
 * A writer queues messages and sends them to a reader. A reader accepts connections and calls a function for each
 * message. docs/PROTOCOL.md specifies every byte. Programs in other languages are the other end as well.
 *
 * Include the header anywhere. One file of the program defines UDSIPC_IMPLEMENTATION before that:
 *
 *     #define UDSIPC_IMPLEMENTATION
 *     #include "udsipc.h"
 *
 * That file is C, and includes this header before all others. The declarations are C++ as well.
 *
 * Nothing here starts a thread, waits (but for the two functions named run), or installs a signal handler. The caller's
 * event loop drives a writer and a reader: it polls their descriptors and calls their step. A writer or a reader must
 * be used by one thread at a time.
 *
 * Functions return 0 (UDSIPC_OK) or a negative code; udsipc_strerror has its text. After UDSIPC_ERR_SYSTEM, errno tells
 * more. A lack of memory is an error of the function, or an event: nothing is lost by it.
 */

#ifndef UDSIPC_H
#define UDSIPC_H

#if defined(UDSIPC_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1 /* Beside POSIX: struct ucred. */
#endif

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	UDSIPC_OK = 0,
	UDSIPC_ERR_ARGUMENT = -1,  /* An option or an argument cannot be. */
	UDSIPC_ERR_MEMORY = -2,    /* There is no memory. Nothing has changed. */
	UDSIPC_ERR_FULL = -3,      /* The queue is full. The message is not accepted. */
	UDSIPC_ERR_TOO_LARGE = -4, /* The message is over the limit of this side, of the reader, or of the queue. */
	UDSIPC_ERR_TIMEOUT = -5,   /* The time is over. Everything goes on with the next call. */
	UDSIPC_ERR_SYSTEM = -6,    /* A system call failed: errno. */
	UDSIPC_ERR_IN_USE = -7,    /* Another process listens at the address. */
	UDSIPC_ERR_STOPPED = -8    /* The reader or the writer has been stopped. */
};

/* Returns the text of a code, in static memory. */
const char *udsipc_strerror(int code);

/*
 * What an owner of a writer or a reader may want to log. text is static. connection counts the connections from 1.
 * error is a code from above, or 0. count is the number of messages that the event is about.
 */
typedef struct udsipc_event {
	int kind;
	int error;
	uint64_t connection;
	uint64_t count;
	const char *text;
} udsipc_event;

enum {
	UDSIPC_EVENT_CONNECTED = 1, /* A connection is open; in a session: after the welcome. */
	UDSIPC_EVENT_DISCONNECTED,  /* It has ended; text tells why. */
	UDSIPC_EVENT_LOSS,          /* Writer: up to count messages of plain mode are lost. */
	UDSIPC_EVENT_NO_SESSION,    /* Writer: the reader does not support sessions, or not this version. It tries again. */
	UDSIPC_EVENT_CONTESTED,     /* Writer: another process uses the same identity. */
	UDSIPC_EVENT_REJECTED,      /* Reader: a connection was not accepted, or a session refused. */
	UDSIPC_EVENT_MALFORMED,     /* Reader: bytes that are not the protocol. */
	UDSIPC_EVENT_SKIPPED,       /* Reader: a message was over the limit. */
	UDSIPC_EVENT_INCOMPLETE,    /* Reader: a connection ended within a message. Its writer sends it again. */
	UDSIPC_EVENT_FAILED,        /* Reader: the handler returned another value than 0. */
	UDSIPC_EVENT_TROUBLE        /* A lack of memory or descriptors. It is tried again. */
};

/* ---- The writer ---------------------------------------------------------------------------------------------- */

typedef struct udsipc_writer udsipc_writer;

/*
 * An address is a path, unix:PATH, @NAME (abstract, on Linux), or tcp://HOST:PORT with a numeric host. Begin with
 * udsipc_writer_defaults(). Strings are copied.
 */
typedef struct udsipc_writer_options {
	const char *address;
	int acknowledgements;               /* 1: a session. A message stays in the queue until its handler has returned. */
	size_t max_messages;                /* Of the queue; 10,000. */
	size_t max_bytes;                   /* Of the queue; 64 MiB. The memory is up to four times as large. */
	size_t max_message_size;            /* 10 MiB. */
	unsigned backoff_ms;                /* The first delay between two attempts to connect; 10. */
	unsigned max_backoff_ms;            /* The longest one; 10,000. Delays are random up to their bound. */
	unsigned connect_timeout_ms;        /* Of one attempt over TCP; 1,000. */
	unsigned heartbeat_timeout_ms;      /* Over TCP: the longest time without a byte of the reader; 10,000. 0: none. */
	unsigned linger_timeout_ms;         /* The longest wait for the reader to close, while no byte comes; 10,000. */
	const unsigned char *identity;      /* 16 bytes of a writer that outlives its process. NULL: random ones. */
	uint64_t first_epoch;               /* With identity: larger than each of an earlier process. */
	uint64_t first_sequence;            /* With identity: the number of the next message; 0 and 1 are the same. */
	void *user;                         /* For the functions below, which call no function of the same writer. */
	void (*on_undelivered)(void *user, const void *data, size_t size); /* A message was given up. */
	void (*on_event)(void *user, const udsipc_event *event);
	void *(*allocate)(void *user, void *block, size_t size); /* As realloc; size 0 frees. NULL: realloc and free. */
	uint64_t (*now)(void *user);                             /* Milliseconds that never go back. NULL: the system's. */
} udsipc_writer_options;

/* At every moment accepted = sent + undelivered + queued. */
typedef struct udsipc_writer_metrics {
	uint64_t accepted, sent, undelivered, queued, queued_bytes;
	uint64_t possibly_lost; /* Plain mode; a part of sent. */
	uint64_t retransmitted; /* Sent more than once. */
	uint64_t connections;   /* Opened so far. */
	uint64_t sequence;      /* Sequence number of the last message that was sent or given up. */
	int connected;          /* 1 now; in a session: after the welcome. */
} udsipc_writer_metrics;

udsipc_writer_options udsipc_writer_defaults(void);

/* Makes a writer. It does not connect: that is done by step, once there is a message. */
int udsipc_writer_open(udsipc_writer **writer, const udsipc_writer_options *options);

/* Copies a message into the queue. Call step afterwards, or poll: write itself sends nothing. */
int udsipc_writer_write(udsipc_writer *writer, const void *data, size_t size);

/* For the event loop: the descriptor, or -1 if there is none at present; the poll events to wait for; and the time in
 * milliseconds after which step must be called in any case, or -1. They may change with each step and write. */
int udsipc_writer_fd(const udsipc_writer *writer);
short udsipc_writer_events(const udsipc_writer *writer);
int udsipc_writer_timeout(const udsipc_writer *writer);

/* Does what can be done without waiting: connects, sends, reads acknowledgements. revents is what poll has returned for
 * the descriptor, or 0. Errors of connections are events, and it goes on after them. */
void udsipc_writer_step(udsipc_writer *writer, short revents);

enum {
	UDSIPC_UNTIL_CONNECTED = 1, /* A connection is open; in a session: the welcome has come. */
	UDSIPC_UNTIL_SENT,          /* The queue is empty: plain: in the kernel; in a session: acknowledged. */
	UDSIPC_UNTIL_FINISHED       /* The same, and the reader has read everything and closed. No write may follow. */
};

/* Runs step and poll until the condition holds: UDSIPC_OK, or UDSIPC_ERR_TIMEOUT. A negative timeout is none. */
int udsipc_writer_run(udsipc_writer *writer, int until, int timeout_ms);

udsipc_writer_metrics udsipc_writer_get_metrics(const udsipc_writer *writer);

/* Closes the connection and frees the writer. What is queued goes to on_undelivered. NULL is allowed. */
void udsipc_writer_close(udsipc_writer *writer);

/* ---- The reader ---------------------------------------------------------------------------------------------- */

typedef struct udsipc_reader udsipc_reader;

/* A message. data is valid until the handler returns. */
typedef struct udsipc_delivery {
	const void *data;
	size_t size;
	int fd;                      /* The connection: for getsockopt with SO_PEERCRED. */
	uint64_t connection;         /* Its number, from 1. */
	const unsigned char *writer; /* 16 bytes that name the writer of a session; NULL in plain mode. */
	uint64_t sequence;           /* The number of the message: of the writer, or of a plain connection. */
	int redelivered;             /* 1: it may have been handled before. */
} udsipc_delivery;

/* Begin with udsipc_reader_defaults(). */
typedef struct udsipc_reader_options {
	const char *address;
	int listen_fd;                  /* A listening socket to use instead, which is not closed; -1. */
	unsigned mode;                  /* Of the socket file, less the umask; 0600. */
	size_t max_message_size;        /* 10 MiB; at most 1 GiB. */
	size_t max_connections;         /* 1,024. */
	size_t read_buffer_size;        /* Of each connection; 64 KiB. A larger message has a larger one while it lasts. */
	size_t max_read_memory;         /* Of all of them; 64 MiB. One connection at a time may exceed it. */
	size_t max_writer_states;       /* 4,096 writers of sessions are remembered: about 64 bytes each. */
	unsigned inactivity_timeout_ms; /* A connection without messages is closed after it; 10,000. 0: never. */
	unsigned message_timeout_ms;    /* One within a message is closed after it; 30,000. 0: never. */
	unsigned heartbeat_timeout_ms;  /* Over TCP: the longest time without a byte in a session; 10,000. 0: any. */
	unsigned max_redeliveries;      /* In a session, of a message whose handler failed; 3. */
	void *user;                     /* For the functions below. */
	/* Handles a message, and returns 0. In a session, another value has it called again, then on_dead_letter. The
	 * functions below may call udsipc_reader_stop, and no other function of the same reader. */
	int (*handle)(void *user, const udsipc_delivery *delivery);
	/* Is called before an acknowledgement: makes durable what handle has done. After another value than 0, the
	 * connection is closed without the acknowledgement, and the writer sends the messages again. May be NULL. */
	int (*commit)(void *user);
	void (*on_dead_letter)(void *user, const udsipc_delivery *delivery);
	int (*authorize)(void *user, int fd); /* Another value than 0 rejects a connection. May be NULL. */
	void (*on_event)(void *user, const udsipc_event *event);
	void *(*allocate)(void *user, void *block, size_t size);
	uint64_t (*now)(void *user);
} udsipc_reader_options;

typedef struct udsipc_reader_metrics {
	uint64_t received;    /* Messages that were handled, or have failed. */
	uint64_t failed;      /* Calls of handle that returned another value than 0. */
	uint64_t dead_letters;
	uint64_t redelivered; /* Messages with redelivered set. */
	uint64_t skipped;     /* Messages over the limit. */
	uint64_t incomplete;  /* Connections that ended within a message. */
	uint64_t connections; /* Accepted so far. */
	uint64_t rejected;    /* Of them, not served. */
	uint64_t open;        /* Now. */
	uint64_t read_memory; /* Of all buffers, in bytes. */
} udsipc_reader_metrics;

udsipc_reader_options udsipc_reader_defaults(void);

/* Listens at the address. A socket file that nobody listens at is replaced. */
int udsipc_reader_open(udsipc_reader **reader, const udsipc_reader_options *options);

/* For the event loop: fills in the descriptors and events to poll, and returns how many there are, which may be more
 * than capacity; and the time in milliseconds after which step must be called in any case, or -1. */
size_t udsipc_reader_fds(const udsipc_reader *reader, struct pollfd *fds, size_t capacity);
int udsipc_reader_timeout(const udsipc_reader *reader);

/* Accepts, reads, handles and acknowledges, without waiting. fds is what udsipc_reader_fds has filled in and poll has
 * answered, or an empty list. It returns UDSIPC_OK, or UDSIPC_ERR_STOPPED once a stop is complete. */
int udsipc_reader_step(udsipc_reader *reader, const struct pollfd *fds, size_t count);

/* Runs poll and step for this time, or until a stop is complete: UDSIPC_ERR_TIMEOUT, UDSIPC_ERR_STOPPED, or
 * UDSIPC_ERR_MEMORY. A negative timeout is none. A signal ends it as a timeout does. */
int udsipc_reader_run(udsipc_reader *reader, int timeout_ms);

/* Asks for a graceful stop: the next step accepts no further connection, and what writers have sent is handled. step and
 * run go on until it is complete. A handler and a signal handler may call it. */
void udsipc_reader_stop(udsipc_reader *reader);

udsipc_reader_metrics udsipc_reader_get_metrics(const udsipc_reader *reader);

/* Closes all connections at once and frees the reader. NULL is allowed. */
void udsipc_reader_close(udsipc_reader *reader);

#ifdef __cplusplus
}
#endif

#endif /* UDSIPC_H */

#ifdef UDSIPC_IMPLEMENTATION
#ifndef UDSIPC_IMPLEMENTED
#define UDSIPC_IMPLEMENTED

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/sockios.h>
#endif

#ifdef MSG_NOSIGNAL
#define UDSIPC__SEND_FLAGS MSG_NOSIGNAL
#else
#define UDSIPC__SEND_FLAGS 0
#endif

/* ---- Bytes --------------------------------------------------------------------------------------------------- */

enum {
	UDSIPC__MAX_PREFIX = 10, /* 64 bits in groups of seven. */
	UDSIPC__MAX_BODY = 128,  /* Of a hello, a welcome or a report. */
	UDSIPC__PREFACE = 12,
	UDSIPC__INPUT = 512 /* More than a goodbye with its report, or a welcome behind heartbeats. */
};

static const unsigned char udsipc__preface[UDSIPC__PREFACE] = {0xf5, 0xe4, 0xf3, 0xe9, 0xf0, 0xe3,
															   0xad, 0xe1, 0xe3, 0xeb, 0xe5, 0xe4};

static size_t udsipc__put_varint(unsigned char *to, uint64_t n) {
	size_t size = 0;
	while (n > 127) {
		to[size++] = (unsigned char)((n & 127) | 128);
		n >>= 7;
	}
	to[size++] = (unsigned char)n;
	return size;
}

/* Returns the size of the varint at the start of bytes: 0 if it is incomplete, -1 if it is over 64 bits. */
static int udsipc__get_varint(const unsigned char *bytes, size_t size, uint64_t *n) {
	uint64_t value = 0;
	for (size_t i = 0; i < size && i < UDSIPC__MAX_PREFIX; i++) {
		if (i == UDSIPC__MAX_PREFIX - 1 && bytes[i] > 1) {
			return -1;
		}
		value |= (uint64_t)(bytes[i] & 127) << (7 * i);
		if (bytes[i] < 128) {
			*n = value;
			return (int)i + 1;
		}
	}
	return size < UDSIPC__MAX_PREFIX ? 0 : -1;
}

/* The fields of a hello, a welcome or a report. failed is set by the first field that is not there. */
typedef struct udsipc__fields {
	const unsigned char *at, *end;
	int failed;
} udsipc__fields;

static uint64_t udsipc__field(udsipc__fields *fields) {
	uint64_t n = 0;
	int size = udsipc__get_varint(fields->at, (size_t)(fields->end - fields->at), &n);
	if (fields->failed || size <= 0 || n > INT64_MAX) {
		fields->failed = 1;
		return 0;
	}
	fields->at += size;
	return n;
}

/* Finds a frame of 1 to 128 bytes: returns its size, 0 if it is incomplete, -1 if it cannot be. */
static int udsipc__get_body(const unsigned char *bytes, size_t size, udsipc__fields *fields) {
	uint64_t length = 0;
	int prefix = udsipc__get_varint(bytes, size, &length);
	if (prefix <= 0) {
		return prefix;
	}
	if (length == 0 || length > UDSIPC__MAX_BODY) {
		return -1;
	}
	if (size - (size_t)prefix < length) {
		return 0;
	}
	fields->at = bytes + prefix;
	fields->end = fields->at + length;
	fields->failed = 0;
	return prefix + (int)length;
}

static size_t udsipc__put_body(unsigned char *to, const unsigned char *body, size_t size) {
	size_t prefix = udsipc__put_varint(to, size);
	memcpy(to + prefix, body, size);
	return prefix + size;
}

typedef struct udsipc__hello {
	unsigned char writer[16];
	uint64_t epoch, first, sent, heartbeat_timeout;
} udsipc__hello;

/* The result of a parser: the size of what it has found, 0 for incomplete bytes, or one of these. */
enum { UDSIPC__BAD = -1, UDSIPC__OTHER_VERSION = -2 };

static size_t udsipc__put_hello(unsigned char *to, const udsipc__hello *hello) {
	unsigned char body[UDSIPC__MAX_BODY];
	size_t size = udsipc__put_varint(body, 1);
	memcpy(body + size, hello->writer, sizeof hello->writer);
	size += sizeof hello->writer;
	size += udsipc__put_varint(body + size, hello->epoch);
	size += udsipc__put_varint(body + size, hello->first);
	size += udsipc__put_varint(body + size, hello->sent);
	size += udsipc__put_varint(body + size, hello->heartbeat_timeout);
	memcpy(to, udsipc__preface, UDSIPC__PREFACE);
	return UDSIPC__PREFACE + udsipc__put_body(to + UDSIPC__PREFACE, body, size);
}

static int udsipc__get_hello(const unsigned char *bytes, size_t size, udsipc__hello *hello) {
	udsipc__fields fields;
	size_t common = size < UDSIPC__PREFACE ? size : (size_t)UDSIPC__PREFACE;
	if (memcmp(bytes, udsipc__preface, common) != 0) {
		return UDSIPC__BAD;
	}
	int used = udsipc__get_body(bytes + common, size - common, &fields);
	if (used <= 0) {
		return used;
	}
	uint64_t version = udsipc__field(&fields);
	if (!fields.failed && version != 1) {
		hello->epoch = version;
		return UDSIPC__OTHER_VERSION;
	}
	if ((size_t)(fields.end - fields.at) < sizeof hello->writer) {
		return UDSIPC__BAD;
	}
	memcpy(hello->writer, fields.at, sizeof hello->writer);
	fields.at += sizeof hello->writer;
	hello->epoch = udsipc__field(&fields);
	hello->first = udsipc__field(&fields);
	hello->sent = udsipc__field(&fields);
	hello->heartbeat_timeout = udsipc__field(&fields);
	if (fields.failed || fields.at != fields.end || hello->epoch == 0 || hello->first == 0 ||
		hello->sent < hello->first - 1) {
		return UDSIPC__BAD;
	}
	return UDSIPC__PREFACE + used;
}

typedef struct udsipc__welcome {
	uint64_t status, handled, limit, heartbeat_timeout;
} udsipc__welcome;

static size_t udsipc__put_welcome(unsigned char *to, const udsipc__welcome *welcome) {
	unsigned char body[UDSIPC__MAX_BODY];
	size_t size = udsipc__put_varint(body, 1);
	size += udsipc__put_varint(body + size, welcome->status);
	size += udsipc__put_varint(body + size, welcome->handled);
	size += udsipc__put_varint(body + size, welcome->limit);
	size += udsipc__put_varint(body + size, welcome->heartbeat_timeout);
	return udsipc__put_body(to, body, size);
}

static int udsipc__get_welcome(const unsigned char *bytes, size_t size, udsipc__welcome *welcome) {
	udsipc__fields fields;
	int used = udsipc__get_body(bytes, size, &fields);
	if (used <= 0) {
		return used;
	}
	uint64_t version = udsipc__field(&fields);
	welcome->status = udsipc__field(&fields);
	if (!fields.failed && (version != 1 || welcome->status == 1)) {
		return UDSIPC__OTHER_VERSION;
	}
	welcome->handled = udsipc__field(&fields);
	welcome->limit = udsipc__field(&fields);
	welcome->heartbeat_timeout = udsipc__field(&fields);
	if (fields.failed || fields.at != fields.end || (welcome->status == 0 && welcome->limit == 0)) {
		return UDSIPC__BAD;
	}
	return used;
}

typedef struct udsipc__report {
	uint64_t reason, next, skipped, limit;
} udsipc__report;

static size_t udsipc__put_report(unsigned char *to, const udsipc__report *report) {
	unsigned char body[UDSIPC__MAX_BODY];
	size_t size = udsipc__put_varint(body, report->reason);
	size += udsipc__put_varint(body + size, report->next);
	size += udsipc__put_varint(body + size, report->skipped);
	size += udsipc__put_varint(body + size, report->limit);
	return udsipc__put_body(to, body, size);
}

static int udsipc__get_report(const unsigned char *bytes, size_t size, udsipc__report *report) {
	udsipc__fields fields;
	int used = udsipc__get_body(bytes, size, &fields);
	if (used <= 0) {
		return used;
	}
	report->reason = udsipc__field(&fields);
	report->next = udsipc__field(&fields);
	report->skipped = udsipc__field(&fields);
	report->limit = udsipc__field(&fields);
	if (fields.failed || (report->next > 0 && report->skipped >= report->next)) {
		return UDSIPC__BAD;
	}
	return used;
}

/* Parses what a reader sends after the welcome. *alive is set for a heartbeat; 0 handled messages are the goodbye. */
static int udsipc__get_ack(const unsigned char *bytes, size_t size, uint64_t *handled, int *alive) {
	int used = udsipc__get_varint(bytes, size, handled);
	*alive = used == 2 && bytes[0] == 0x80 && bytes[1] == 0;
	if (used > 1 && bytes[used - 1] == 0 && !*alive) {
		return UDSIPC__BAD;
	}
	return used;
}

/* ---- The system ---------------------------------------------------------------------------------------------- */

const char *udsipc_strerror(int code) {
	switch (code) {
	case UDSIPC_OK: return "no error";
	case UDSIPC_ERR_ARGUMENT: return "an option or an argument cannot be";
	case UDSIPC_ERR_MEMORY: return "there is no memory";
	case UDSIPC_ERR_FULL: return "the queue is full";
	case UDSIPC_ERR_TOO_LARGE: return "the message is too large";
	case UDSIPC_ERR_TIMEOUT: return "the time is over";
	case UDSIPC_ERR_SYSTEM: return "a system call failed";
	case UDSIPC_ERR_IN_USE: return "another process listens at the address";
	case UDSIPC_ERR_STOPPED: return "it has been stopped";
	default: return "unknown code";
	}
}

static void *udsipc__allocate(void *user, void *block, size_t size) {
	(void)user;
	if (size == 0) {
		free(block);
		return NULL;
	}
	return realloc(block, size);
}

static uint64_t udsipc__clock(void *user) {
	struct timespec now;
	(void)user;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int udsipc__is_again(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

typedef struct udsipc__address {
	struct sockaddr_storage sock;
	socklen_t size;
	int is_unix, is_path;
} udsipc__address;

static int udsipc__parse_unix(const char *text, udsipc__address *address) {
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)&address->sock;
	size_t size = strlen(text);
	if (size == 0 || size >= sizeof un->sun_path) {
		return UDSIPC_ERR_ARGUMENT;
	}
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, text, size);
	address->is_unix = 1;
	address->is_path = text[0] != '@';
	address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (address->is_path ? 1 : 0));
	if (!address->is_path) {
#ifdef __linux__
		un->sun_path[0] = 0;
#else
		return UDSIPC_ERR_ARGUMENT;
#endif
	}
	return UDSIPC_OK;
}

static int udsipc__parse_tcp(const char *text, udsipc__address *address) {
	char host[64], *name = host;
	const char *colon = strrchr(text, ':');
	struct addrinfo hints, *found = NULL;
	if (colon == NULL || (size_t)(colon - text) >= sizeof host) {
		return UDSIPC_ERR_ARGUMENT;
	}
	size_t size = (size_t)(colon - text);
	memcpy(host, text, size);
	host[size] = 0;
	if (size > 1 && host[0] == '[' && host[size - 1] == ']') {
		host[size - 1] = 0;
		name = host + 1;
	}
	memset(&hints, 0, sizeof hints);
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
	if (getaddrinfo(name, colon + 1, &hints, &found) != 0 || found == NULL) {
		return UDSIPC_ERR_ARGUMENT;
	}
	memcpy(&address->sock, found->ai_addr, found->ai_addrlen);
	address->size = found->ai_addrlen;
	freeaddrinfo(found);
	return UDSIPC_OK;
}

static int udsipc__parse_address(const char *text, udsipc__address *address) {
	memset(address, 0, sizeof *address);
	if (text == NULL) {
		return UDSIPC_ERR_ARGUMENT;
	}
	if (strncmp(text, "tcp://", 6) == 0) {
		return udsipc__parse_tcp(text + 6, address);
	}
	return udsipc__parse_unix(strncmp(text, "unix:", 5) == 0 ? text + 5 : text, address);
}

/* Makes a descriptor non-blocking and not inherited. */
static int udsipc__prepare(int fd) {
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
		return -1;
	}
#ifdef SO_NOSIGPIPE
	int on = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
	return 0;
}

static void udsipc__prepare_tcp(int fd) {
	int on = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static int udsipc__socket(int family) {
	int fd = socket(family, SOCK_STREAM, 0);
	if (fd >= 0 && udsipc__prepare(fd) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	if (fd >= 0 && family != AF_UNIX) {
		udsipc__prepare_tcp(fd);
	}
	return fd;
}

/* The time until a moment, for poll. */
static int udsipc__until(uint64_t now, uint64_t moment) {
	if (moment <= now) {
		return 0;
	}
	return moment - now > INT_MAX ? INT_MAX : (int)(moment - now);
}

/* The shorter one of two timeouts, of which -1 is none. */
static int udsipc__shorter(int a, int b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

/* ---- The writer ---------------------------------------------------------------------------------------------- */

enum {
	UDSIPC__IDLE,       /* No connection. */
	UDSIPC__CONNECTING, /* connect has not finished. */
	UDSIPC__HELLO,      /* The hello is sent; the welcome is awaited. */
	UDSIPC__OPEN,       /* Messages may be sent. */
	UDSIPC__ENDING      /* Nothing more is sent; what the reader says is read until end of file. */
};

enum { UDSIPC__BATCH = 256 * 1024, UDSIPC__ROUNDS = 64 };

/*
 * The queue is a run of frames: queue[head:tail]. The frames before frame were completely sent on this connection, and
 * next is where the next byte to send lies, in the frame that begins at frame. In plain mode, head is frame.
 */
struct udsipc_writer {
	udsipc_writer_options options;
	udsipc__address address;
	unsigned char id[16];
	uint64_t epoch;  /* Of the last hello. */
	uint64_t random; /* The state of the delays. */

	unsigned char *queue;
	size_t capacity, head, frame, next, tail;
	uint64_t head_sequence;  /* Of the message at head. */
	uint64_t frame_sequence; /* Of the message at frame. */
	uint64_t newest_sent;    /* Sequence number of the newest message that was completely sent on any connection. */

	/* This connection. */
	int fd, state;
	int finishing;       /* This side ends the connection. */
	int blocked;         /* What is next waits for acknowledgements. */
	int parting;         /* The reader has said goodbye. */
	int has_report;      /* And why. */
	int foreign;         /* It has said something else. */
	int progress;        /* A message got through. */
	int reset;           /* ECONNRESET. */
	const char *cause;   /* Of the end, for the event. */
	udsipc__report report;
	uint64_t written;    /* Messages that the kernel has taken. */
	uint64_t read;       /* Of them, those that the reader is known to have read. */
	uint64_t limit;      /* Of the reader, in its welcome; 0: not known. */
	uint64_t last_ack, heartbeat_interval, last_in, last_out, opened_at;
	unsigned char out[UDSIPC__INPUT], in[UDSIPC__INPUT];
	size_t out_size, in_size;

	/* Between connections. */
	int wanted, finished;
	unsigned failures;
	uint64_t retry_at;
	udsipc_writer_metrics metrics;
};

udsipc_writer_options udsipc_writer_defaults(void) {
	udsipc_writer_options options;
	memset(&options, 0, sizeof options);
	options.max_messages = 10000;
	options.max_bytes = 64u << 20;
	options.max_message_size = 10u << 20;
	options.backoff_ms = 10;
	options.max_backoff_ms = 10000;
	options.connect_timeout_ms = 1000;
	options.heartbeat_timeout_ms = 10000;
	options.linger_timeout_ms = 10000;
	return options;
}

static uint64_t udsipc__writer_now(const udsipc_writer *w) { return w->options.now(w->options.user); }

static void udsipc__writer_event(const udsipc_writer *w, int kind, int error, uint64_t count, const char *text) {
	udsipc_event event = {kind, error, w->metrics.connections, count, text};
	if (w->options.on_event != NULL) {
		w->options.on_event(w->options.user, &event);
	}
}

static int udsipc__random_bytes(unsigned char *to, size_t size) {
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return UDSIPC_ERR_SYSTEM;
	}
	while (size > 0) {
		ssize_t n = read(fd, to, size);
		if (n == 0 || (n < 0 && errno != EINTR)) {
			close(fd);
			return UDSIPC_ERR_SYSTEM;
		}
		if (n > 0) {
			to += n;
			size -= (size_t)n;
		}
	}
	close(fd);
	return UDSIPC_OK;
}

int udsipc_writer_open(udsipc_writer **writer, const udsipc_writer_options *options) {
	udsipc__address address;
	unsigned char random[24];
	if (writer == NULL || options == NULL) {
		return UDSIPC_ERR_ARGUMENT;
	}
	*writer = NULL;
	int failed = udsipc__parse_address(options->address, &address);
	if (failed == UDSIPC_OK && (options->max_messages == 0 || options->max_bytes == 0 ||
								options->max_bytes > SIZE_MAX / 8 || options->first_sequence > INT64_MAX ||
								options->first_epoch > INT64_MAX || options->max_message_size == 0)) {
		failed = UDSIPC_ERR_ARGUMENT;
	}
	if (failed == UDSIPC_OK) {
		failed = udsipc__random_bytes(random, sizeof random);
	}
	if (failed != UDSIPC_OK) {
		return failed;
	}
	void *(*allocate)(void *, void *, size_t) = options->allocate != NULL ? options->allocate : udsipc__allocate;
	udsipc_writer *w = (udsipc_writer *)allocate(options->user, NULL, sizeof *w);
	if (w == NULL) {
		return UDSIPC_ERR_MEMORY;
	}
	memset(w, 0, sizeof *w);
	w->options = *options;
	w->options.allocate = allocate;
	w->options.address = NULL; /* Not valid after the return. */
	w->options.now = options->now != NULL ? options->now : udsipc__clock;
	w->address = address;
	w->fd = -1;
	memcpy(w->id, random, sizeof w->id);
	memcpy(&w->random, random + sizeof w->id, sizeof w->random);
	w->head_sequence = 1;
	if (options->identity != NULL) {
		memcpy(w->id, options->identity, sizeof w->id);
		w->epoch = options->first_epoch > 0 ? options->first_epoch - 1 : 0;
		w->head_sequence = options->first_sequence > 0 ? options->first_sequence : 1;
	}
	w->options.identity = options->identity != NULL ? w->id : NULL;
	w->frame_sequence = w->head_sequence;
	w->newest_sent = w->head_sequence - 1;
	*writer = w;
	return UDSIPC_OK;
}

/* ---- The writer's queue */

/* Moves the queue to the start of its buffer. */
static void udsipc__compact(udsipc_writer *w) {
	if (w->head == 0) {
		return;
	}
	memmove(w->queue, w->queue + w->head, w->tail - w->head);
	w->frame -= w->head;
	w->next -= w->head;
	w->tail -= w->head;
	w->head = 0;
}

/* Makes room for size bytes at the tail. Bytes are moved only if as many are free in front of them, so that each one is
 * moved a limited number of times. */
static int udsipc__make_room(udsipc_writer *w, size_t size) {
	size_t used = w->tail - w->head;
	if (w->head == w->tail) {
		w->head = w->frame = w->next = w->tail = 0;
	}
	if (w->capacity - w->tail >= size) {
		return UDSIPC_OK;
	}
	if (w->head >= used && w->capacity >= used + size) {
		udsipc__compact(w);
		return UDSIPC_OK;
	}
	size_t capacity = w->capacity < 64 * 1024 ? 64 * 1024 : w->capacity * 2;
	while (capacity < used + size) {
		capacity *= 2;
	}
	unsigned char *grown = (unsigned char *)w->options.allocate(w->options.user, w->queue, capacity);
	if (grown != NULL) {
		w->queue = grown;
		w->capacity = capacity;
	} else if (w->capacity < used + size) {
		return UDSIPC_ERR_MEMORY;
	}
	udsipc__compact(w);
	return UDSIPC_OK;
}

int udsipc_writer_write(udsipc_writer *w, const void *data, size_t size) {
	unsigned char prefix[UDSIPC__MAX_PREFIX];
	if (w->finished) {
		return UDSIPC_ERR_STOPPED;
	}
	if (size > w->options.max_message_size || size > w->options.max_bytes || (w->limit > 0 && size > w->limit)) {
		return UDSIPC_ERR_TOO_LARGE;
	}
	size_t prefix_size = udsipc__put_varint(prefix, size);
	if (prefix_size + size > w->options.max_bytes) {
		return UDSIPC_ERR_TOO_LARGE;
	}
	if (w->metrics.queued >= w->options.max_messages ||
		w->tail - w->head + prefix_size + size > w->options.max_bytes) {
		return UDSIPC_ERR_FULL;
	}
	if (udsipc__make_room(w, prefix_size + size) != UDSIPC_OK) {
		return UDSIPC_ERR_MEMORY;
	}
	memcpy(w->queue + w->tail, prefix, prefix_size);
	if (size > 0) {
		memcpy(w->queue + w->tail + prefix_size, data, size);
	}
	w->tail += prefix_size + size;
	w->metrics.queued++;
	w->metrics.accepted++;
	return UDSIPC_OK;
}

/* Returns the size of the frame at an offset of the queue, and that of its message. */
static size_t udsipc__frame_size(const udsipc_writer *w, size_t at, size_t *message) {
	uint64_t length = 0;
	int prefix = udsipc__get_varint(w->queue + at, w->tail - at, &length);
	*message = (size_t)length;
	return (size_t)prefix + (size_t)length;
}

/* Removes the messages up to a sequence number: they were sent. */
static void udsipc__remove_through(udsipc_writer *w, uint64_t sequence) {
	size_t message;
	while (w->head < w->tail && w->head_sequence <= sequence) {
		w->head += udsipc__frame_size(w, w->head, &message);
		w->head_sequence++;
		w->metrics.queued--;
		w->metrics.sent++;
	}
	w->blocked = 0;
	if (w->frame < w->head) {
		w->frame = w->next = w->head;
		w->frame_sequence = w->head_sequence;
	}
}

/* Gives the oldest message up. One that was sent keeps its number. */
static void udsipc__give_up(udsipc_writer *w) {
	size_t message, at = w->head, size = udsipc__frame_size(w, at, &message);
	if (w->options.on_undelivered != NULL) {
		w->options.on_undelivered(w->options.user, w->queue + at + (size - message), message);
	}
	w->metrics.queued--;
	w->metrics.undelivered++;
	w->head += size;
	if (w->options.acknowledgements && w->head_sequence <= w->newest_sent) {
		w->head_sequence++;
	}
	if (w->frame < w->head) {
		w->frame = w->next = w->head;
		w->frame_sequence = w->head_sequence;
	}
}

/* ---- The writer's connection */

/* What is lost in plain mode, by the table of the protocol: the number of messages at most. */
static uint64_t udsipc__lost(const udsipc_writer *w, int ended) {
	uint64_t known;
	if (w->options.acknowledgements || w->written == 0) {
		return 0;
	}
	if (w->foreign) {
		return w->written;
	}
	if (w->has_report && w->report.next > 0) {
		known = w->report.next - 1 < w->written ? w->report.next - 1 : w->written;
		return w->written - known + (w->report.skipped < known ? w->report.skipped : known);
	}
#ifdef __linux__
	int unread = 0;
	uint64_t skipped = w->has_report ? w->report.skipped : 0;
	if (w->address.is_unix) {
		known = ended && !w->reset ? w->written : w->read;
	} else { /* The kernel knows what the other one has acknowledged. */
		known = ended && !w->reset && ioctl(w->fd, SIOCOUTQ, &unread) == 0 && unread == 0 ? w->written : 0;
	}
	return w->written - known + (skipped < known ? skipped : known);
#else
	(void)ended;
	return w->written;
#endif
}

/* Notes which messages the reader has read, where the kernel tells: those before ECONNRESET can then be told apart. The
 * kernel discards what is unread when the reader closes, and then has nothing left either: so the reader must be there
 * after the question. */
static void udsipc__mark_read(udsipc_writer *w) {
#ifdef __linux__
	int unread = 0;
	struct pollfd gone = {w->fd, 0, 0};
	if (!w->options.acknowledgements && w->address.is_unix && w->read < w->written && w->next == w->frame &&
		ioctl(w->fd, SIOCOUTQ, &unread) == 0 && unread == 0 && poll(&gone, 1, 0) == 0) {
		w->read = w->written;
	}
#else
	(void)w;
#endif
}

/* Sets the next attempt to connect. The delay is random up to a bound that doubles with each failure. */
static void udsipc__back_off(udsipc_writer *w, int failed) {
	uint64_t bound = w->options.backoff_ms;
	w->failures = failed ? w->failures + 1 : 0;
	for (unsigned i = 1; i < w->failures && bound < w->options.max_backoff_ms; i++) {
		bound *= 2;
	}
	if (bound > w->options.max_backoff_ms) {
		bound = w->options.max_backoff_ms;
	}
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	uint64_t delay = failed ? 1 + (w->random >> 33) % (bound + 1) : 0;
	w->retry_at = udsipc__writer_now(w) + delay;
}

/* Ends the connection. ended is set if end of file has come. */
static void udsipc__disconnect(udsipc_writer *w, int ended, const char *cause) {
	uint64_t lost = udsipc__lost(w, ended);
	int was_open = w->state >= UDSIPC__OPEN;
	if ((w->has_report && w->report.next > 1) ||
		(w->written > 0 && udsipc__writer_now(w) - w->opened_at >= 1000 && !w->options.acknowledgements)) {
		w->progress = 1;
	}
	w->cause = w->cause != NULL ? w->cause : cause;
	close(w->fd);
	w->fd = -1;
	w->state = UDSIPC__IDLE;
	w->limit = 0;
	w->wanted = 0;
	w->metrics.connected = 0;
	w->metrics.possibly_lost += lost;
	/* A message that is begun and over the limit would be rejected again. */
	if (!w->options.acknowledgements && w->has_report && w->report.reason == 3 && w->next > w->frame) {
		size_t message;
		(void)udsipc__frame_size(w, w->frame, &message);
		if (message > w->report.limit) {
			udsipc__give_up(w);
		}
	}
	w->frame = w->next = w->head;
	w->frame_sequence = w->head_sequence;
	udsipc__back_off(w, !w->progress);
	if (lost > 0) {
		udsipc__writer_event(w, UDSIPC_EVENT_LOSS, UDSIPC_OK, lost, w->cause);
	}
	if (was_open) {
		udsipc__writer_event(w, UDSIPC_EVENT_DISCONNECTED, UDSIPC_OK, 0, w->cause);
	}
}

static void udsipc__refused(udsipc_writer *w, int kind, const char *cause) {
	w->cause = cause;
	w->progress = 0;
	udsipc__disconnect(w, 0, cause);
	udsipc__writer_event(w, kind, UDSIPC_OK, 0, cause);
}

/* Ends this side: what the reader says is read until end of file. */
static void udsipc__end_writing(udsipc_writer *w, const char *cause) {
	if (w->state == UDSIPC__ENDING) {
		return;
	}
	w->state = UDSIPC__ENDING;
	w->cause = w->cause != NULL ? w->cause : cause;
	w->last_in = udsipc__writer_now(w);
	(void)shutdown(w->fd, SHUT_WR);
}

static void udsipc__opened(udsipc_writer *w) {
	w->state = UDSIPC__OPEN;
	w->metrics.connected = 1;
	w->opened_at = udsipc__writer_now(w);
	udsipc__writer_event(w, UDSIPC_EVENT_CONNECTED, UDSIPC_OK, 0, "connected");
}

/* The connection is made. A session begins with the hello. */
static void udsipc__connected(udsipc_writer *w) {
	w->metrics.connections++;
	w->last_in = w->last_out = udsipc__writer_now(w);
	if (!w->options.acknowledgements) {
		udsipc__opened(w);
		return;
	}
	udsipc__hello hello;
	memcpy(hello.writer, w->id, sizeof hello.writer);
	hello.epoch = ++w->epoch;
	hello.first = w->head_sequence;
	hello.sent = w->newest_sent >= hello.first ? w->newest_sent : hello.first - 1;
	hello.heartbeat_timeout = w->address.is_unix ? 0 : w->options.heartbeat_timeout_ms;
	w->out_size = udsipc__put_hello(w->out, &hello);
	w->state = UDSIPC__HELLO;
}

static void udsipc__connect_failed(udsipc_writer *w, int error) {
	if (w->fd >= 0) {
		close(w->fd);
	}
	w->fd = -1;
	w->state = UDSIPC__IDLE;
	udsipc__back_off(w, 1);
	errno = error;
	if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN) {
		udsipc__writer_event(w, UDSIPC_EVENT_TROUBLE, UDSIPC_ERR_SYSTEM, 0, "no connection");
	}
}

static void udsipc__connect(udsipc_writer *w) {
	w->finishing = w->blocked = w->parting = w->has_report = w->foreign = w->progress = w->reset = 0;
	w->cause = NULL;
	w->written = w->read = w->last_ack = w->heartbeat_interval = 0;
	w->out_size = w->in_size = 0;
	w->fd = udsipc__socket(w->address.sock.ss_family);
	if (w->fd < 0) {
		udsipc__connect_failed(w, errno);
		return;
	}
	if (connect(w->fd, (const struct sockaddr *)&w->address.sock, w->address.size) == 0) {
		udsipc__connected(w);
	} else if (errno == EINPROGRESS || errno == EINTR) {
		w->state = UDSIPC__CONNECTING;
		w->opened_at = udsipc__writer_now(w);
	} else { /* EAGAIN: the backlog of a Unix socket is full. */
		udsipc__connect_failed(w, errno);
	}
}

static void udsipc__finish_connect(udsipc_writer *w, short revents) {
	int error = 0;
	socklen_t size = sizeof error;
	if (revents != 0) {
		if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
			error = errno;
		}
		if (error != 0) {
			udsipc__connect_failed(w, error);
		} else {
			udsipc__connected(w);
		}
	} else if (udsipc__writer_now(w) - w->opened_at >= w->options.connect_timeout_ms) {
		udsipc__connect_failed(w, ETIMEDOUT);
	}
}

/* ---- What the reader says */

static void udsipc__consume(udsipc_writer *w, size_t size) {
	w->in_size -= size;
	memmove(w->in, w->in + size, w->in_size);
}

/* Parses the goodbye and the report. Returns 0 if more bytes are needed, or none are left. */
static int udsipc__parse_end(udsipc_writer *w) {
	if (!w->parting && w->in_size > 0) {
		if (w->in[0] != 0) {
			w->foreign = 1;
			return 0;
		}
		w->parting = 1;
		udsipc__consume(w, 1);
		udsipc__end_writing(w, "the reader has ended the connection");
	}
	if (w->parting && w->in_size > 0) {
		int size = w->has_report ? -1 : udsipc__get_report(w->in, w->in_size, &w->report);
		if (size > 0) {
			w->has_report = 1;
			udsipc__consume(w, (size_t)size);
			return 1;
		}
		w->foreign = size < 0;
	}
	return 0;
}

/* Gives up the messages over the reader's limit that were never sent: they have no number yet. Nothing was sent on this
 * connection. The others move once, however many there are. */
static void udsipc__give_up_large(udsipc_writer *w) {
	size_t at = w->frame, to = w->frame, message;
	uint64_t sequence = w->frame_sequence;
	while (at < w->tail) {
		size_t size = udsipc__frame_size(w, at, &message);
		if (sequence <= w->newest_sent || message <= w->limit) {
			memmove(w->queue + to, w->queue + at, size);
			to += size;
			sequence++;
		} else {
			if (w->options.on_undelivered != NULL) {
				w->options.on_undelivered(w->options.user, w->queue + at + (size - message), message);
			}
			w->metrics.queued--;
			w->metrics.undelivered++;
		}
		at += size;
	}
	w->tail = to;
}

/* Checks the welcome against what this side knows, and goes on where the reader has stopped. */
static void udsipc__welcomed(udsipc_writer *w, const udsipc__welcome *welcome) {
	uint64_t newest = w->newest_sent >= w->head_sequence ? w->newest_sent : w->head_sequence - 1;
	if (welcome->status == 2) {
		udsipc__refused(w, UDSIPC_EVENT_CONTESTED, "the reader knows a newer connection of this writer");
		return;
	}
	if (welcome->status != 0 || welcome->handled + 1 < w->head_sequence) {
		udsipc__refused(w, UDSIPC_EVENT_NO_SESSION, "the welcome cannot be");
		return;
	}
	if (welcome->handled > newest) {
		if (w->head < w->tail || w->options.identity == NULL) {
			udsipc__refused(w, UDSIPC_EVENT_CONTESTED, "the reader has handled messages that this writer has not sent");
			return;
		}
		w->newest_sent = welcome->handled; /* It goes on after an earlier process. */
		w->head_sequence = w->frame_sequence = welcome->handled + 1;
	}
	if (welcome->handled >= w->head_sequence) {
		w->progress = 1;
	}
	udsipc__remove_through(w, welcome->handled);
	w->last_ack = welcome->handled;
	w->limit = welcome->limit;
	w->heartbeat_interval = welcome->heartbeat_timeout / 3;
	if (welcome->heartbeat_timeout > 0 && w->heartbeat_interval < 33) {
		w->heartbeat_interval = 33;
	}
	udsipc__opened(w);
	udsipc__give_up_large(w);
}

/* Handles the bytes before the welcome. */
static void udsipc__parse_handshake(udsipc_writer *w) {
	udsipc__welcome welcome;
	while (w->in_size >= 2 && w->in[0] == 0x80 && w->in[1] == 0) {
		udsipc__consume(w, 2);
	}
	if (w->parting || (w->in_size > 0 && w->in[0] == 0)) {
		while (udsipc__parse_end(w)) {
		}
		return;
	}
	int size = udsipc__get_welcome(w->in, w->in_size, &welcome);
	if (size == UDSIPC__OTHER_VERSION) {
		udsipc__refused(w, UDSIPC_EVENT_NO_SESSION, "the reader supports another version of sessions");
	} else if (size < 0) {
		udsipc__refused(w, UDSIPC_EVENT_NO_SESSION, "the peer is no reader: it has not sent a welcome");
	} else if (size > 0) {
		udsipc__consume(w, (size_t)size);
		udsipc__welcomed(w, &welcome);
	}
}

/* Handles acknowledgements, heartbeats and the goodbye. */
static void udsipc__parse_acks(udsipc_writer *w) {
	uint64_t handled = 0;
	int alive = 0, size;
	size_t at = 0;
	while ((size = udsipc__get_ack(w->in + at, w->in_size - at, &handled, &alive)) > 0) {
		at += (size_t)size;
		if (alive) {
			continue;
		}
		if (handled == 0) {
			w->parting = 1;
			udsipc__end_writing(w, "the reader has ended the connection");
			continue;
		}
		if (handled <= w->last_ack || handled >= w->frame_sequence) {
			size = UDSIPC__BAD;
			break;
		}
		w->last_ack = handled;
		w->progress = 1;
		udsipc__remove_through(w, handled);
	}
	if (size < 0) {
		udsipc__disconnect(w, 0, "an acknowledgement cannot be");
		return;
	}
	udsipc__consume(w, at);
}

static void udsipc__parse(udsipc_writer *w) {
	if (w->options.acknowledgements && w->state == UDSIPC__HELLO) {
		udsipc__parse_handshake(w);
	}
	if (w->fd < 0) {
		return;
	}
	if (!w->options.acknowledgements || (w->parting && !w->metrics.connected)) {
		while (udsipc__parse_end(w)) {
		}
		if (w->foreign) {
			w->cause = "the peer is no reader";
			udsipc__disconnect(w, 0, w->cause);
		}
	} else if (w->metrics.connected) {
		udsipc__parse_acks(w);
	}
}

/* The end of the connection, and of a session that has not begun. */
static void udsipc__ended(udsipc_writer *w, int ended, const char *cause) {
	int unwelcome = w->options.acknowledgements && !w->metrics.connected;
	int plain_reader = unwelcome && w->has_report && w->report.reason == 4;
	udsipc__disconnect(w, ended, cause);
	if (plain_reader) {
		udsipc__writer_event(w, UDSIPC_EVENT_NO_SESSION, UDSIPC_OK, 0, "the reader does not support sessions");
	} else if (unwelcome) {
		udsipc__writer_event(w, UDSIPC_EVENT_TROUBLE, UDSIPC_OK, 0, "the connection ended before the welcome");
	}
}

/* Reads what has come: a reader that never stops to talk does not keep the caller. */
static void udsipc__writer_read(udsipc_writer *w) {
	for (int rounds = 0; rounds < UDSIPC__ROUNDS && w->fd >= 0; rounds++) {
		ssize_t n = recv(w->fd, w->in + w->in_size, sizeof w->in - w->in_size, 0);
		if (n > 0) {
			w->in_size += (size_t)n;
			w->last_in = udsipc__writer_now(w);
			udsipc__parse(w);
		} else if (n == 0) {
			udsipc__ended(w, 1, "the reader has closed the connection");
		} else if (udsipc__is_again(errno)) {
			return;
		} else {
			w->reset = 1;
			udsipc__ended(w, 0, "the connection was reset");
		}
	}
}

/* ---- What the writer sends */

/* Sends bytes: returns how many were taken, or -1 after the end of the connection. */
static ssize_t udsipc__send(udsipc_writer *w, const unsigned char *bytes, size_t size) {
	ssize_t n = send(w->fd, bytes, size, UDSIPC__SEND_FLAGS);
	if (n >= 0) {
		if (n > 0) {
			w->last_out = udsipc__writer_now(w);
		}
		return n;
	}
	if (udsipc__is_again(errno) || errno == ENOBUFS) {
		return 0;
	}
	/* EPIPE: what the reader has said is still there to be read. */
	w->reset = w->reset || errno != EPIPE;
	if (w->state == UDSIPC__HELLO) {
		w->cause = "the connection ended before the welcome";
		w->out_size = 0;
	} else {
		udsipc__end_writing(w, "the reader has closed the connection");
	}
	return -1;
}

/* Returns where the frames end that may be sent now. A message over the limit that was sent earlier is given up once it
 * is the oldest one. */
static size_t udsipc__sendable(udsipc_writer *w) {
	size_t end = w->frame, message;
	while (end < w->tail && end < w->next + UDSIPC__BATCH) {
		size_t size = udsipc__frame_size(w, end, &message);
		if (w->limit == 0 || message <= w->limit) {
			end += size;
		} else {
			if (end == w->head) { /* The number of a message that was sent is not used again. */
				udsipc__give_up(w);
				w->progress = 1;
				w->finishing = 1;
			}
			w->blocked = 1;
			break;
		}
	}
	return end;
}

static void udsipc__count_sent(udsipc_writer *w) {
	size_t message;
	while (w->frame < w->tail) {
		size_t size = udsipc__frame_size(w, w->frame, &message);
		if (w->frame + size > w->next) {
			break;
		}
		w->frame += size;
		w->written++;
		if (w->frame_sequence <= w->newest_sent) {
			w->metrics.retransmitted++;
		} else {
			w->newest_sent = w->frame_sequence;
		}
		w->frame_sequence++;
	}
	if (!w->options.acknowledgements && w->head < w->frame) {
		size_t next = w->next;
		udsipc__remove_through(w, w->frame_sequence - 1);
		w->next = next;
	}
}

/* Sends the hello or a heartbeat. Returns 0 if something of it is left. */
static int udsipc__flush_out(udsipc_writer *w) {
	while (w->out_size > 0) {
		ssize_t n = udsipc__send(w, w->out, w->out_size);
		if (n <= 0) {
			return 0;
		}
		w->out_size -= (size_t)n;
		memmove(w->out, w->out + n, w->out_size);
	}
	return 1;
}

static void udsipc__writer_send(udsipc_writer *w) {
	size_t end;
	if (!udsipc__flush_out(w) || w->state != UDSIPC__OPEN) {
		return;
	}
	udsipc__mark_read(w);
	while (w->state == UDSIPC__OPEN && !w->finishing && (end = udsipc__sendable(w)) > w->next) {
		ssize_t n = udsipc__send(w, w->queue + w->next, end - w->next);
		if (n <= 0) {
			return;
		}
		w->next += (size_t)n;
		udsipc__count_sent(w);
	}
}

static int udsipc__all_sent(const udsipc_writer *w) { return w->head == w->tail && w->out_size == 0; }

/* ---- The writer and its event loop */

static int udsipc__wants_connection(const udsipc_writer *w) { return w->metrics.queued > 0 || w->wanted; }

int udsipc_writer_fd(const udsipc_writer *w) { return w->fd; }

short udsipc_writer_events(const udsipc_writer *w) {
	switch (w->state) {
	case UDSIPC__IDLE: return 0;
	case UDSIPC__CONNECTING: return POLLOUT;
	case UDSIPC__ENDING: return POLLIN;
	default: break;
	}
	if (w->out_size > 0 || (w->state == UDSIPC__OPEN && w->next < w->tail && !w->finishing && !w->blocked)) {
		return POLLIN | POLLOUT;
	}
	return POLLIN;
}

static int udsipc__heartbeat_due(const udsipc_writer *w) {
	return w->state == UDSIPC__OPEN && w->heartbeat_interval > 0 && w->head == w->tail && w->out_size == 0 &&
		   !w->finishing;
}

int udsipc_writer_timeout(const udsipc_writer *w) {
	uint64_t now = udsipc__writer_now(w);
	int timeout = -1;
	if (w->fd < 0) {
		return udsipc__wants_connection(w) ? udsipc__until(now, w->retry_at) : -1;
	}
	if (w->state == UDSIPC__CONNECTING) {
		return udsipc__until(now, w->opened_at + w->options.connect_timeout_ms);
	}
	if (w->state == UDSIPC__ENDING) {
		return udsipc__until(now, w->last_in + w->options.linger_timeout_ms);
	}
	if (w->options.acknowledgements && !w->address.is_unix && w->options.heartbeat_timeout_ms > 0) {
		timeout = udsipc__until(now, w->last_in + w->options.heartbeat_timeout_ms);
	}
	if (udsipc__heartbeat_due(w)) {
		timeout = udsipc__shorter(timeout, udsipc__until(now, w->last_out + w->heartbeat_interval));
	}
	return timeout;
}

static void udsipc__writer_timers(udsipc_writer *w) {
	uint64_t now = udsipc__writer_now(w);
	if (w->state == UDSIPC__ENDING && now - w->last_in >= w->options.linger_timeout_ms) {
		udsipc__disconnect(w, 0, "the reader has not closed the connection");
	} else if ((w->state == UDSIPC__HELLO || w->state == UDSIPC__OPEN) && w->options.acknowledgements &&
			   !w->address.is_unix && w->options.heartbeat_timeout_ms > 0 &&
			   now - w->last_in >= w->options.heartbeat_timeout_ms) {
		udsipc__disconnect(w, 0, "nothing came from the reader");
	} else if (udsipc__heartbeat_due(w) && now - w->last_out >= w->heartbeat_interval) {
		w->out[0] = 0x80;
		w->out[1] = 0;
		w->out_size = 2;
		(void)udsipc__flush_out(w);
	}
}

void udsipc_writer_step(udsipc_writer *w, short revents) {
	if (w->fd < 0) {
		if (!udsipc__wants_connection(w) || udsipc__writer_now(w) < w->retry_at) {
			return;
		}
		udsipc__connect(w);
		revents = 0;
	}
	if (w->state == UDSIPC__CONNECTING) {
		udsipc__finish_connect(w, revents);
	}
	if (w->state > UDSIPC__CONNECTING) {
		udsipc__mark_read(w);
	}
	if (w->state == UDSIPC__HELLO || w->state == UDSIPC__OPEN) {
		udsipc__writer_send(w);
	}
	if (w->state > UDSIPC__CONNECTING) { /* Also without revents: a send may just have found the end. */
		udsipc__writer_read(w);
	}
	if (w->state == UDSIPC__OPEN && !w->finishing) {
		udsipc__writer_send(w); /* What the welcome has allowed. */
	}
	if (w->state == UDSIPC__OPEN && w->out_size == 0 && (w->finishing || (w->finished && udsipc__all_sent(w)))) {
		udsipc__end_writing(w, "this side has ended the connection");
	}
	if (w->fd >= 0) {
		udsipc__writer_timers(w);
	}
}

int udsipc_writer_run(udsipc_writer *w, int until, int timeout_ms) {
	uint64_t deadline = udsipc__writer_now(w) + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
	short revents = 0;
	int left = -1;
	if (until < UDSIPC_UNTIL_CONNECTED || until > UDSIPC_UNTIL_FINISHED) {
		return UDSIPC_ERR_ARGUMENT;
	}
	for (;;) {
		w->wanted = until == UDSIPC_UNTIL_CONNECTED;
		w->finished = w->finished || until == UDSIPC_UNTIL_FINISHED;
		udsipc_writer_step(w, revents);
		w->wanted = until == UDSIPC_UNTIL_CONNECTED;
		if ((until == UDSIPC_UNTIL_CONNECTED && w->state == UDSIPC__OPEN) ||
			(until == UDSIPC_UNTIL_SENT && w->metrics.queued == 0) ||
			(until == UDSIPC_UNTIL_FINISHED && w->metrics.queued == 0 && w->fd < 0)) {
			w->wanted = 0;
			return UDSIPC_OK;
		}
		if (left == 0) { /* And it has polled since. */
			w->wanted = 0;
			return UDSIPC_ERR_TIMEOUT;
		}
		left = timeout_ms < 0 ? -1 : udsipc__until(udsipc__writer_now(w), deadline);
		struct pollfd poll_fd = {w->fd, udsipc_writer_events(w), 0};
		int found = poll(&poll_fd, w->fd >= 0 ? 1 : 0, udsipc__shorter(left, udsipc_writer_timeout(w)));
		revents = found > 0 ? poll_fd.revents : 0;
	}
}

udsipc_writer_metrics udsipc_writer_get_metrics(const udsipc_writer *w) {
	udsipc_writer_metrics metrics = w->metrics;
	metrics.queued_bytes = w->tail - w->head;
	metrics.sequence = w->newest_sent;
	return metrics;
}

void udsipc_writer_close(udsipc_writer *w) {
	if (w == NULL) {
		return;
	}
	if (w->fd >= 0) {
		close(w->fd);
	}
	while (w->head < w->tail) {
		udsipc__give_up(w);
	}
	void *(*allocate)(void *, void *, size_t) = w->options.allocate;
	void *user = w->options.user;
	(void)allocate(user, w->queue, 0);
	(void)allocate(user, w, 0);
}

/* ---- The reader ---------------------------------------------------------------------------------------------- */

/* What a reader remembers of a writer. */
typedef struct udsipc__state {
	unsigned char writer[16];
	uint64_t user; /* Its user, so that no other one goes on for it. */
	uint64_t epoch, handled, offered;
	uint64_t left_at; /* When its connection ended; the oldest one is forgotten first. */
	struct udsipc__conn *owner;
} udsipc__state;

enum { UDSIPC__UNKNOWN, UDSIPC__PLAIN, UDSIPC__GREETING, UDSIPC__SESSION };

typedef struct udsipc__conn {
	int fd, mode;
	uint64_t id, user;
	unsigned char *buffer; /* buffer[begin:end] was read and is not handled. */
	size_t capacity, begin, end;
	uint64_t needed; /* The size of the frame that begins at begin, if it is known. */
	uint64_t skip;   /* The bytes to come of a message over the limit. */
	uint64_t received, skipped;

	size_t state; /* Of its writer: an index. */
	unsigned char writer[16];
	uint64_t sequence, committed, acknowledged, maybe_handled, unacknowledged_bytes, unacknowledged_since;
	uint64_t heartbeat_interval, heartbeat_timeout;
	uint64_t last_in, last_out, last_message, frame_since;

	int closing;     /* Gracefully: what has been sent is handled. */
	int shut;        /* The kernel refuses what the peer writes, and end of file will come. */
	int said;        /* The goodbye was sent. */
	int done;        /* Nothing more is read; what is in out is sent until close_at. */
	int starved;     /* It waits for memory. */
	int dead;
	uint64_t reason, grace_bytes, grace_end, close_at;
	unsigned char out[UDSIPC__INPUT];
	size_t out_size;
} udsipc__conn;

struct udsipc_reader {
	udsipc_reader_options options;
	udsipc__address address;
	int fd, owns_fd, is_unix, has_file;
	dev_t device;
	ino_t inode;
	udsipc__conn **conns;
	size_t conn_count, conn_capacity;
	udsipc__state *states;
	size_t state_count, state_capacity;
	udsipc__conn *exceeding; /* The one that may have more than max_read_memory. */
	struct pollfd *fds;      /* For udsipc_reader_run. */
	size_t fds_capacity;
	volatile int stopping; /* 1: wanted, 2: begun. */
	uint64_t accept_at; /* No connection is accepted before. */
	udsipc_reader_metrics metrics;
};

udsipc_reader_options udsipc_reader_defaults(void) {
	udsipc_reader_options options;
	memset(&options, 0, sizeof options);
	options.listen_fd = -1;
	options.mode = 0600;
	options.max_message_size = 10u << 20;
	options.max_connections = 1024;
	options.read_buffer_size = 64 * 1024;
	options.max_read_memory = 64u << 20;
	options.max_writer_states = 4096;
	options.inactivity_timeout_ms = 10000;
	options.message_timeout_ms = 30000;
	options.heartbeat_timeout_ms = 10000;
	options.max_redeliveries = 3;
	return options;
}

static uint64_t udsipc__reader_now(const udsipc_reader *r) { return r->options.now(r->options.user); }

static void udsipc__reader_event(const udsipc_reader *r, const udsipc__conn *c, int kind, int error, uint64_t count,
								 const char *text) {
	udsipc_event event = {kind, error, c != NULL ? c->id : 0, count, text};
	if (r->options.on_event != NULL) {
		r->options.on_event(r->options.user, &event);
	}
}

static void *udsipc__reader_allocate(const udsipc_reader *r, void *block, size_t size) {
	return r->options.allocate(r->options.user, block, size);
}

/* Makes an array longer. It stays as it is without memory. */
static int udsipc__grow(const udsipc_reader *r, void **array, size_t *capacity, size_t element) {
	size_t larger = *capacity < 16 ? 16 : *capacity * 2;
	void *grown = udsipc__reader_allocate(r, *array, larger * element);
	if (grown == NULL) {
		return UDSIPC_ERR_MEMORY;
	}
	*array = grown;
	*capacity = larger;
	return UDSIPC_OK;
}

/* ---- The reader's socket */

/* Returns 1 if somebody listens at the address. */
static int udsipc__is_served(const udsipc__address *address) {
	int fd = udsipc__socket(AF_UNIX);
	if (fd < 0) {
		return 1;
	}
	int served = connect(fd, (const struct sockaddr *)&address->sock, address->size) == 0 ||
				 (errno != ECONNREFUSED && errno != ENOENT);
	close(fd);
	return served;
}

/* Binds a path. A socket file that nobody listens at is removed. The lock keeps two readers of one user from doing that
 * to each other; it is a file of the same name as that of the Go library. */
static int udsipc__bind_path(udsipc_reader *r) {
	const char *path = ((const struct sockaddr_un *)(const void *)&r->address.sock)->sun_path;
	char lock[sizeof ((struct sockaddr_un *)0)->sun_path + 8];
	const char *slash = strrchr(path, '/');
	size_t folder = slash != NULL ? (size_t)(slash - path) + 1 : 0, rest = strlen(path + folder);
	struct stat info;
	memcpy(lock, path, folder);
	lock[folder] = '.';
	memcpy(lock + folder + 1, path + folder, rest);
	memcpy(lock + folder + 1 + rest, ".lock", 6);
	int lock_fd = open(lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock_fd >= 0 && flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
		close(lock_fd);
		return UDSIPC_ERR_IN_USE; /* Another reader starts at this moment. */
	}
	int result = UDSIPC_OK;
	if (lstat(path, &info) == 0) {
		if (!S_ISSOCK(info.st_mode) || udsipc__is_served(&r->address)) {
			result = UDSIPC_ERR_IN_USE;
		} else {
			(void)unlink(path);
		}
	}
	if (result == UDSIPC_OK) {
		(void)fchmod(r->fd, (mode_t)r->options.mode); /* Linux: the file never has more than that. */
		if (bind(r->fd, (const struct sockaddr *)&r->address.sock, r->address.size) != 0) {
			result = errno == EADDRINUSE ? UDSIPC_ERR_IN_USE : UDSIPC_ERR_SYSTEM;
		} else if (chmod(path, (mode_t)r->options.mode) == 0 && lstat(path, &info) == 0) {
			r->has_file = 1;
			r->device = info.st_dev;
			r->inode = info.st_ino;
		}
	}
	if (result == UDSIPC_OK && listen(r->fd, SOMAXCONN) != 0) {
		result = UDSIPC_ERR_SYSTEM;
	}
	if (lock_fd >= 0) {
		int error = errno;
		(void)unlink(lock);
		close(lock_fd);
		errno = error;
	}
	return result;
}

static int udsipc__listen(udsipc_reader *r) {
	struct sockaddr_storage bound;
	socklen_t size = sizeof bound;
	memset(&bound, 0, sizeof bound);
	if (r->options.listen_fd >= 0) {
		r->fd = r->options.listen_fd;
		if (udsipc__prepare(r->fd) != 0 || getsockname(r->fd, (struct sockaddr *)&bound, &size) != 0) {
			return UDSIPC_ERR_SYSTEM;
		}
		r->is_unix = bound.ss_family == AF_UNIX;
		return UDSIPC_OK;
	}
	int result = udsipc__parse_address(r->options.address, &r->address);
	if (result != UDSIPC_OK) {
		return result;
	}
	r->is_unix = r->address.is_unix;
	r->fd = udsipc__socket(r->address.sock.ss_family);
	if (r->fd < 0) {
		return UDSIPC_ERR_SYSTEM;
	}
	r->owns_fd = 1;
	if (r->address.is_path) {
		return udsipc__bind_path(r);
	}
	int on = 1;
	if (!r->is_unix) {
		(void)setsockopt(r->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	}
	if (bind(r->fd, (const struct sockaddr *)&r->address.sock, r->address.size) != 0 || listen(r->fd, SOMAXCONN) != 0) {
		return errno == EADDRINUSE ? UDSIPC_ERR_IN_USE : UDSIPC_ERR_SYSTEM;
	}
	return UDSIPC_OK;
}

int udsipc_reader_open(udsipc_reader **reader, const udsipc_reader_options *options) {
	if (reader == NULL || options == NULL) {
		return UDSIPC_ERR_ARGUMENT;
	}
	*reader = NULL;
	if (options->handle == NULL || options->max_message_size == 0 || options->max_message_size > 1u << 30 ||
		options->max_connections == 0 || options->max_writer_states == 0 || options->read_buffer_size < 256) {
		return UDSIPC_ERR_ARGUMENT;
	}
	void *(*allocate)(void *, void *, size_t) = options->allocate != NULL ? options->allocate : udsipc__allocate;
	udsipc_reader *r = (udsipc_reader *)allocate(options->user, NULL, sizeof *r);
	if (r == NULL) {
		return UDSIPC_ERR_MEMORY;
	}
	memset(r, 0, sizeof *r);
	r->options = *options;
	r->options.allocate = allocate;
	r->options.now = options->now != NULL ? options->now : udsipc__clock;
	r->fd = -1;
	int result = udsipc__listen(r);
	if (result != UDSIPC_OK) {
		int error = errno;
		udsipc_reader_close(r);
		errno = error;
		return result;
	}
	r->options.address = NULL;
	*reader = r;
	return UDSIPC_OK;
}

static void udsipc__remove_file(udsipc_reader *r) {
	const char *path = ((const struct sockaddr_un *)(const void *)&r->address.sock)->sun_path;
	struct stat info;
	if (r->has_file && lstat(path, &info) == 0 && info.st_dev == r->device && info.st_ino == r->inode) {
		(void)unlink(path);
	}
	r->has_file = 0;
}

/* ---- What the reader sends */

static void udsipc__conn_flush(udsipc_reader *r, udsipc__conn *c) {
	while (c->out_size > 0) {
		ssize_t n = send(c->fd, c->out, c->out_size, UDSIPC__SEND_FLAGS);
		if (n < 0 && udsipc__is_again(errno)) {
			return;
		}
		if (n <= 0) { /* The peer is gone, or reads nothing more: what it has sent is still handled. */
			c->out_size = 0;
			return;
		}
		c->last_out = udsipc__reader_now(r);
		c->out_size -= (size_t)n;
		memmove(c->out, c->out + n, c->out_size);
	}
}

/* Makes what was handled durable, and acknowledges it. The acknowledgement waits while an earlier one is not sent. */
static void udsipc__acknowledge(udsipc_reader *r, udsipc__conn *c) {
	if (c->mode != UDSIPC__SESSION || c->dead) {
		return;
	}
	if (c->committed < c->sequence) {
		if (r->options.commit != NULL && r->options.commit(r->options.user) != 0) {
			c->dead = 1;
			udsipc__reader_event(r, c, UDSIPC_EVENT_FAILED, UDSIPC_OK, c->sequence - c->committed,
								 "commit failed: the messages are not acknowledged");
			return;
		}
		c->committed = c->sequence;
		c->unacknowledged_bytes = 0;
		c->unacknowledged_since = 0;
		r->states[c->state].handled = c->committed;
	}
	udsipc__conn_flush(r, c);
	if (c->acknowledged < c->committed && c->out_size == 0) {
		c->out_size = udsipc__put_varint(c->out, c->committed);
		c->acknowledged = c->committed;
		udsipc__conn_flush(r, c);
	}
}

/* Appends to what is sent to the peer. */
static void udsipc__say(udsipc_reader *r, udsipc__conn *c, const unsigned char *bytes, size_t size) {
	if (size <= sizeof c->out - c->out_size) {
		memcpy(c->out + c->out_size, bytes, size);
		c->out_size += size;
	}
	udsipc__conn_flush(r, c);
}

static void udsipc__say_goodbye(udsipc_reader *r, udsipc__conn *c) {
	static const unsigned char goodbye = 0;
	if (!c->said) {
		c->said = 1;
		udsipc__say(r, c, &goodbye, 1);
	}
}

/* Sends the last words, after which the connection is closed: in a session the last acknowledgement and the goodbye,
 * else the goodbye and the report. */
static void udsipc__finish(udsipc_reader *r, udsipc__conn *c, uint64_t reason) {
	unsigned char bytes[2 + UDSIPC__MAX_BODY];
	if (c->done || c->dead) {
		return;
	}
	c->done = 1;
	c->close_at = udsipc__reader_now(r) + 1000;
	if (c->mode == UDSIPC__SESSION) {
		udsipc__acknowledge(r, c);
		if (c->dead) {
			return;
		}
		if (c->acknowledged < c->committed) { /* An earlier one is not sent yet. */
			unsigned char last[UDSIPC__MAX_PREFIX];
			udsipc__say(r, c, last, udsipc__put_varint(last, c->committed));
			c->acknowledged = c->committed;
		}
		udsipc__say_goodbye(r, c);
		return;
	}
	udsipc__say_goodbye(r, c);
	udsipc__report report = {reason, c->received + c->skipped + 1, c->skipped, r->options.max_message_size};
	udsipc__say(r, c, bytes, udsipc__put_report(bytes, &report));
}

/* Begins a graceful close: what has been sent is handled. */
static void udsipc__close_gracefully(udsipc_reader *r, udsipc__conn *c, uint64_t reason) {
	if (c->closing || c->done || c->dead) {
		return;
	}
	c->closing = 1;
	c->reason = reason;
	c->grace_end = udsipc__reader_now(r) + 10000;
#ifdef __linux__
	if (r->is_unix && shutdown(c->fd, SHUT_RD) == 0) {
		c->shut = 1;
		return;
	}
#endif
	if (c->mode != UDSIPC__GREETING) { /* Before the welcome the report follows at once. */
		udsipc__say_goodbye(r, c);
	}
}

/* Bytes that are not the protocol, or a message over the limit in a session: the rest stays unread. */
static void udsipc__reject(udsipc_reader *r, udsipc__conn *c, uint64_t reason, const char *text) {
	udsipc__reader_event(r, c, UDSIPC_EVENT_MALFORMED, UDSIPC_OK, 0, text);
	if (c->mode == UDSIPC__SESSION) {
		udsipc__acknowledge(r, c);
		c->dead = 1;
		return;
	}
	udsipc__finish(r, c, reason);
}

/* ---- The reader's sessions */

static udsipc__state *udsipc__find_state(udsipc_reader *r, const udsipc__hello *hello, uint64_t user) {
	for (size_t i = 0; i < r->state_count; i++) {
		if (r->states[i].user == user && memcmp(r->states[i].writer, hello->writer, sizeof hello->writer) == 0) {
			return &r->states[i];
		}
	}
	return NULL;
}

/* Returns the state of a new writer. If there are too many, the one is forgotten whose connection ended first. */
static udsipc__state *udsipc__new_state(udsipc_reader *r, const udsipc__hello *hello, uint64_t user) {
	udsipc__state *state = NULL;
	if (r->state_count < r->options.max_writer_states) {
		if (r->state_count == r->state_capacity) {
			void *array = r->states;
			if (udsipc__grow(r, &array, &r->state_capacity, sizeof *r->states) != UDSIPC_OK) {
				return NULL;
			}
			r->states = (udsipc__state *)array;
		}
		state = &r->states[r->state_count++];
	} else {
		for (size_t i = 0; i < r->state_count; i++) {
			if (r->states[i].owner == NULL && (state == NULL || r->states[i].left_at < state->left_at)) {
				state = &r->states[i];
			}
		}
		if (state == NULL) {
			return NULL;
		}
	}
	memset(state, 0, sizeof *state);
	memcpy(state->writer, hello->writer, sizeof state->writer);
	state->user = user;
	state->handled = hello->first - 1;
	state->offered = hello->sent;
	return state;
}

static void udsipc__welcome_writer(udsipc_reader *r, udsipc__conn *c, const udsipc__hello *hello) {
	unsigned char bytes[2 + UDSIPC__MAX_BODY];
	udsipc__welcome welcome = {0, 0, r->options.max_message_size, 0};
	udsipc__state *state = udsipc__find_state(r, hello, c->user);
	if (state == NULL) {
		state = udsipc__new_state(r, hello, c->user);
	} else if (hello->epoch <= state->epoch) {
		udsipc__welcome old = {2, 0, 0, 0};
		udsipc__say(r, c, bytes, udsipc__put_welcome(bytes, &old));
		c->done = 1;
		c->close_at = udsipc__reader_now(r) + 1000;
		udsipc__reader_event(r, c, UDSIPC_EVENT_REJECTED, UDSIPC_OK, 0, "a newer connection of this writer exists");
		return;
	}
	if (state == NULL) {
		udsipc__reader_event(r, c, UDSIPC_EVENT_REJECTED, UDSIPC_ERR_MEMORY, 0, "too many writers, or no memory");
		udsipc__finish(r, c, 1);
		return;
	}
	if (state->owner != NULL) { /* Its handler does not run: this function would not. */
		udsipc__conn *older = state->owner;
		udsipc__acknowledge(r, older);
		state->offered = older->sequence > state->offered ? older->sequence : state->offered;
		older->dead = 1;
	}
	state->owner = c;
	state->epoch = hello->epoch;
	if (state->handled + 1 < hello->first) {
		state->handled = hello->first - 1;
	}
	c->mode = UDSIPC__SESSION;
	c->state = (size_t)(state - r->states);
	memcpy(c->writer, hello->writer, sizeof c->writer);
	c->sequence = c->committed = c->acknowledged = state->handled;
	c->maybe_handled = state->offered;
	c->heartbeat_interval = hello->heartbeat_timeout > 0 && hello->heartbeat_timeout < 100
								? 33
								: hello->heartbeat_timeout / 3;
	c->heartbeat_timeout = r->is_unix ? 0 : r->options.heartbeat_timeout_ms;
	welcome.handled = state->handled;
	welcome.heartbeat_timeout = c->heartbeat_timeout;
	udsipc__say(r, c, bytes, udsipc__put_welcome(bytes, &welcome));
}

/* Finds out whether the connection is a session. Returns 0 if more bytes are needed. */
static int udsipc__greet(udsipc_reader *r, udsipc__conn *c) {
	const unsigned char *bytes = c->buffer + c->begin;
	size_t size = c->end - c->begin, common = size < UDSIPC__PREFACE ? size : (size_t)UDSIPC__PREFACE;
	udsipc__hello hello;
	memset(&hello, 0, sizeof hello);
	if (memcmp(bytes, udsipc__preface, common) != 0) {
		c->mode = UDSIPC__PLAIN;
		return 1;
	}
	c->mode = size < UDSIPC__PREFACE ? UDSIPC__UNKNOWN : UDSIPC__GREETING;
	int used = udsipc__get_hello(bytes, size, &hello);
	if (used == 0) {
		return 0;
	}
	if (used == UDSIPC__OTHER_VERSION) {
		unsigned char answer[2 + UDSIPC__MAX_BODY];
		udsipc__welcome other = {1, 0, 0, 0};
		udsipc__say(r, c, answer, udsipc__put_welcome(answer, &other));
		c->done = 1;
		c->close_at = udsipc__reader_now(r) + 1000;
		if (hello.epoch != 0) { /* Version 0 only asks. */
			udsipc__reader_event(r, c, UDSIPC_EVENT_REJECTED, UDSIPC_OK, 0, "another version of sessions");
		}
		return 0;
	}
	if (used < 0) {
		c->dead = 1;
		udsipc__reader_event(r, c, UDSIPC_EVENT_MALFORMED, UDSIPC_OK, 0, "a hello cannot be");
		return 0;
	}
	c->begin += (size_t)used;
	udsipc__welcome_writer(r, c, &hello);
	return !c->done && !c->dead;
}

/* ---- What the reader handles */

static void udsipc__deliver(udsipc_reader *r, udsipc__conn *c, const unsigned char *data, size_t size) {
	udsipc_delivery delivery = {data, size, c->fd, c->id, NULL, c->received + c->skipped + 1, 0};
	int in_session = c->mode == UDSIPC__SESSION, failed;
	if (in_session) {
		delivery.writer = c->writer;
		delivery.sequence = c->sequence + 1;
		delivery.redelivered = delivery.sequence <= c->maybe_handled;
	}
	r->metrics.redelivered += (uint64_t)delivery.redelivered;
	for (unsigned tries = 0;; tries++) {
		failed = r->options.handle(r->options.user, &delivery);
		if (failed == 0) {
			break;
		}
		r->metrics.failed++;
		if (tries == 0) {
			udsipc__reader_event(r, c, UDSIPC_EVENT_FAILED, UDSIPC_OK, 1, "the handler failed");
		}
		if (!in_session || tries >= r->options.max_redeliveries) {
			break;
		}
		delivery.redelivered = 1;
	}
	if (failed != 0 && in_session) {
		r->metrics.dead_letters++;
		if (r->options.on_dead_letter != NULL) {
			r->options.on_dead_letter(r->options.user, &delivery);
		}
	}
	r->metrics.received++;
	c->received++;
	if (!in_session) {
		return;
	}
	uint64_t now = udsipc__reader_now(r);
	c->sequence++;
	c->unacknowledged_bytes += size + 1;
	if (c->unacknowledged_since == 0) {
		c->unacknowledged_since = now;
	}
	if (c->sequence - c->committed >= 2048 || c->unacknowledged_bytes >= 256 * 1024 ||
		now - c->unacknowledged_since >= 10) {
		udsipc__acknowledge(r, c);
	}
}

/* Skips a part of a message over the limit. */
static void udsipc__skip(udsipc__conn *c) {
	size_t there = c->end - c->begin;
	size_t part = c->skip < there ? (size_t)c->skip : there;
	c->begin += part;
	c->skip -= part;
	if (c->skip == 0) {
		c->skipped++;
	}
}

/* Handles the next frame. Returns 0 if it is not there yet, or nothing more is read. */
static int udsipc__next_frame(udsipc_reader *r, udsipc__conn *c) {
	uint64_t length = 0;
	size_t there = c->end - c->begin;
	if (c->skip > 0) {
		udsipc__skip(c);
		return c->skip == 0;
	}
	int prefix = udsipc__get_varint(c->buffer + c->begin, there, &length);
	if (prefix < 0) {
		udsipc__reject(r, c, 4, "a length is over 64 bits");
		return 0;
	}
	if (prefix == 0) {
		c->needed = there + 1;
		return 0;
	}
	if (c->mode == UDSIPC__SESSION && prefix == 2 && length == 0) { /* A heartbeat. */
		c->begin += 2;
		return 1;
	}
	if (length > r->options.max_message_size) {
		r->metrics.skipped++;
		udsipc__reader_event(r, c, UDSIPC_EVENT_SKIPPED, UDSIPC_OK, 1, "a message is over the limit");
		if (c->mode == UDSIPC__SESSION) {
			udsipc__reject(r, c, 3, "the writer ignores the limit of the welcome");
			return 0;
		}
		c->begin += (size_t)prefix;
		c->skip = length;
		udsipc__close_gracefully(r, c, 3);
		return 1;
	}
	c->needed = (uint64_t)prefix + length;
	if (there < c->needed) {
		return 0;
	}
	const unsigned char *data = c->buffer + c->begin + prefix;
	c->begin += (size_t)c->needed;
	c->needed = 0;
	udsipc__deliver(r, c, data, (size_t)length);
	c->last_message = udsipc__reader_now(r);
	return 1;
}

static void udsipc__handle_input(udsipc_reader *r, udsipc__conn *c) {
	size_t before = c->begin;
	while (!c->done && !c->dead && c->begin < c->end) {
		if (c->mode == UDSIPC__UNKNOWN || c->mode == UDSIPC__GREETING) {
			if (!udsipc__greet(r, c)) {
				return;
			}
		} else if (!udsipc__next_frame(r, c)) {
			break;
		}
	}
	if (c->begin == c->end) {
		c->frame_since = 0;
	} else if (c->begin != before || c->frame_since == 0) {
		c->frame_since = udsipc__reader_now(r); /* A message has begun. */
	}
}

/* ---- The reader's buffers */

/* Gives memory back that connections do not need at present. */
static void udsipc__reclaim(udsipc_reader *r) {
	for (size_t i = 0; i < r->conn_count; i++) {
		udsipc__conn *c = r->conns[i];
		if (c->begin == c->end && c->capacity > r->options.read_buffer_size) {
			unsigned char *smaller =
				(unsigned char *)udsipc__reader_allocate(r, c->buffer, r->options.read_buffer_size);
			if (smaller != NULL) {
				r->metrics.read_memory -= c->capacity - r->options.read_buffer_size;
				c->buffer = smaller;
				c->capacity = r->options.read_buffer_size;
				c->begin = c->end = 0;
			}
		}
		c->starved = 0;
	}
}

/* Makes room for more bytes of the frame. The buffer doubles as bytes arrive, and never by what a prefix announces. */
static int udsipc__make_space(udsipc_reader *r, udsipc__conn *c) {
	if (c->begin == c->end) {
		c->begin = c->end = 0;
	}
	if (c->begin > 0 && (c->end == c->capacity || c->needed > c->capacity - c->begin)) {
		memmove(c->buffer, c->buffer + c->begin, c->end - c->begin);
		c->end -= c->begin;
		c->begin = 0;
	}
	if (c->end < c->capacity) {
		return 1;
	}
	size_t larger = c->capacity * 2;
	if (larger > c->needed && c->needed > c->capacity) {
		larger = (size_t)c->needed;
	}
	size_t more = larger - c->capacity;
	if (r->metrics.read_memory + more > r->options.max_read_memory) {
		udsipc__reclaim(r);
		if (r->metrics.read_memory + more > r->options.max_read_memory) {
			if (r->exceeding != NULL && r->exceeding != c) {
				c->starved = 1;
				return 0;
			}
			r->exceeding = c;
		}
	}
	unsigned char *grown = (unsigned char *)udsipc__reader_allocate(r, c->buffer, larger);
	if (grown == NULL) {
		c->starved = 1;
		udsipc__reader_event(r, c, UDSIPC_EVENT_TROUBLE, UDSIPC_ERR_MEMORY, 0, "a message waits for memory");
		return 0;
	}
	r->metrics.read_memory += more;
	c->buffer = grown;
	c->capacity = larger;
	return 1;
}

/* The end of what the peer sends: everything was handled. */
static void udsipc__conn_eof(udsipc_reader *r, udsipc__conn *c) {
	if (c->begin < c->end || c->skip > 0) {
		r->metrics.incomplete++;
		udsipc__reader_event(r, c, UDSIPC_EVENT_INCOMPLETE, UDSIPC_OK, 1, "the connection ended within a message");
	}
	udsipc__finish(r, c, c->reason);
}

static void udsipc__conn_read(udsipc_reader *r, udsipc__conn *c) {
	for (int rounds = 0; rounds < 4 && !c->done && !c->dead; rounds++) {
		if (!udsipc__make_space(r, c)) {
			break;
		}
		size_t space = c->capacity - c->end;
		ssize_t n = recv(c->fd, c->buffer + c->end, space, 0);
		if (n < 0 && udsipc__is_again(errno)) {
			break;
		}
		if (n < 0) {
			udsipc__acknowledge(r, c);
			c->dead = 1;
			break;
		}
		if (n == 0) {
			udsipc__conn_eof(r, c);
			break;
		}
		c->end += (size_t)n;
		c->last_in = udsipc__reader_now(r);
		if (c->closing && !c->shut) {
			c->grace_bytes += (uint64_t)n;
		}
		udsipc__handle_input(r, c);
		c->last_in = udsipc__reader_now(r); /* The time of the handler is not the peer's. */
		if ((size_t)n < space) {
			break;
		}
	}
	udsipc__acknowledge(r, c);
	if (r->exceeding == c && c->begin == c->end) {
		r->exceeding = NULL;
		udsipc__reclaim(r);
	}
}

/* ---- The reader's connections */

static uint64_t udsipc__user_of(const udsipc_reader *r, int fd) {
#ifdef __linux__
	struct ucred peer;
	socklen_t size = sizeof peer;
	if (r->is_unix && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
		return peer.uid;
	}
#else
	(void)r;
	(void)fd;
#endif
	return UINT64_MAX;
}

/* Tells a peer why it is not served. */
static void udsipc__turn_away(udsipc_reader *r, int fd, uint64_t reason) {
	unsigned char bytes[3 + UDSIPC__MAX_BODY] = {0};
	udsipc__report report = {reason, 1, 0, r->options.max_message_size};
	size_t size = 1 + udsipc__put_report(bytes + 1, &report);
	ssize_t ignored = send(fd, bytes, size, UDSIPC__SEND_FLAGS);
	(void)ignored;
	close(fd);
	r->metrics.rejected++;
	udsipc__reader_event(r, NULL, UDSIPC_EVENT_REJECTED, UDSIPC_OK, 0,
						 reason == 1 ? "too many connections" : "the peer is not authorized");
}

/* Allocates what a connection needs before it is accepted, so that nothing of it is lost. */
static udsipc__conn *udsipc__new_conn(udsipc_reader *r) {
	if (r->conn_count == r->conn_capacity) {
		void *array = r->conns;
		if (udsipc__grow(r, &array, &r->conn_capacity, sizeof *r->conns) != UDSIPC_OK) {
			return NULL;
		}
		r->conns = (udsipc__conn **)array;
	}
	udsipc__conn *c = (udsipc__conn *)udsipc__reader_allocate(r, NULL, sizeof *c);
	if (c == NULL) {
		return NULL;
	}
	memset(c, 0, sizeof *c);
	c->fd = -1;
	c->capacity = r->options.read_buffer_size;
	c->buffer = (unsigned char *)udsipc__reader_allocate(r, NULL, c->capacity);
	if (c->buffer == NULL) {
		(void)udsipc__reader_allocate(r, c, 0);
		return NULL;
	}
	r->metrics.read_memory += c->capacity;
	return c;
}

static void udsipc__free_conn(udsipc_reader *r, udsipc__conn *c) {
	if (c->mode == UDSIPC__SESSION && r->states[c->state].owner == c) {
		udsipc__state *state = &r->states[c->state];
		state->owner = NULL;
		state->left_at = udsipc__reader_now(r);
		state->offered = c->sequence > state->offered ? c->sequence : state->offered;
	}
	if (c->fd >= 0) {
		close(c->fd);
	}
	r->metrics.read_memory -= c->capacity;
	if (r->exceeding == c) {
		r->exceeding = NULL;
	}
	(void)udsipc__reader_allocate(r, c->buffer, 0);
	(void)udsipc__reader_allocate(r, c, 0);
}

static void udsipc__accept_later(udsipc_reader *r, int error, const char *text) {
	r->accept_at = udsipc__reader_now(r) + 100;
	udsipc__reader_event(r, NULL, UDSIPC_EVENT_TROUBLE, error, 0, text);
}

/* Accepts one connection. Returns 0 if there is none, or it has to wait. */
static int udsipc__accept(udsipc_reader *r) {
	udsipc__conn *c = udsipc__new_conn(r);
	if (c == NULL) {
		udsipc__accept_later(r, UDSIPC_ERR_MEMORY, "a connection waits for memory");
		return 0;
	}
	c->fd = accept(r->fd, NULL, NULL);
	if (c->fd < 0 || udsipc__prepare(c->fd) != 0) {
		int error = errno, accepted = c->fd >= 0;
		udsipc__free_conn(r, c);
		if (!accepted && !udsipc__is_again(error) && error != ECONNABORTED && error != EINVAL) {
			errno = error;
			udsipc__accept_later(r, UDSIPC_ERR_SYSTEM, "accept failed");
		}
		return error == ECONNABORTED || error == EINTR;
	}
	r->metrics.connections++;
	c->id = r->metrics.connections;
	int full = r->conn_count >= r->options.max_connections;
	if (full || (r->options.authorize != NULL && r->options.authorize(r->options.user, c->fd) != 0)) {
		int fd = c->fd;
		c->fd = -1;
		udsipc__free_conn(r, c);
		udsipc__turn_away(r, fd, full ? 1 : 2);
		return 1;
	}
	if (!r->is_unix) {
		udsipc__prepare_tcp(c->fd);
	}
	c->user = udsipc__user_of(r, c->fd);
	c->last_in = c->last_out = c->last_message = udsipc__reader_now(r);
	r->conns[r->conn_count++] = c;
	udsipc__reader_event(r, c, UDSIPC_EVENT_CONNECTED, UDSIPC_OK, 0, "accepted");
	udsipc__conn_read(r, c);
	return 1;
}

/* The first moment at which a timer of a connection runs out; UINT64_MAX if there is none. */
static uint64_t udsipc__conn_timer(const udsipc_reader *r, const udsipc__conn *c) {
	uint64_t first = UINT64_MAX, other;
	if (c->done) {
		return c->close_at;
	}
	if (c->closing && !c->shut) {
		other = c->last_in + (c->grace_bytes > 0 ? 5000 : 1000);
		first = other < c->grace_end ? other : c->grace_end;
	} else if (!c->closing && c->frame_since > 0 && r->options.message_timeout_ms > 0) {
		first = c->frame_since + r->options.message_timeout_ms;
	} else if (!c->closing && c->frame_since == 0 && r->options.inactivity_timeout_ms > 0) {
		first = c->last_message + r->options.inactivity_timeout_ms;
	}
	if (c->mode == UDSIPC__SESSION && c->heartbeat_interval > 0) {
		other = c->last_out + c->heartbeat_interval;
		first = other < first ? other : first;
	}
	if (c->mode == UDSIPC__SESSION && c->heartbeat_timeout > 0 && !c->starved) {
		other = c->last_in + c->heartbeat_timeout;
		first = other < first ? other : first;
	}
	if (c->starved) {
		other = c->last_in + 100;
		first = other < first ? other : first;
	}
	return first;
}

static void udsipc__conn_timers(udsipc_reader *r, udsipc__conn *c, uint64_t now) {
	static const unsigned char heartbeat[2] = {0x80, 0};
	if (udsipc__conn_timer(r, c) > now) {
		return;
	}
	if (c->done) {
		c->dead = 1;
	} else if (c->starved) {
		c->starved = 0;
		c->last_in = now;
		udsipc__conn_read(r, c);
	} else if (c->mode == UDSIPC__SESSION && c->heartbeat_timeout > 0 && now - c->last_in >= c->heartbeat_timeout) {
		udsipc__reject(r, c, 0, "nothing came from the writer");
	} else if (c->mode == UDSIPC__SESSION && c->heartbeat_interval > 0 &&
			   now - c->last_out >= c->heartbeat_interval) {
		if (c->out_size == 0) {
			udsipc__say(r, c, heartbeat, sizeof heartbeat);
		}
		c->last_out = now;
	} else if (c->closing) {
		udsipc__conn_eof(r, c); /* The peer does not end its side. */
	} else {
		udsipc__close_gracefully(r, c, c->frame_since > 0 ? 5 : 0);
		udsipc__conn_read(r, c);
	}
}

/* Ends what has to end after each step. */
static void udsipc__conn_settle(udsipc_reader *r, udsipc__conn *c) {
	if (!c->dead && c->closing && !c->done && c->mode == UDSIPC__GREETING && !c->shut) {
		udsipc__finish(r, c, c->reason);
	}
	if (!c->dead && c->closing && !c->shut && c->grace_bytes > (16u << 20) + (uint64_t)r->options.max_message_size) {
		udsipc__conn_eof(r, c);
	}
	if (c->done && c->out_size == 0) {
		c->dead = 1;
	}
	if (c->dead) {
		udsipc__reader_event(r, c, UDSIPC_EVENT_DISCONNECTED, UDSIPC_OK, c->received, "closed");
	}
}

/* ---- The reader and its event loop */

size_t udsipc_reader_fds(const udsipc_reader *r, struct pollfd *fds, size_t capacity) {
	size_t count = 0;
	if (r->fd >= 0 && r->stopping < 2) {
		if (count < capacity) {
			fds[count].fd = r->fd;
			fds[count].events = r->accept_at > 0 ? 0 : POLLIN;
			fds[count].revents = 0;
		}
		count++;
	}
	for (size_t i = 0; i < r->conn_count; i++, count++) {
		const udsipc__conn *c = r->conns[i];
		if (count < capacity) {
			int events = (c->done || c->starved ? 0 : POLLIN) | (c->out_size > 0 ? POLLOUT : 0);
			fds[count].fd = events != 0 ? c->fd : -1; /* poll would tell the end of the peer again and again. */
			fds[count].events = (short)events;
			fds[count].revents = 0;
		}
	}
	return count;
}

int udsipc_reader_timeout(const udsipc_reader *r) {
	uint64_t first = r->stopping == 1 ? 0 : r->accept_at > 0 ? r->accept_at : UINT64_MAX;
	for (size_t i = 0; i < r->conn_count; i++) {
		uint64_t timer = udsipc__conn_timer(r, r->conns[i]);
		first = timer < first ? timer : first;
	}
	return first == UINT64_MAX ? -1 : udsipc__until(udsipc__reader_now(r), first);
}

/* Removes connections that have ended. */
static void udsipc__sweep(udsipc_reader *r) {
	size_t kept = 0, freed = 0;
	for (size_t i = 0; i < r->conn_count; i++) {
		udsipc__conn *c = r->conns[i];
		udsipc__conn_settle(r, c);
		if (c->dead) {
			udsipc__free_conn(r, c);
			freed++;
		} else {
			r->conns[kept++] = c;
		}
	}
	r->conn_count = kept;
	if (freed > 0) {
		udsipc__reclaim(r);
	}
}

static void udsipc__begin_stop(udsipc_reader *r) {
	if (r->owns_fd) {
		udsipc__remove_file(r);
#ifdef __linux__
		if (r->is_unix) { /* Refuses further connections; those that wait can be accepted. */
			(void)shutdown(r->fd, SHUT_RD);
		}
#endif
		for (int i = 0; i < 4096 && udsipc__accept(r); i++) {
		}
		close(r->fd);
	}
	r->stopping = 2;
	r->fd = -1;
	r->accept_at = 0;
	for (size_t i = 0; i < r->conn_count; i++) {
		udsipc__close_gracefully(r, r->conns[i], 0);
	}
}

int udsipc_reader_step(udsipc_reader *r, const struct pollfd *fds, size_t count) {
	uint64_t now = udsipc__reader_now(r);
	size_t known = r->conn_count, at = 0;
	int acceptable = 0;
	if (count > 0 && r->fd >= 0 && fds[0].fd == r->fd) {
		acceptable = fds[0].revents != 0;
		at = 1;
	}
	for (size_t i = 0; i < known && at < count; i++, at++) { /* In the order of udsipc_reader_fds. */
		udsipc__conn *c = r->conns[i];
		if (fds[at].fd != c->fd || fds[at].revents == 0 || c->dead) {
			continue;
		}
		if (fds[at].revents & POLLOUT) {
			udsipc__conn_flush(r, c);
			udsipc__acknowledge(r, c);
		}
		if (c->done) {
			c->dead = c->dead || (fds[at].revents & (POLLHUP | POLLERR)) != 0;
		} else if (fds[at].revents & (POLLIN | POLLHUP | POLLERR) && !c->dead && !c->starved) {
			udsipc__conn_read(r, c);
		}
	}
	if (r->accept_at > 0 && now >= r->accept_at) {
		r->accept_at = 0;
		acceptable = 1;
	}
	for (int i = 0; acceptable && i < 64 && r->fd >= 0 && !r->stopping && r->accept_at == 0; i++) {
		acceptable = udsipc__accept(r);
	}
	for (size_t i = 0; i < r->conn_count; i++) {
		if (!r->conns[i]->dead) {
			udsipc__conn_timers(r, r->conns[i], now);
		}
	}
	if (r->stopping == 1) {
		udsipc__begin_stop(r);
	}
	udsipc__sweep(r);
	return r->stopping == 2 && r->conn_count == 0 ? UDSIPC_ERR_STOPPED : UDSIPC_OK;
}

int udsipc_reader_run(udsipc_reader *r, int timeout_ms) {
	uint64_t deadline = udsipc__reader_now(r) + (timeout_ms > 0 ? (uint64_t)timeout_ms : 0);
	size_t count = 0;
	int left = -1;
	for (;;) {
		if (udsipc_reader_step(r, r->fds, count) == UDSIPC_ERR_STOPPED) {
			return UDSIPC_ERR_STOPPED;
		}
		if (left == 0) { /* And it has polled since. */
			return UDSIPC_ERR_TIMEOUT;
		}
		left = timeout_ms < 0 ? -1 : udsipc__until(udsipc__reader_now(r), deadline);
		while ((count = udsipc_reader_fds(r, r->fds, r->fds_capacity)) > r->fds_capacity) {
			void *array = r->fds;
			if (udsipc__grow(r, &array, &r->fds_capacity, sizeof *r->fds) != UDSIPC_OK) {
				return UDSIPC_ERR_MEMORY;
			}
			r->fds = (struct pollfd *)array;
		}
		if (poll(r->fds, (nfds_t)count, udsipc__shorter(left, udsipc_reader_timeout(r))) < 0) {
			return UDSIPC_ERR_TIMEOUT;
		}
	}
}

void udsipc_reader_stop(udsipc_reader *r) {
	if (r->stopping == 0) {
		r->stopping = 1;
	}
}

udsipc_reader_metrics udsipc_reader_get_metrics(const udsipc_reader *r) {
	udsipc_reader_metrics metrics = r->metrics;
	metrics.open = r->conn_count;
	return metrics;
}

void udsipc_reader_close(udsipc_reader *r) {
	if (r == NULL) {
		return;
	}
	if (r->owns_fd && r->fd >= 0) {
		udsipc__remove_file(r);
		close(r->fd);
	}
	for (size_t i = 0; i < r->conn_count; i++) {
		udsipc__free_conn(r, r->conns[i]);
	}
	(void)udsipc__reader_allocate(r, r->conns, 0);
	(void)udsipc__reader_allocate(r, r->states, 0);
	(void)udsipc__reader_allocate(r, r->fds, 0);
	(void)udsipc__reader_allocate(r, r, 0);
}

#endif /* UDSIPC_IMPLEMENTED */
#endif /* UDSIPC_IMPLEMENTATION */
