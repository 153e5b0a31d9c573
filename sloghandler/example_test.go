// SPDX-License-Identifier: Apache-2.0

package sloghandler_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/sloghandler"
)

// example returns a Writer, and a function that stops it and then the collector, which prints what arrives.
func example() (writer *udsipc.Writer, stop func()) {
	dir, err := os.MkdirTemp("", "sloghandler")
	must(err)
	socket := filepath.Join(dir, "log.sock")
	collector, err := udsipc.NewReader(func(record []byte) error {
		fmt.Printf("%s\n", record)
		return nil
	}, socket)
	must(err)
	must(collector.Start())
	writer, err = udsipc.NewWriter(socket)
	must(err)
	must(writer.Start())
	return writer, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(writer.Stop(ctx))
		must(collector.Stop(ctx))
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// withoutTime has examples print the same each time.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func ExampleNewJSON() {
	writer, stop := example()
	handler := sloghandler.NewJSON(writer, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})
	logger := slog.New(handler).With("program", "backup")
	logger.Debug("started", "files", 12)
	logger.Warn("disk is filling up", slog.Group("disk", "path", "/var", "percent", 91))
	stop()
	fmt.Println("dropped:", handler.Dropped())
	// Output:
	// {"level":"DEBUG","msg":"started","program":"backup","files":12}
	// {"level":"WARN","msg":"disk is filling up","program":"backup","disk":{"path":"/var","percent":91}}
	// dropped: 0
}

func ExampleNewText() {
	writer, stop := example()
	logger := slog.New(sloghandler.NewText(writer, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	logger.WithGroup("disk").Warn("filling up", "path", "/var", "percent", 91)
	stop()
	// Output: level=WARN msg="filling up" disk.path=/var disk.percent=91
}
