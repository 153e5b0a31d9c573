// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file has what is logged, and where.

import "log/slog"

// WithLogger sets where what an operator must know is logged. Without it, that is slog.Default at the
// time of each line, unless an error callback is set, which gets the errors instead.
// slog.New(slog.DiscardHandler) is silent; nil is an error.
func WithLogger(logger *slog.Logger) Option {
	return bothOption(func(c *sharedConfig) { c.logging = logConfig{logger, true} })
}

// A logConfig is the value of WithLogger.
type logConfig struct {
	logger *slog.Logger // nil: slog.Default.
	set    bool
}
