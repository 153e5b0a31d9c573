// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc/benchmarks/contender"
)

// parentArgument makes the test binary a process that starts a receiver and waits to be killed.
const parentArgument = "-parent"

func TestMain(m *testing.M) {
	runEnd()
	if len(os.Args) == 3 && os.Args[1] == parentArgument {
		beParent(os.Args[2])
	}
	os.Exit(m.Run())
}

// shortPlan is one round of a few messages.
func shortPlan(t *testing.T) plan {
	return plan{
		rounds: 1, warm: time.Millisecond, throughput: 5 * time.Millisecond, loaded: 5 * time.Millisecond,
		lone: 20 * time.Millisecond, progress: testWriter{t},
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

// TestRound_EachContender_Reports shows that every contender moves messages between two processes,
// as fast as it can and on a schedule, and that both ends report what they have to.
func TestRound_EachContender_Reports(t *testing.T) {
	placements := mustPlace(t)
	p := shortPlan(t)
	for _, c := range contender.All {
		t.Run(c.Name, func(t *testing.T) {
			if c.Missing != "" {
				t.Skip(c.Missing)
			}
			s := mustRun(t, p.job(cell{Contender: c.Name, Kind: throughput, Size: 1 << 10}), placements[0])
			if min(s.NsPerMessage, s.MBPerSecond, s.ProcessorPerMillion, s.SenderMiB, s.ReceiverMiB) <= 0 {
				t.Errorf("a number is missing: %+v", s)
			}
			if c.NoLone {
				return
			}
			j := p.job(cell{Contender: c.Name, Kind: lone, Size: loneSize, Rate: loneRate})
			s = mustRun(t, j, placements[len(placements)-1])
			if s.P50 <= 0 || s.P99 < s.P50 || s.P999 < s.P99 || s.RateKept <= 0 {
				t.Errorf("a number is missing or wrong: %+v", s)
			}
		})
	}
}

func mustPlace(t *testing.T) []placement {
	t.Helper()
	placements, err := place("")
	if err != nil {
		t.Fatal(err)
	}
	return placements
}

func mustRun(t *testing.T, j job, on placement) sample {
	t.Helper()
	s, err := runRound(t.Context(), j, on)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPlan_Run_FillsTablesAndCharts shows that a whole comparison gives each cell a number, in
// every form.
func TestPlan_Run_FillsTablesAndCharts(t *testing.T) {
	p := shortPlan(t)
	p.only = regexp.MustCompile("^(udsipc|Unix datagrams)$")
	c := &comparison{Rounds: 1, Missing: map[string]string{"mangos": "left out"}}
	c.Results = p.run(t.Context(), mustPlace(t)[0])
	if want := len(throughputSizes)*2 - 1 + len(loads)*2 + 2; len(c.Results) != want {
		t.Errorf("%d results, want %d", len(c.Results), want)
	}
	var tables bytes.Buffer
	c.write(&tables)
	for _, want := range []string{"| udsipc |", "| Unix datagrams |", "1 MiB", "90 %", "mangos is missing: left out."} {
		if !strings.Contains(tables.String(), want) {
			t.Errorf("the tables do not have %q:\n%s", want, tables.String())
		}
	}

	name := filepath.Join(t.TempDir(), "results.json")
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	charts := t.TempDir()
	if err := run(t.Context(), flags{draw: name, charts: charts}); err != nil {
		t.Fatal(err)
	}
	for _, chart := range []string{"throughput.svg", "latency.svg"} {
		svg, err := os.ReadFile(filepath.Join(charts, chart))
		if err != nil {
			t.Fatal(err)
		}
		err = xml.Unmarshal(svg, new(struct{ XMLName xml.Name }))
		if err != nil || !bytes.Contains(svg, []byte("Unix datagrams")) {
			t.Errorf("%s: %v, %d bytes", chart, err, len(svg))
		}
	}
}

// TestRound_SenderFails_ReturnsError shows that a round ends at once if one end does.
func TestRound_SenderFails_ReturnsError(t *testing.T) {
	j := shortPlan(t).job(cell{Contender: "Unix datagrams", Kind: throughput, Size: 4 << 20}) // Too large to be sent.
	began := time.Now()
	if _, err := runRound(t.Context(), j, mustPlace(t)[0]); err == nil {
		t.Error("no error")
	}
	if took := time.Since(began); took > aroundRound {
		t.Errorf("it took %v", took)
	}
}

// TestRound_ContextEnds_ReturnsError shows that an interrupt ends both processes.
func TestRound_ContextEnds_ReturnsError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	j := job{Contender: "udsipc", Size: 128, Measure: time.Minute}
	if _, err := runRound(ctx, j, mustPlace(t)[0]); err == nil {
		t.Error("no error")
	}
}

// TestEnd_ParentKilled_Ends shows that an end does not outlive the process that started it.
func TestEnd_ParentKilled_Ends(t *testing.T) {
	parent := exec.Command(os.Args[0], parentArgument, t.TempDir())
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	held, ours, err := os.Pipe() // Both processes hold ours until they end.
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	parent.Stderr = ours
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if _, err := fmt.Fscanln(stdout, new(string)); err != nil { // The receiver is ready.
		t.Error(err)
	}
	parent.Process.Kill()
	parent.Wait()
	held.SetReadDeadline(time.Now().Add(20 * time.Second))
	if said, err := io.ReadAll(held); err != nil {
		t.Errorf("the receiver has not ended: %v; it said %q", err, said)
	}
}

func beParent(dir string) {
	on, err := place("")
	if err != nil {
		exit(err)
	}
	j := job{Contender: "udsipc", Dir: dir, Size: 128, Limit: time.Minute}
	p, err := startEnd(context.Background(), j, on[0].receiver)
	if err != nil {
		exit(err)
	}
	if _, ok := <-p.reports; !ok {
		exit(p.err)
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	os.Exit(1)
}

// TestHistogram_Quantile_Within1Percent compares with the sorted durations.
func TestHistogram_Quantile_Within1Percent(t *testing.T) {
	var all []int64
	h := new(histogram)
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("without durations %v, want 0", got)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		ns := random.Int64N(1 << random.IntN(40))
		all = append(all, ns)
		h.add(ns)
	}
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := float64(all[max(1, int(q*10000))-1])
		if got := h.quantile(q); got > want || got < want*0.99 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	h.add(-5)
	h.add(1<<63 - 1)
}

// TestNow_TwoProcesses_OneClock shows that a child's clock is between two readings of its parent's.
func TestNow_TwoProcesses_OneClock(t *testing.T) {
	j := job{Contender: "one system call a message", Size: 128, Rate: 1000, Measure: 20 * time.Millisecond}
	s := mustRun(t, j, mustPlace(t)[0])
	if s.P50 <= 0.5 || s.P50 > 1e6 {
		t.Errorf("a message took %v µs", s.P50)
	}
}

// TestPlace_CPUs_AreTaken checks the flag -cpus.
func TestPlace_CPUs_AreTaken(t *testing.T) {
	got, err := place("3,1")
	want := []placement{{"A core for each end", 3, 1}, {"Both ends on one core", 3, 3}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := place("2"); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := place("one"); err == nil {
		t.Error("no error")
	}
}
