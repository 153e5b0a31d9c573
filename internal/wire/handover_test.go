// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// TestHandOverState_RoundTrips is written byte by byte, and read again.
func TestHandOverState_RoundTrips(t *testing.T) {
	writer := wire.WriterSnapshot{
		Key: wire.WriterKey{Identity: "uid 7", Writer: wireID}, Epoch: 300, Handled: 2,
		MaybeHandledThrough: 3, Failures: 4, Idle: 5*time.Millisecond + 6,
	}
	writerBytes := append(append([]byte("\x05uid 7"), wireID[:]...), numbers(300, 2, 3, 4, 5)...)
	session := wire.SessionSnapshot{
		Inode: 0x0102030405060708, Writer: writer, Limit: 200,
		HeartbeatTimeout: 10 * time.Millisecond, HeartbeatInterval: 11 * time.Millisecond,
	}
	sessionBytes := bytes.Join([][]byte{{1, 2, 3, 4, 5, 6, 7, 8}, writerBytes, numbers(200, 10, 11)}, nil)
	for _, test := range []struct {
		legacy wire.HandOverState
		want   [][]byte
	}{
		{wire.HandOverState{}, [][]byte{{2, 0, 0}}},
		{wire.HandOverState{Writers: []wire.WriterSnapshot{writer}}, [][]byte{{2, 1}, writerBytes, {0}}},
		{wire.HandOverState{Sessions: []wire.SessionSnapshot{session}}, [][]byte{{2, 0, 1}, sessionBytes}},
		{wire.HandOverState{
			Writers:  []wire.WriterSnapshot{writer, writer},
			Sessions: []wire.SessionSnapshot{session, session},
		},
			[][]byte{{2, 2}, writerBytes, writerBytes, {2}, sessionBytes, sessionBytes}},
	} {
		b := test.legacy.Encode()
		if want := bytes.Join(test.want, nil); !bytes.Equal(b, want) {
			t.Errorf("%+v: % x, want % x", test.legacy, b, want)
		}
		for i := range test.legacy.Writers {
			test.legacy.Writers[i].Idle = 5 * time.Millisecond
		}
		for i := range test.legacy.Sessions {
			test.legacy.Sessions[i].Writer.Idle = 5 * time.Millisecond
		}
		if got, err := wire.ParseHandOverState(b); !reflect.DeepEqual(got, test.legacy) || err != nil {
			t.Errorf("%+v is read as %+v, %v", test.legacy, got, err)
		}
		for n := range b {
			if got, err := wire.ParseHandOverState(b[:n]); err == nil || !reflect.DeepEqual(got, wire.HandOverState{}) {
				t.Errorf("%d of %d bytes: %+v, %v", n, len(b), got, err)
			}
		}
	}
}

// TestHandOverState_Invalid_IsRejected: what is not understood is refused as a whole.
func TestHandOverState_Invalid_IsRejected(t *testing.T) {
	writer := append([]byte("\x01u"), make([]byte, 16)...)
	for _, test := range []struct {
		what string
		b    []byte
		text string
	}{
		{"nothing", nil, "malformed hand-over state:  is no number of up to 63 bits"},
		{"another version", []byte{3}, "it has version 3, this process reads 2"},
		{"an older version", []byte{1, 0, 0}, "it has version 1, this process reads 2"},
		{"more writers than bytes", []byte{2, 2, 0}, "2 entries in 1 bytes"},
		{"many writers", append([]byte{2}, numbers(math.MaxInt64)...), "9223372036854775807 entries in 0 bytes"},
		{"as many writers as bytes", []byte{2, 1, 0}, "it ends too early"},
		{"a short inode", []byte{2, 0, 1, 1, 2, 3, 4, 5, 6, 7}, "it ends too early"},
		{"something behind", []byte{2, 0, 0, 7, 7}, "2 bytes too many"},
		{"a name that is cut", append(append([]byte{2, 1}, numbers(1024)...), make([]byte, 1023)...), "it ends too early"},
		{"a long name", append(append([]byte{2, 1}, numbers(1025)...), make([]byte, 2000)...),
			"a name of 1025 bytes, the limit is 1024"},
		{"a name that is no number", []byte{2, 1, 0x80}, "80 is no number of up to 63 bits"},
		{"half a writer", append([]byte{2, 1}, writer...), " is no number of up to 63 bits"},
	} {
		got, err := wire.ParseHandOverState(test.b)
		wantWireError(t, test.what, err, wire.ErrHandOverState, test.text)
		if !reflect.DeepEqual(got, wire.HandOverState{}) {
			t.Errorf("%s: %+v", test.what, got)
		}
	}
	for _, length := range []int{1023, 1024} {
		legacy := wire.HandOverState{Writers: []wire.WriterSnapshot{
			{Key: wire.WriterKey{Identity: strings.Repeat("n", length)}, Failures: math.MaxInt32},
		}}
		if got, err := wire.ParseHandOverState(legacy.Encode()); !reflect.DeepEqual(got, legacy) || err != nil {
			t.Errorf("a name of %d bytes: %v", length, err)
		}
	}
	b := append([]byte{2, 1}, append(writer, numbers(1, 1, 1, math.MaxInt64, 0)...)...)
	if got, err := wire.ParseHandOverState(append(b, 0)); err != nil || got.Writers[0].Failures != math.MaxInt32 {
		t.Errorf("%+v, %v", got, err)
	}
}
