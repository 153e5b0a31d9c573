// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
)

// tool returns the path of a program of Debian's package prometheus. Without it the test is skipped, but never in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("there is no %s, which CI must have (bash .ci/run tools): %v", name, err)
	}
	t.Skipf("there is no %s: install Prometheus (Debian's package prometheus), or run bash .ci/run tools", name)
	return ""
}

// promtool runs promtool, which must succeed.
func promtool(t *testing.T, input []byte, args ...string) (output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestPromtool_Metrics_FollowConventions: names, units, types and help texts.
func TestPromtool_Metrics_FollowConventions(t *testing.T) {
	t.Parallel()
	tool(t, "promtool")
	s := newScene(t)
	families, err := s.registry.Gather()
	s.no(err)
	var page bytes.Buffer
	for _, family := range families {
		_, err := expfmt.MetricFamilyToText(&page, family)
		s.no(err)
	}
	if !strings.Contains(page.String(), "udsipc_writer_messages_sent_total{") || strings.Contains(page.String(), " # {") {
		t.Errorf("no metrics, or with exemplars:\n%s", page.String())
	}
	if out := promtool(t, page.Bytes(), "check", "metrics"); out != "" {
		t.Error(out)
	}
}

// TestPromtool_Alerts_Fire when they should, and not before.
func TestPromtool_Alerts_Fire(t *testing.T) {
	t.Parallel()
	promtool(t, nil, "check", "rules", "alerts.yml")
	promtool(t, nil, "test", "rules", "alerts_test.yml")
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(rules), "\n") {
		if _, name, ok := strings.Cut(line, "- alert: "); ok && !strings.Contains(string(tests), "alertname: "+name+"\n") {
			t.Errorf("%s has no test in alerts_test.yml", name)
		}
	}
}
