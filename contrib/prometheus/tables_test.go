// SPDX-License-Identifier: Apache-2.0

package udsipcprom

// This file is in the package, because the tables are not exported.

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/udsipc/udsipc"
)

// fields returns the number of a snapshot's numbers, after giving each a value of its own. Those of inner structs have
// tables of their own.
func fields(v reflect.Value, next *uint64) {
	for i := range v.NumField() {
		f := v.Field(i)
		*next++
		switch f.Kind() {
		case reflect.Uint64:
			f.SetUint(*next)
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(*next))
			if f.Type().String() == "time.Duration" {
				f.SetInt(int64(*next) * 1e9)
			}
		case reflect.Bool:
			f.SetBool(true)
			*next = max(*next, 1)
		case reflect.Struct:
			if summary, ok := f.Addr().Interface().(*udsipc.LatencySummary); ok {
				summary.Count = *next
			} else {
				*next--
			}
		}
	}
}

// checkTable has each field of M be the value of one metric.
func checkTable[M any](t *testing.T, table table[M]) {
	t.Helper()
	var m M
	last := uint64(1) // 1 is true.
	fields(reflect.ValueOf(&m).Elem(), &last)
	ch := make(chan prometheus.Metric, 1000)
	table.collect(ch, m, "kind", "name")
	close(ch)
	var got []uint64
	for metric := range ch {
		var out dto.Metric
		if err := metric.Write(&out); err != nil {
			t.Fatal(err)
		}
		got = append(got, uint64(out.GetCounter().GetValue()+out.GetGauge().GetValue())+out.GetHistogram().GetSampleCount())
	}
	slices.Sort(got)
	for want := uint64(2); want <= last; want++ {
		if n := countOf(got, want); n != 1 && !(isBool(m, want-2) && countOf(got, 1) == 1) {
			t.Errorf("%T: field %d (of those that are numbers) is in %d metrics", m, want-2, n)
		}
	}
}

func countOf(list []uint64, v uint64) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// isBool reports whether the field with this number is a bool.
func isBool(m any, number uint64) bool {
	v, n := reflect.ValueOf(m), uint64(0)
	for i := range v.NumField() {
		if _, summary := v.Field(i).Interface().(udsipc.LatencySummary); v.Field(i).Kind() == reflect.Struct && !summary {
			continue
		}
		if n == number {
			return v.Field(i).Kind() == reflect.Bool
		}
		n++
	}
	return false
}

// TestTables_HaveEveryField of the library's snapshots, once.
func TestTables_HaveEveryField(t *testing.T) {
	checkTable(t, writerTable())
	checkTable(t, readerTable())
	checkTable(t, spoolTable())
	checkTable(t, serverTable())
	checkTable(t, clientTable())
}

// TestDocs_HaveEveryMetric, and no other.
func TestDocs_HaveEveryMetric(t *testing.T) {
	page, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	ch := make(chan *prometheus.Desc, 1000)
	NewCollector().Describe(ch)
	close(ch)
	known := map[string]bool{}
	for d := range ch {
		known[names.FindStringSubmatch(d.String())[1]] = true
	}
	told := map[string]bool{}
	for _, cell := range regexp.MustCompile("(?m)^\\| `(udsipc_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		told[cell[1]] = true
		if !known[cell[1]] {
			t.Errorf("docs/METRICS.md has %s, which does not exist", cell[1])
		}
	}
	for name := range known {
		if !told[name] {
			t.Errorf("docs/METRICS.md does not have %s", name)
		}
	}
	alerts, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		if !strings.Contains(string(page), "| `"+alert[1]+"` |") {
			t.Errorf("docs/METRICS.md does not tell what to do for %s", alert[1])
		}
	}
}
