// SPDX-License-Identifier: Apache-2.0

package natsbridge

import "time"

// SingleMessages is singleMessages of a stream, for tests.
func SingleMessages(files bool, ask time.Duration) int {
	return (&Publisher{cfg: defaultPublisherConfig()}).singleMessages(&openedStream{files: files, ask: ask})
}

// WithSingleMessages sets the largest batch whose messages are published one by one.
func WithSingleMessages(n int) PublisherOption { return func(c *publisherConfig) { c.single = n } }
