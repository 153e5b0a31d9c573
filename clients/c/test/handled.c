/* SPDX-License-Identifier: Apache-2.0 */

/* A reader that prints each message it has handled, for "udsipc conform" and other tests:
 *
 *     handled ADDRESS [LIMIT]
 *
 * A line has the length of the message, the sum of its bytes, r or - for redelivered or not, and the first 40 bytes. A
 * message "sleep N" and more is handled after N milliseconds. SIGTERM ends it gracefully. */

#define UDSIPC_IMPLEMENTATION
#include "../udsipc.h"

#include <signal.h>
#include <stdio.h>

static udsipc_reader *reader;

static void stop(int number) {
	(void)number;
	udsipc_reader_stop(reader);
}

static int handle(void *user, const udsipc_delivery *delivery) {
	const unsigned char *data = (const unsigned char *)delivery->data;
	unsigned long sum = 0;
	(void)user;
	if (delivery->size > 6 && memcmp(data, "sleep ", 6) == 0) {
		char number[16] = "";
		memcpy(number, data + 6, delivery->size - 6 < 15 ? delivery->size - 6 : 15);
		long ms = strtol(number, NULL, 10);
		struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
		nanosleep(&pause, NULL);
	}
	for (size_t i = 0; i < delivery->size; i++) {
		sum += data[i];
	}
	printf("%zu %lu %c ", delivery->size, sum, delivery->redelivered ? 'r' : '-');
	fwrite(data, 1, delivery->size < 40 ? delivery->size : 40, stdout);
	printf("\n");
	return fflush(stdout);
}

static void report(void *user, const udsipc_event *event) {
	(void)user;
	if (event->kind != UDSIPC_EVENT_CONNECTED && event->kind != UDSIPC_EVENT_DISCONNECTED) {
		fprintf(stderr, "connection %llu: %s\n", (unsigned long long)event->connection, event->text);
	}
}

int main(int argc, char **argv) {
	udsipc_reader_options options = udsipc_reader_defaults();
	struct sigaction action;
	if (argc < 2) {
		return 2;
	}
	options.address = argv[1];
	options.max_message_size = argc > 2 ? strtoul(argv[2], NULL, 10) : options.max_message_size;
	options.handle = handle;
	options.on_event = argc > 3 ? report : NULL;
	int result = udsipc_reader_open(&reader, &options);
	if (result != UDSIPC_OK) {
		fprintf(stderr, "%s: %s\n", argv[1], udsipc_strerror(result));
		return 1;
	}
	memset(&action, 0, sizeof action);
	action.sa_handler = stop;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	do {
		result = udsipc_reader_run(reader, -1);
	} while (result == UDSIPC_ERR_TIMEOUT);
	udsipc_reader_close(reader);
	return result == UDSIPC_ERR_STOPPED ? 0 : 1;
}
