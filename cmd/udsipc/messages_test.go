// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// divide returns the messages of a text, and the error that ended it if that is not its end.
func divide(d *divider, next func() ([]byte, error)) (messages []string, err error) {
	for {
		message, err := next()
		if err == io.EOF {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, string(message))
	}
}

// TestDivider_Lines_AtTheLimit walks all lengths of two lines around the limit and the sizes of the reads, with and
// without a last newline, for each treatment of long lines.
func TestDivider_Lines_AtTheLimit(t *testing.T) {
	const limit = 20
	for _, long := range []string{longLinesError, longLinesSplit, longLinesSkip} {
		for first := range 2*limit + 2 {
			for second := range limit + 3 {
				for _, end := range []string{"", "\n"} {
					checkLines(t, long, limit, strings.Repeat("a", first), strings.Repeat("b", second), end)
				}
			}
		}
	}
}

func checkLines(t *testing.T, long string, limit int, first, second, end string) {
	t.Helper()
	var want []string
	var skipped uint64
	failed := false
	lines := []string{first, second}
	if end == "" && second == "" {
		lines = lines[:1]
	}
	for _, line := range lines {
		switch {
		case failed:
		case len(line) <= limit:
			want = append(want, line)
		case long == longLinesError:
			failed = true
		case long == longLinesSkip:
			skipped++
		default:
			for ; len(line) > limit; line = line[limit:] {
				want = append(want, line[:limit])
			}
			want = append(want, line)
		}
	}
	for _, from := range []io.Reader{
		strings.NewReader(first + "\n" + second + end),
		iotest.OneByteReader(strings.NewReader(first + "\n" + second + end)),
	} {
		d := newDivider(from, uint64(limit))
		d.long = long
		got, err := divide(d, d.line)
		if !slices.Equal(got, want) || d.skipped != skipped || (err != nil) != failed {
			t.Fatalf("%s, lines of %d and %d bytes, end %q: got %q, %d skipped, %v; want %q, %d", long, len(first),
				len(second), end, got, d.skipped, err, want, skipped)
		}
	}
}

// TestDivider_LongLine_CrossesBuffers: lines longer than all buffers are whole.
func TestDivider_LongLine_CrossesBuffers(t *testing.T) {
	line := strings.Repeat("0123456789", inputChunk)
	d := newDivider(strings.NewReader("x\n"+line+"\ny"), uint64(len(line)))
	got, err := divide(d, d.line)
	if want := []string{"x", line, "y"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%d messages, %v", len(got), err)
	}
	d = newDivider(strings.NewReader("x\n"+line+"\ny"), uint64(len(line)-1))
	if got, err = divide(d, d.line); len(got) != 1 || err == nil || !strings.Contains(err.Error(), "line 2 is longer") {
		t.Errorf("%d messages, %v", len(got), err)
	}
}

func TestDivider_NullLines(t *testing.T) {
	d := newDivider(strings.NewReader("a\nb\x00\x00c"), 100)
	d.end = 0
	if got, err := divide(d, d.line); err != nil || !slices.Equal(got, []string{"a\nb", "", "c"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestDivider_Interrupt_LeavesUnfinished: what an interrupt cut is no message.
func TestDivider_Interrupt_LeavesUnfinished(t *testing.T) {
	for name, next := range map[string]func(d *divider) func() ([]byte, error){
		"line": func(d *divider) func() ([]byte, error) { return d.line },
		"file": func(d *divider) func() ([]byte, error) { return d.whole },
	} {
		d := newDivider(strings.NewReader("half"), 100)
		d.interrupted = func() bool { return true }
		got, err := divide(d, next(d))
		want := &unfinishedError{}
		if len(got) != 0 || !errors.As(err, &want) || *want != (unfinishedError{name, 4}) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// TestDivider_Frames_CutAtEachByte: frames come out as they went in; a cut is an error, except between frames.
func TestDivider_Frames_CutAtEachByte(t *testing.T) {
	messages := []string{"", "one", strings.Repeat("x", 300), ""}
	var text []byte
	ends := map[int]int{0: 0} // Of each frame: the number of messages up to there.
	for i, message := range messages {
		text = append(binary.AppendUvarint(text, uint64(len(message))), message...)
		ends[len(text)] = i + 1
	}
	for cut := range len(text) + 1 {
		d := newDivider(bytes.NewReader(text[:cut]), 300)
		got, err := divide(d, d.frame)
		count, whole := ends[cut]
		if !whole {
			count = len(got)
		}
		if !slices.Equal(got, messages[:count]) || (err == nil) != whole {
			t.Errorf("cut at %d: got %q, %v", cut, got, err)
		}
	}
	large := strings.Repeat("y", 3*inputChunk)
	text = append(binary.AppendUvarint(nil, uint64(len(large))), large...)
	for _, cut := range []int{len(text), len(text) - 1} {
		d := newDivider(bytes.NewReader(text[:cut]), uint64(len(large)))
		if got, err := divide(d, d.frame); (err == nil) != (cut == len(text)) || err == nil && got[0] != large {
			t.Errorf("cut at %d: %d messages, %v", cut, len(got), err)
		}
	}
}

func TestDivider_InvalidFrames_AreErrors(t *testing.T) {
	for text, want := range map[string]string{
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff": "over 64 bits",
		"\x65" + strings.Repeat("x", 101):          "101 bytes, which is over 100 bytes",
	} {
		d := newDivider(strings.NewReader(text), 100)
		if _, err := divide(d, d.frame); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestDivider_WholeFile_HasLimit(t *testing.T) {
	for n := range 5 {
		text := strings.Repeat("x", n)
		d := newDivider(strings.NewReader(text), 3)
		got, err := divide(d, d.whole)
		if want := fmt.Sprint([]string{text}); n <= 3 && (err != nil || fmt.Sprint(got) != want) || n > 3 && err == nil {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
	}
}
