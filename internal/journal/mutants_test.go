// SPDX-License-Identifier: Apache-2.0

package journal_test

// Whether the tests of a spool notice broken code. All mutants are compiled at once; a variable of the environment
// tells a process which one it is.

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// A mutant is a way to break a spool: pieces of one file are replaced by others, in which BROKEN is true for it.
type mutant struct {
	name, file, test string
	pieces           []string // Each followed by what replaces it.
	in               string   // The package of the test, if it is not that of the file.
	more             []string // Another file, and pieces of it.
	hangs            bool     // The test waits in vain.
}

const mutantVariable = "UDSIPC_TEST_MUTANT"

var mutantsFlag = flag.Bool("journal.mutants", false, "break a spool in each way that TestMutants_AreNoticed knows")

var mutants = []mutant{
	{name: "an identity goes on after a loss of power", file: "internal/journal/open.go",
		test: "TestOpen_Ends_DecideIdentity", pieces: []string{
			"case state.Boot != l.config.Boot, state.Boot == [16]byte{}:",
			"case !BROKEN && (state.Boot != l.config.Boot || state.Boot == [16]byte{}):"}},
	{name: "the count of starts is not raised", file: "internal/journal/open.go",
		test: "TestOpen_Ends_DecideIdentity", pieces: []string{
			"\trenewed := !l.goesOn(state, known)\n",
			"\tif BROKEN {\n\t\tl.start--\n\t}\n\trenewed := !l.goesOn(state, known)\n"}},
	{name: "the count of starts is not synced", file: "internal/journal/hints.go",
		test: "TestOpen_PowerLossDuringRecovery_LosesNothing", pieces: []string{
			"return segment.AppendState(dst, generation, state)\n\t}, true)",
			"return segment.AppendState(dst, generation, state)\n\t}, !BROKEN)"}},
	{name: "what is handled is written ahead", file: "internal/journal/sync.go",
		test: "TestLog_Lives_LoseNothingPromised", pieces: []string{
			"\thandled := l.handled\n\tl.mu.Unlock()\n",
			"\thandled := l.handled\n\tl.mu.Unlock()\n\tif BROKEN {\n\t\thandled.Number++\n\t}\n"}},
	{name: "a segment is removed before its last message is handled", file: "internal/journal/handled.go",
		test: "TestLog_Lives_LoseNothingPromised", pieces: []string{
			"if p == last || p.messages(l.unhandledLocked(p)) > 0 {",
			"if n := p.messages(l.unhandledLocked(p)); p == last || n > 1 || n == 1 && !BROKEN {"}},
	{name: "a new name is not synced", file: "internal/journal/begin.go",
		test: "TestLog_Lives_LoseNothingPromised", pieces: []string{
			"if err == nil && l.config.Sync >= 0 {\n\t\terr = l.disk.SyncNames()",
			"if err == nil && l.config.Sync >= 0 && !BROKEN {\n\t\terr = l.disk.SyncNames()"}},
	{name: "the newest segment that was found is not synced", file: "internal/journal/open.go",
		test: "TestOpen_Found_IsSynced", pieces: []string{
			"\t\tl.syncPart(target{newest, file, newest.size, newest.end})\n",
			"\t\tif BROKEN {\n\t\t\tnewest.synced, newest.syncedEnd = newest.size, newest.end\n\t\t} else {\n" +
				"\t\t\tl.syncPart(target{newest, file, newest.size, newest.end})\n\t\t}\n"}},
	{name: "the older segments that were found are not synced", file: "internal/journal/open.go",
		test: "TestOpen_Found_IsSynced", pieces: []string{
			"\tnewest := l.segments[n-1]\n",
			"\tnewest := l.segments[n-1]\n\tfor _, p := range l.segments[:n-1] {\n\t\tif BROKEN {\n" +
				"\t\t\tp.synced, p.syncedEnd = p.size, p.end\n\t\t}\n\t}\n"}},
	{name: "a torn tail is appended to", file: "internal/journal/open.go",
		test: "TestOpen_TornTail_IsCutOff", pieces: []string{
			"\tl.syncFound()\n",
			"\tl.syncFound()\n\tif n := len(l.segments); BROKEN && !renewed && n > 0 {\n\t\tl.active = l.segments[n-1]\n" +
				"\t\tl.active.file, _ = d.Open(l.active.name)\n\t}\n"},
		more: []string{"internal/journal/found.go",
			"\tp.end, p.size = s.end, s.size\n",
			"\tp.end = s.end\n\tif !BROKEN {\n\t\tp.size = s.size\n\t}\n"}},
	{name: "the checksum is not looked at", file: "internal/segment/read.go",
		test: "TestNext_EachBit_LosesItsBatch", in: "internal/journal", pieces: []string{
			"if batchSum(r.seed, b[4:]) != h.sum || !plausible(",
			"if !BROKEN && batchSum(r.seed, b[4:]) != h.sum || !plausible(",
			"if batchSum(r.seed, b[4:]) != h.sum || !whole(",
			"if !BROKEN && batchSum(r.seed, b[4:]) != h.sum || !whole("}},
	{name: "the checksum is without the writer", file: "internal/segment/read.go",
		test: "TestRead_Foreign_IsDamage", pieces: []string{
			"castagnoli), nil\n", "castagnoli), nil\n\tif BROKEN {\n\t\tr.seed = 0\n\t}\n"},
		more: []string{"internal/segment/segment.go",
			"\tseed := crc32.Checksum(b[:len(writer)], castagnoli)\n",
			"\tseed := crc32.Checksum(b[:len(writer)], castagnoli)\n\tif BROKEN {\n\t\tseed = 0\n\t}\n"}},
	{name: "the length is not bounded before it is allocated", file: "internal/segment/read.go",
		test: "TestRead_Length_IsNoReasonToAllocate", pieces: []string{
			"if err := r.checkSum(h, offset); err != nil {", "if err := r.checkSum(h, offset); err != nil && !BROKEN {"}},
	{name: "a sync is tried again", file: "internal/journal/sync.go",
		test: "TestSync_Failed_IsWrittenAgain", pieces: []string{
			"\terr := p.file.Sync()\n",
			"\terr := p.file.Sync()\n\tif BROKEN && err != nil {\n\t\terr = p.file.Sync()\n\t}\n",
			"\t\terr = file.Sync()\n",
			"\t\terr = file.Sync()\n\t\tif BROKEN && err != nil {\n\t\t\terr = file.Sync()\n\t\t}\n"}},
	{name: "the first copy takes the place of all before they are copied", file: "internal/journal/repair.go",
		test: "TestLog_SyncsFail_LoseNothingPromised", pieces: []string{
			"\tfor i, p := range slices.Backward(old) {\n",
			"\tfor i := range old {\n\t\tif !BROKEN {\n\t\t\ti = len(old) - 1 - i\n\t\t}\n\t\tp := old[i]\n"}},
	{name: "a segment is gone on with after another one was begun", file: "internal/journal/begin.go",
		test: "TestAppend_NameNotSynced_LosesNothing", pieces: []string{
			"\t\tl.active = nil\n\t\tl.mu.Unlock()\n\t\tl.abandon(",
			"\t\tif !BROKEN {\n\t\t\tl.active = nil\n\t\t}\n\t\tl.mu.Unlock()\n\t\tl.abandon("}},
	{name: "the numbers do not jump after damage", file: "internal/journal/walk.go",
		test: "TestNext_EachBit_LosesItsBatch", pieces: []string{
			"\tw.offset, w.next = batch.End, batch.Next()\n",
			"\tif BROKEN {\n\t\tbatch.First = w.next\n\t}\n\tw.offset, w.next = batch.End, batch.Next()\n"}},
	{name: "the state is required", file: "internal/journal/open.go",
		test: "TestOpen_Hints_AreNotNeeded", pieces: []string{
			"\t\terr = l.load(state, known, handled)\n",
			"\t\terr = l.load(state, known, handled)\n\t\tif BROKEN && !known && len(l.segments) > 0 {\n" +
				"\t\t\terr = segment.ErrDamaged\n\t\t}\n"}},
	// Of the Writer.
	{name: "the attempt is not raised", file: "spool/session.go",
		test: "TestWriter_Restart_GoesOn", hangs: true, pieces: []string{
			"\tid.First = batch.First\n",
			"\tif BROKEN {\n\t\tid.Attempt = 1\n\t}\n\tid.First = batch.First\n"}},
	{name: "what is sent is taken for handled", file: "spool/session.go",
		test: "TestWriter_ProcessesKilled_HandlesEachOnce", pieces: []string{
			"\ts.bytes += len(frames)\n",
			"\ts.bytes += len(frames)\n\tif BROKEN {\n\t\ts.onHandled(s.next - 1)\n\t}\n"}},
	{name: "the session goes on where the numbers jump", file: "spool/delivery.go",
		test: "TestWriter_Damage_IsReported", hangs: true, pieces: []string{
			"s.id == batch.Writer && s.next == batch.First\n",
			"s.id == batch.Writer && (BROKEN || s.next == batch.First)\n"}},
	{name: "the log is not told what the reader knows", file: "spool/session.go",
		test: "TestWriter_RestoredBackup_GetsNewIdentity", hangs: true, pieces: []string{
			"\trenewed, err := false, error(nil)\n",
			"\trenewed, err := false, error(nil)\n\tif BROKEN {\n\t\tnumber = 0\n\t}\n"}},
	{name: "what was sent before is not marked", file: "spool/session.go",
		test: "TestWriter_ForgetfulReader_GetsRedelivered", pieces: []string{
			"\ts := &session{id: batch.Writer,",
			"\tif BROKEN {\n\t\tid.Sent = id.First - 1\n\t}\n\ts := &session{id: batch.Writer,"}},
}

// TestMutants_Apply: each mutant changes the code as it is now.
func TestMutants_Apply(t *testing.T) {
	texts := map[string]string{}
	for _, m := range mutants {
		m.applyAll(t, texts)
	}
}

// TestMutants_AreNoticed breaks the code in each way, and wants the test of that name to fail.
func TestMutants_AreNoticed(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("compiles three packages; -journal.mutants")
	}
	binaries := compileMutants(t)
	tests := map[string][]string{} // Of each package.
	for _, m := range mutants {
		tests[m.pkg()] = append(tests[m.pkg()], m.test)
	}
	for pkg, names := range tests {
		if output, err := runMutant(t, binaries, pkg, "none", strings.Join(names, "|"), time.Minute); err != nil {
			t.Fatalf("%s fails before anything is broken: %v\n%s", pkg, err, output)
		}
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if m.hangs {
				limit = 5 * time.Second
			}
			output, err := runMutant(t, binaries, m.pkg(), m.name, m.test, limit)
			if err == nil {
				t.Fatal("it was not noticed")
			}
			if !strings.Contains(output, "--- FAIL: "+m.test) && !strings.Contains(output, "panic: ") {
				t.Fatalf("the test did not run: %v\n%s", err, output)
			}
		})
	}
}

// pkg returns the package of the test.
func (m mutant) pkg() string {
	if m.in != "" {
		return m.in
	}
	return path.Dir(m.file)
}

// applyAll changes the files of a mutant.
func (m mutant) applyAll(t *testing.T, texts map[string]string) {
	t.Helper()
	m.apply(t, texts, m.file, m.pieces)
	if len(m.more) > 0 {
		m.apply(t, texts, m.more[0], m.more[1:])
	}
}

// apply changes a file of those that are changed already, or of the tree.
func (m mutant) apply(t *testing.T, texts map[string]string, file string, pieces []string) {
	t.Helper()
	if _, known := texts[file]; !known {
		b, err := os.ReadFile(filepath.Join(ipctest.Root(t), file))
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(b)
	}
	for ; len(pieces) > 0; pieces = pieces[2:] {
		if n := strings.Count(texts[file], pieces[0]); n != 1 {
			t.Fatalf("%s: %s has this %d times, want once:\n%s", m.name, file, n, pieces[0])
		}
		broken := strings.ReplaceAll(pieces[1], "BROKEN", `(mutant == "`+m.name+`")`)
		texts[file] = strings.Replace(texts[file], pieces[0], broken, 1)
	}
}

// compileMutants compiles the tests of the packages with all mutants, and returns the directory.
func compileMutants(t *testing.T) string {
	t.Helper()
	root, dir := ipctest.Root(t), t.TempDir()
	texts := map[string]string{}
	packages := map[string]bool{}
	for _, m := range mutants {
		m.applyAll(t, texts)
		packages[m.pkg()] = true
		texts[path.Dir(m.file)+"/mutant.go"] = "package " + path.Base(path.Dir(m.file)) +
			"\n\nimport \"os\"\n\nvar mutant = os.Getenv(\"" + mutantVariable + "\")\n"
	}
	replace := map[string]string{}
	for name, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		writeFile(t, changed, text)
		replace[filepath.Join(root, name)] = changed
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	arguments := []string{"test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", dir + "/"}
	for pkg := range packages {
		arguments = append(arguments, "./"+pkg)
	}
	cmd := exec.CommandContext(t.Context(), "go", arguments...)
	cmd.Dir = root
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return dir
}

// runMutant runs tests of a package as a mutant.
func runMutant(t *testing.T, binaries, pkg, name, tests string, limit time.Duration) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binaries, path.Base(pkg)+".test"),
		"-test.run=^("+tests+")$", "-test.failfast", "-test.timeout="+limit.String())
	cmd.Dir = filepath.Join(ipctest.Root(t), pkg)
	cmd.Env = append(os.Environ(), mutantVariable+"="+name)
	output, err := cmd.CombinedOutput()
	return string(output), err
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
