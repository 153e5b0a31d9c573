// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/rpc"
)

// TestServer_FirstMessage_TellsClients from what has connected by mistake, such as a plain Writer: that gets the
// goodbye and the report of a Reader. A client may begin with what concerns an earlier connection.
func TestServer_FirstMessage_TellsClients(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	s, err := rpc.NewServer(address)
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ipctest.Stop(t, s) })
	const call = "\x01\x01\x00\x01x" // Call 1 of a method that does not exist.
	for message, client := range map[string]bool{
		"":                              false,
		"x":                             false,
		"hello":                         false,
		`{"level":"info"}`:              false,
		"\x00\x01":                      false,
		"\x01":                          false,
		"\x01\x00\x00\x00":              false,
		"\x05\x7fabc":                   false,
		"\x08\x96\x01\x12\x02hi":        false, // Protocol Buffers: a number, then a string.
		"\x0a\x14twenty bytes of text.": false, // Protocol Buffers: a string.
		"\x04\x07more":                  false,
		"\x07\x07\x05abc":               false,
		"\x09\x07\x01\x01":              false,
		"\x03\x07\x01\xff":              false,
		"\x02\x01response":              false,
		call:                            true,
		"\x04\x07":                      true,
		"\x08\x07\x80\x01":              true,
		"\x09\x07":                      true,
		"\x09\x07\x01":                  true,
		"\x07\x07\x03abc\x00":           true,
		"\x03\x07\x01text":              true,
		"\x0atoken":                     true,
	} {
		conn, err := udsipc.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(conn.WriteMessage([]byte(message)), conn.WriteMessage([]byte(call))); err != nil {
			t.Fatal(err)
		}
		data, err := conn.ReadMessage()
		switch {
		case err != nil:
			t.Errorf("%q: %v", message, err)
		case client && !strings.HasPrefix(string(data), "\x03\x01"):
			t.Errorf("%q: % x, want an error", message, data)
		case !client && len(data) > 0:
			t.Errorf("%q: % x, want the goodbye", message, data)
		case !client:
			if data, err = conn.ReadMessage(); err != nil || !strings.HasPrefix(string(data), "\x07\x01\x00") {
				t.Errorf("%q: %q, %v, want the report", message, data, err)
			}
			if _, err = conn.ReadMessage(); err != io.EOF && !errors.Is(err, udsipc.ErrConnectionClosed) {
				t.Errorf("%q: the connection goes on: %v", message, err)
			}
		}
		conn.Close()
	}
}

// TestServer_SmallStrings_AreRefused: those of Protocol Buffers look like goodbyes. One may be the reply of a client
// to the goodbye of an earlier connection.
func TestServer_SmallStrings_AreRefused(t *testing.T) {
	t.Parallel()
	address := ipctest.SocketPath(t)
	serve(t, address, nil)
	conn, err := udsipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		if err := conn.WriteMessage([]byte("\x0a\x05hello")); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "\x07\x01\x00"} {
		data, err := conn.ReadMessage()
		if err != nil || !strings.HasPrefix(string(data), want) || len(data) > 0 == (want == "") {
			t.Errorf("%q, %v, want the goodbye and the report", data, err)
		}
	}
}
