// SPDX-License-Identifier: Apache-2.0

package ipctest

// This file loads the frame vectors, which the tests of several packages use.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A FrameVector is a vector of testdata/frames.json, which describes the fields.
type FrameVector struct {
	Name     string
	Limit    uint64
	Bytes    string
	Messages []string
	End      string
}

// FrameVectors returns all vectors. It is for packages two levels below the root.
func FrameVectors(tb testing.TB) []FrameVector {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/frames.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct{ Vectors []FrameVector }
	if err := json.Unmarshal(text, &file); err != nil {
		tb.Fatal(err)
	}
	for i := range file.Vectors {
		if file.Vectors[i].Limit == 0 {
			file.Vectors[i].Limit = 10 << 20
		}
	}
	return file.Vectors
}

// Expand decodes the hexadecimal text of a vector.
func Expand(tb testing.TB, text string) []byte {
	tb.Helper()
	var b []byte
	for part := range strings.FieldsSeq(text) {
		digits, times, repeated := strings.Cut(part, "*")
		n := 1
		if repeated {
			var err error
			if n, err = strconv.Atoi(times); err != nil {
				tb.Fatal(err)
			}
		}
		piece, err := hex.DecodeString(digits)
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, bytes.Repeat(piece, n)...)
	}
	return b
}
