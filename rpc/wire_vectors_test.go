// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A wireVector is one of testdata/rpc.json, which clients in other languages read, too.
type wireVector struct {
	What, From, Bytes string
	Only              string // "decode": the bytes are not how the message is encoded.
	Invalid           bool
	Request, Open     *requestVector
	Notification      *struct{ Method, Data string }
	Response          *struct {
		ID   uint64
		Data string
	}
	Error *struct {
		ID, Code uint64
		Text     string
	}
	Cancel *struct{ ID uint64 }
	Data   *struct {
		ID       uint64
		Messages []string
		Cost     int
	}
	Credit *struct{ ID, Bytes uint64 }
	End    *struct {
		ID       uint64
		Returned bool
	}
	Goodbye *struct{ Token string }
}

type requestVector struct {
	ID        uint64
	TimeoutUS int64 `json:"timeout_us"`
	Method    string
	Metadata  Metadata
	Window    uint64
	Data      string
}

// TestWire_Vectors_Match decodes the vectors, encodes what this package sends, and compares.
func TestWire_Vectors_Match(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../testdata/rpc.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []wireVector
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		frame := unhexVector(t, v.Bytes)
		size, n := binary.Uvarint(frame)
		body := frame[n:]
		if uint64(len(body)) != size {
			t.Errorf("%s: the length is %d, there are %d bytes", v.What, size, len(body))
			continue
		}
		kind, n := binary.Uvarint(body)
		if err := checkVector(t, &v, uint32(kind), body, body[n:]); (err != nil) != v.Invalid {
			t.Errorf("%s: %v", v.What, err)
		}
	}
}

// checkVector decodes the bytes of one vector.
func checkVector(t *testing.T, v *wireVector, kind uint32, body, b []byte) error {
	switch kind {
	case typeRequest, typeOpen:
		return checkRequestVector(t, v, kind, body, b)
	case typeNotify:
		method, data, err := parseNotification(b)
		same(t, v, []any{string(method), hex.EncodeToString(data)}, v.Notification.Method, v.Notification.Data)
		encoded(t, v, appendNotification(appendType(nil, kind), string(method), data), body)
		return err
	case typeGoodbye:
		same(t, v, []any{hex.EncodeToString(b)}, v.Goodbye.Token)
		return nil
	}
	id, rest, err := parseID(b)
	if err != nil {
		return err
	}
	r := fieldReader{rest: rest}
	switch kind {
	case typeResponse:
		same(t, v, []any{id, hex.EncodeToString(rest)}, v.Response.ID, v.Response.Data)
	case typeError:
		e := parseError(rest)
		same(t, v, []any{id, uint64(e.Code), e.Message}, v.Error.ID, v.Error.Code, v.Error.Text)
		if v.Only == "" {
			encoded(t, v, appendFailure(nil, id, e, 1000), body)
		}
	case typeCancel:
		same(t, v, []any{id}, v.Cancel.ID)
	case typeData:
		cost, ok := windowCost(rest, window)
		if !ok {
			return errMalformed
		}
		var messages []string
		for len(r.rest) > 0 {
			messages = append(messages, hex.EncodeToString(r.text()))
		}
		same(t, v, []any{id, cost, messages}, v.Data.ID, v.Data.Cost, v.Data.Messages)
	case typeCredit:
		same(t, v, []any{id, r.number()}, v.Credit.ID, v.Credit.Bytes)
	case typeEnd:
		same(t, v, []any{id, endsStream(kind, rest)}, v.End.ID, v.End.Returned)
	}
	return nil
}

func checkRequestVector(t *testing.T, v *wireVector, kind uint32, body, b []byte) error {
	q, err := parseRequest(b)
	if err != nil {
		return err
	}
	want := v.Request
	got := requestVector{ID: q.id, TimeoutUS: q.timeout.Microseconds(), Method: string(q.method)}
	data := q.data
	if kind == typeOpen {
		want = v.Open
		r := fieldReader{rest: data}
		got.Window, data = r.number(), r.rest
	}
	got.Data = hex.EncodeToString(data)
	metadata, failed := parseMetadata(q.metadata)
	if failed != nil {
		return failed
	}
	if got.Metadata = metadata; metadata == nil {
		got.Metadata = Metadata{}
	}
	same(t, v, []any{got}, *want)
	q = request{id: q.id, timeout: time.Duration(want.TimeoutUS) * time.Microsecond}
	encoded(t, v, q.append(appendType(nil, kind), want.Method,
		outgoingOf(WithMetadata(t.Context(), want.Metadata)).encoded, b[len(b)-len(data)-windowLen(kind):]), body)
	return nil
}

// windowLen returns the length of the encoded window of the vectors.
func windowLen(kind uint32) int {
	if kind == typeOpen {
		return len(binary.AppendUvarint(nil, window))
	}
	return 0
}

// same compares the fields of a message with those of its vector, as they are printed.
func same(t *testing.T, v *wireVector, got []any, want ...any) {
	t.Helper()
	if got, want := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("%s: %s, want %s", v.What, got, want)
	}
}

func encoded(t *testing.T, v *wireVector, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: encoded % x, want % x", v.What, got, want)
	}
}

func unhexVector(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
