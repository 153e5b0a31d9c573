// SPDX-License-Identifier: Apache-2.0

package failures_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/contrib/nats/failures"
)

// TestReporter_Failure_ArrivesBeforeReturn, with the text of the error as one line.
func TestReporter_Failure_ArrivesBeforeReturn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var got []failures.Failure
	r, err := udsipc.NewReader(func(data []byte) error {
		f, err := failures.Parse(data)
		got = append(got, f)
		return err
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reporter, err := failures.NewReporter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reporter.Close()
	long := strings.Repeat("ä", 600)
	for _, cause := range []error{errors.New("one\ntwo\x00"), nil, errors.New(long + "x")} {
		reporter.Report(&udsipc.Delivery{Writer: udsipc.WriterID{1, 2}, Seq: 1 << 40}, cause)
	}
	if err := reporter.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"one two ", "", long[:1024]} {
		if want := (failures.Failure{Writer: udsipc.WriterID{1, 2}, Seq: 1 << 40, Reason: want}); got[i] != want {
			t.Errorf("%+v: want %+v", got[i], want)
		}
	}
}

// TestReporter_BridgeIsAway_ReturnsWithContext.
func TestReporter_BridgeIsAway_ReturnsWithContext(t *testing.T) {
	reporter, err := failures.NewReporter(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := reporter.ReportContext(ctx, &udsipc.Delivery{}, errors.New("no")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = reporter.Stop(ctx)
	if err := reporter.ReportContext(t.Context(), &udsipc.Delivery{}, nil); !errors.Is(err, udsipc.ErrStopped) {
		t.Error(err)
	}
	if _, err := failures.NewReporter(""); err == nil {
		t.Error("an empty address is no error")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("0123456789abcdef\x00\x00\x00\x00\x00\x00\x00\x07reason\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := failures.Parse(data)
		if (err == nil) != (len(data) >= 24) || !utf8.ValidString(got.Reason) || len(got.Reason) > 1024 ||
			strings.ContainsAny(got.Reason, "\r\n\x00") {
			t.Errorf("%q: %+v, %v", data, got, err)
		}
	})
}
