/* SPDX-License-Identifier: Apache-2.0 */

/* What the tests share. */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

static const char *check_name = "";

#define CHECK(condition, ...)                                                                                          \
	do {                                                                                                               \
		if (!(condition)) {                                                                                            \
			fprintf(stderr, "%s:%d: %s: %s: ", __FILE__, __LINE__, check_name, #condition);                            \
			fprintf(stderr, __VA_ARGS__);                                                                              \
			fprintf(stderr, "\n");                                                                                     \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

#define EQUAL(got, want)                                                                                               \
	do {                                                                                                               \
		unsigned long long got_ = (unsigned long long)(got), want_ = (unsigned long long)(want);                       \
		CHECK(got_ == want_, "got %llu, want %llu (%s)", got_, want_, #got);                                           \
	} while (0)

#endif
