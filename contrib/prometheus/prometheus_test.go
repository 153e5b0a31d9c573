// SPDX-License-Identifier: Apache-2.0

package udsipcprom_test

// This file starts a Prometheus, which scrapes a program, and asks it what the dashboard and the rules ask.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A server is a running Prometheus.
type server struct {
	*scene
	address string
	ended   chan struct{} // Closed when the process has ended; output is whole then.
	output  strings.Builder
}

// startPrometheus starts a Prometheus on a free port of loopback. It scrapes the scene four times a second, and ends
// with the test.
func startPrometheus(s *scene, binary string) *server {
	s.Helper()
	page := httptest.NewServer(promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	s.Cleanup(page.Close)
	rules, err := filepath.Abs("alerts.yml")
	s.no(err)
	config := filepath.Join(s.dir, "prometheus.yml")
	s.no(os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}
rule_files: [%q]
scrape_configs:
  - job_name: udsipc
    static_configs: [{targets: [%q]}]
`, rules, page.Listener.Addr().String()), 0o600))
	for range 5 { // The port may be taken by another program meanwhile.
		p := &server{scene: s, address: freePort(s), ended: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, binary, "--config.file="+config, "--web.listen-address="+p.address,
			"--storage.tsdb.path="+filepath.Join(s.dir, "data"), "--log.level=warn")
		cmd.Stdout, cmd.Stderr = &p.output, &p.output
		s.no(cmd.Start())
		go func() { // Ends with the process.
			_ = cmd.Wait()
			close(p.ended)
		}()
		s.Cleanup(func() {
			cancel()
			<-p.ended
		})
		if p.ready() {
			return p
		}
		cancel()
		<-p.ended
		s.Logf("prometheus has ended: %s", p.output.String())
	}
	s.Fatal("prometheus does not start")
	return nil
}

func freePort(s *scene) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.no(err)
	defer l.Close()
	return l.Addr().String()
}

// ready waits until Prometheus is ready; it returns false when it has ended.
func (p *server) ready() (ready bool) {
	p.until("prometheus is ready", func() bool {
		select {
		case <-p.ended:
			return true
		default:
		}
		r, err := http.Get("http://" + p.address + "/-/ready")
		if err != nil {
			return false
		}
		r.Body.Close()
		ready = r.StatusCode == http.StatusOK
		return ready
	})
	return ready
}

// get calls Prometheus' API and decodes what it returns.
func (p *server) get(path string, data any) error {
	r, err := http.Get("http://" + p.address + "/api/v1/" + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %v %s", path, err, body)
	}
	return nil
}

// A series is a result of a query.
type series struct {
	Metric map[string]string
	Value  [2]any
}

// query evaluates an expression now.
func (p *server) query(expr string) ([]series, error) {
	var data struct{ Result []series }
	err := p.get("query?query="+url.QueryEscape(expr), &data)
	return data.Result, err
}

// A dashboardPanel is what is asked of dashboard.json.
type dashboardPanel struct {
	Title   string
	Type    string
	Targets []struct{ Expr string }
}

func dashboard(t *testing.T) (panels []dashboardPanel) {
	t.Helper()
	b, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Panels []dashboardPanel }
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d.Panels
}

// variables are those of the dashboard, as Grafana fills them in for a scrape interval of 250 ms.
var variables = strings.NewReplacer("$__rate_interval", "5s", "$__range", "1m", "$job", "udsipc", "$instance", ".*",
	"$name", ".*")

// TestPrometheus_Dashboard_HasData: each query of each panel returns something of a program in which everything has
// happened. The rules can be evaluated, and an alert comes.
func TestPrometheus_Dashboard_HasData(t *testing.T) {
	t.Parallel()
	binary := tool(t, "prometheus")
	s := newScene(t)
	p := startPrometheus(s, binary)
	p.until("it has scraped twice", func() bool {
		list, err := p.query(`count_over_time(up{job="udsipc"}[1m]) > 1`)
		return err == nil && len(list) > 0
	})
	s.act() // What rises between scrapes has a rate.
	queries := 0
	for _, panel := range dashboard(t) {
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %s asks nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			queries++
			expr := variables.Replace(target.Expr)
			var list []series
			p.until("panel "+panel.Title+" has data: "+expr, func() bool {
				var err error
				if list, err = p.query(expr); err != nil {
					t.Fatalf("panel %s: %v", panel.Title, err)
				}
				return len(list) > 0
			})
		}
	}
	if queries < 50 {
		t.Errorf("the dashboard has %d queries", queries)
	}
	p.checkRules()
	p.checkValues()
}

// checkRules wants each rule to be evaluated without an error, and the alert of the Writer without a reader.
func (p *server) checkRules() {
	p.Helper()
	type rule struct {
		Name, Health, LastError string
		Alerts                  []struct {
			Labels map[string]string
			State  string
		}
	}
	var data struct{ Groups []struct{ Rules []rule } }
	p.until("each rule is evaluated, and UdsipcReaderGone is pending", func() bool {
		p.no(p.get("rules", &data))
		evaluated, pending := 0, false
		for _, r := range data.Groups[0].Rules {
			if r.Health == "err" {
				p.Fatalf("%s: %s", r.Name, r.LastError)
			}
			if r.Health == "ok" {
				evaluated++
			}
			for _, a := range r.Alerts {
				pending = pending || r.Name == "UdsipcReaderGone" && a.Labels["name"] == "lonely" && a.State == "pending"
			}
		}
		return evaluated > 0 && evaluated == len(data.Groups[0].Rules) && pending
	})
}

// checkValues wants Prometheus to have the values of the program.
func (p *server) checkValues() {
	p.Helper()
	for expr, want := range map[string]string{
		`udsipc_writer_messages_acknowledged_total{name="audit"}`:                                   "4",
		`udsipc_writer_queue_messages{name="lonely"}`:                                               "2",
		`udsipc_reader_dead_letters_total{name="ingest"}`:                                           "2",
		`sum(udsipc_writer_delivery_duration_seconds_bucket{name="audit",le="+Inf"})`:               "4",
		`sum(udsipc_rpc_server_calls_total{name="orders",code="panic"})`:                            "2",
		`udsipc_writer_oldest_message_age_seconds{name="lonely"} > bool 0`:                          "1",
		`udsipc_writer_oldest_message_age_seconds{name="audit"}`:                                    "0",
		`histogram_quantile(0.99, sum by (le) (udsipc_reader_handler_duration_seconds_bucket)) < 9`: "",
	} {
		p.until(expr+" is "+want, func() bool {
			list, err := p.query(expr)
			p.no(err)
			return len(list) == 1 && (want == "" || list[0].Value[1] == want)
		})
	}
}
