// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc"
)

// TestMain lets the test binary take the roles that the program gives itself.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestShow_Killed_HandlesEachMessageOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no spool")
	}
	var out bytes.Buffer
	if err := show(t.Context(), 3, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, row := range []string{
		`kills of the writer +3\n`, `kills of the reader +3\n`, `messages handled +[1-9]\d*\n`,
		`\nEach message was handled once, in order\.\n$`,
	} {
		if !regexp.MustCompile(row).MatchString(out.String()) {
			t.Errorf("the table has no %q:\n%s", row, &out)
		}
	}
}

func TestCheck_Differences_AreErrors(t *testing.T) {
	var records []record
	for i := range uint64(20) {
		records = append(records, record{seq: i + 1, start: i / 10, n: i%10 + 1})
	}
	if unknown, err := check(records, []uint64{10, 9}); unknown != 1 || err != nil {
		t.Fatalf("%d, %v", unknown, err)
	}
	for name, spoil := range map[string]func() ([]record, []uint64){
		"lost":           func() ([]record, []uint64) { return slices.Delete(slices.Clone(records), 5, 6), []uint64{10, 10} },
		"lost at an end": func() ([]record, []uint64) { return records, []uint64{11, 10} },
		"never written":  func() ([]record, []uint64) { return records, []uint64{10, 8} },
		"repeated":       func() ([]record, []uint64) { return append(slices.Clone(records), records[19]), []uint64{10, 10} },
		"another start":  func() ([]record, []uint64) { return records, []uint64{20} },
		"reordered": func() ([]record, []uint64) {
			list := slices.Clone(records)
			list[3], list[4] = list[4], list[3]
			return list, []uint64{10, 10}
		},
	} {
		list, accepted := spoil()
		var out bytes.Buffer
		r := &run{accepted: accepted, writers: new(series), readers: new(series)}
		if err := r.report(&out, list); err == nil || strings.Contains(out.String(), "handled once") {
			t.Errorf("%s: got %v and\n%s", name, err, &out)
		}
	}
}

// TestStore_CutOff_GoesOn: whatever a kill leaves of the last record, its message comes again.
func TestStore_CutOff_GoesOn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "handled")
	batch := func(from, to uint64) (list []udsipc.Delivery) {
		for n := from; n < to; n++ {
			list = append(list, udsipc.Delivery{Seq: n, Data: message(0, n)})
		}
		return list
	}
	next := uint64(1)
	for cut := range int64(recordSize) {
		s, err := openStore(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		known := min(next-1, 1)
		added, again, err := s.add(batch(next-known, next+3))
		if added != 3 || again != int(known) || err != nil {
			t.Fatalf("cut %d: %d are new and %d known, %v", cut, added, again, err)
		}
		if err := s.file.Truncate(s.size - cut); err != nil {
			t.Fatal(err)
		}
		s.file.Close()
		if next += 3; cut > 0 {
			next-- // The last record.
		}
	}
	var records []record
	s, err := openStore(name, func(r record) { records = append(records, r) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.file.Close()
	if _, err := check(records, []uint64{next - 1}); err != nil {
		t.Error(err)
	}
	if _, _, err := s.add([]udsipc.Delivery{{Seq: 1 << 40}}); err == nil {
		t.Error("a message of another size is stored")
	}
}

func TestChild_WrongArguments_IsError(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b", "c"}} {
		if err := child(context.Background(), roleWriter, args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
	if err := show(t.Context(), 0, io.Discard); err != nil && runtime.GOOS != "windows" {
		t.Error(err)
	}
}
