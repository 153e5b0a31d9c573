/* SPDX-License-Identifier: Apache-2.0 */

/* A writer that sends the lines of its standard input, for "udsipc conform" and other tests:
 *
 *     lines plain|session ADDRESS
 *
 * It ends with 0 once all of them have arrived. It has no time limit. */

#define UDSIPC_IMPLEMENTATION
#include "../udsipc.h"

#include <stdio.h>

static void report(void *user, const udsipc_event *event) {
	(void)user;
	if (event->kind != UDSIPC_EVENT_CONNECTED && event->kind != UDSIPC_EVENT_DISCONNECTED) {
		fprintf(stderr, "connection %llu: %s\n", (unsigned long long)event->connection, event->text);
	}
}

int main(int argc, char **argv) {
	udsipc_writer_options options = udsipc_writer_defaults();
	udsipc_writer *writer;
	char *line = NULL;
	size_t capacity = 0;
	ssize_t size;
	if (argc < 3) {
		return 2;
	}
	options.acknowledgements = strcmp(argv[1], "session") == 0;
	options.address = argv[2];
	options.max_backoff_ms = 100;
	options.on_event = argc > 3 ? report : NULL;
	int result = udsipc_writer_open(&writer, &options);
	if (result != UDSIPC_OK) {
		fprintf(stderr, "%s: %s\n", argv[2], udsipc_strerror(result));
		return 1;
	}
	while ((size = getline(&line, &capacity, stdin)) > 0) {
		size_t length = (size_t)size - (line[size - 1] == '\n' ? 1 : 0);
		while ((result = udsipc_writer_write(writer, line, length)) == UDSIPC_ERR_FULL) {
			(void)udsipc_writer_run(writer, UDSIPC_UNTIL_SENT, 100);
		}
		if (result != UDSIPC_OK) {
			fprintf(stderr, "%s\n", udsipc_strerror(result));
			return 1;
		}
		udsipc_writer_step(writer, 0);
	}
	free(line);
	(void)udsipc_writer_run(writer, UDSIPC_UNTIL_FINISHED, -1);
	udsipc_writer_metrics metrics = udsipc_writer_get_metrics(writer);
	udsipc_writer_close(writer);
	return metrics.possibly_lost + metrics.undelivered > 0;
}
