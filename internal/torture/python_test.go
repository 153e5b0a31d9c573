// SPDX-License-Identifier: Apache-2.0

package torture_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// TestDocs_PythonWriter_Works runs the program in the document as it stands there.
func TestDocs_PythonWriter_Works(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	_, program, _ := strings.Cut(ipctest.Document(t), "```python\n")
	program, _, found := strings.Cut(program, "```")
	if !found {
		t.Fatalf("%s has no program in Python", ipctest.ProtocolDocument)
	}
	sizes := []int{0, 128, 70_000, 1, 127, 16383, 16384, 0}
	got := make(chan string, len(sizes))
	path := ipctest.SocketPath(t)
	r := ipctest.StartReader(t, func(data []byte) error { got <- string(data); return nil }, path)
	arguments := []string{"-c", program, path}
	for _, size := range sizes {
		arguments = append(arguments, fmt.Sprint(size))
	}
	if out, err := exec.CommandContext(t.Context(), python, arguments...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, size := range sizes {
		if data := ipctest.Await(t, "a message", got); data != strings.Repeat("x", size) {
			t.Errorf("got %d bytes %.20q, want %d", len(data), data, size)
		}
	}
	ipctest.Stop(t, r)
	if m := r.Metrics(); m.Received != uint64(len(sizes)) {
		t.Errorf("%+v, want %d received", m, len(sizes))
	}
}

// TestDocs_FrameVectors_MatchTestdata compares the table with the file that the tests use.
func TestDocs_FrameVectors_MatchTestdata(t *testing.T) {
	text := ipctest.ReadFile(t, "testdata/frames.json")
	var file struct {
		Vectors []struct {
			Name, Bytes, End string
			Limit            json.Number
			Messages         []string
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	code := func(digits string) string {
		if digits == "" {
			return "empty"
		}
		return "`" + digits + "`"
	}
	table := ipctest.Document(t)
	for _, v := range file.Vectors {
		messages := "none"
		if len(v.Messages) > 0 {
			cells := make([]string, len(v.Messages))
			for i, message := range v.Messages {
				cells[i] = code(message)
			}
			messages = strings.Join(cells, ", ")
		}
		row := fmt.Sprintf("| %s | %s | %s | %s | %s |\n", v.Name, code(v.Bytes), messages, v.Limit, v.End)
		if !strings.Contains(table, row) {
			t.Errorf("%s has no row %s", ipctest.ProtocolDocument, row)
		}
	}
}
