// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/conform"
	"github.com/udsipc/udsipc/internal/ipctest"
)

func TestMain(m *testing.M) { ipctest.Main(m) }

// line is what a Reader under test prints of a message.
func line(data []byte, redelivered bool) string {
	sum, flag := 0, '-'
	for _, b := range data {
		sum += int(b)
	}
	if redelivered {
		flag = 'r'
	}
	return fmt.Sprintf("%d %d %c %s\n", len(data), sum, flag, data[:min(len(data), 40)])
}

// nap does what the message "sleep 300" asks for.
func nap(data []byte) {
	if string(data) == "sleep 300" {
		time.Sleep(300 * time.Millisecond) // No wait for something: the handler is to take that long.
	}
}

// TestReader_Conforms: this module's Reader passes all cases.
func TestReader_Conforms(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			handled, report := io.Pipe()
			address := ipctest.SocketPath(t)
			if network == "tcp" {
				address = "tcp://127.0.0.1:0"
			}
			r, err := udsipc.NewDeliveryReader(func(_ context.Context, d *udsipc.Delivery) error {
				nap(d.Data)
				_, err := io.WriteString(report, line(d.Data, d.Redelivered))
				return err
			}, address, udsipc.WithMaxMessageSize(1<<20), udsipc.WithReaderErrorCallback(func(error, string) {}))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Start(); err != nil {
				t.Fatal(err)
			}
			var table strings.Builder
			err = conform.Reader(t.Context(), &table, network, r.Addr().String(), conform.Options{Handled: handled})
			report.Close()
			if err != nil {
				t.Errorf("%v\n%s", err, &table)
			}
			if rows := strings.Count(table.String(), "\n"); rows < 30 {
				t.Errorf("%d rows", rows)
			}
			ipctest.Stop(t, r)
		})
	}
}

// TestReader_Mutants_AreNoticed: a Reader with one mistake fails in the case that is about it, and one without passes.
func TestReader_Mutants_AreNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("these take seconds")
	}
	for _, mutant := range []struct {
		mistake mistakes
		failing []string // Parts of the names of cases that fail. Other cases may fail as well.
	}{
		{mistakes{}, nil},
		{mistakes{ackEarly: true}, []string{"before its handler returns"}},
		{mistakes{ackIncomplete: true}, []string{"an incomplete message is not acknowledged"}},
		{mistakes{forgetful: true}, []string{"handled messages are not handled twice", "a cut after every byte"}},
		{mistakes{anyEpoch: true}, []string{"an equal or lower epoch"}},
		{mistakes{anyVersion: true}, []string{"a hello of another version"}},
		{mistakes{unmarked: true}, []string{"messages that may be handled already are marked"}},
		{mistakes{countHeartbeats: true}, []string{"empty messages, and heartbeats"}},
		{mistakes{deliverParts: true}, []string{"the end at every byte of three frames"}},
		{mistakes{noReport: true}, []string{"messages of all prefix sizes"}},
		{mistakes{noHeartbeats: true}, []string{"heartbeats for a writer"}},
		{mistakes{shortPrefixes: true}, []string{"prefixes in a longer form"}},
	} {
		t.Run(fmt.Sprintf("%+v", mutant.mistake), func(t *testing.T) {
			t.Parallel()
			handled, report := io.Pipe()
			m := &model{mistakes: mutant.mistake}
			listener := ipctest.MustListen(t, ipctest.SocketPath(t))
			served := make(chan struct{})
			go func() { defer close(served); m.serve(listener, report) }()
			var table strings.Builder
			err := conform.Reader(t.Context(), &table, "unix", listener.Addr().String(),
				conform.Options{Handled: handled, Timeout: time.Second})
			report.Close()
			listener.Close()
			<-served
			if (err != nil) != (len(mutant.failing) > 0) || err != nil && !errors.Is(err, conform.ErrFailed) {
				t.Errorf("error %v\n%s", err, &table)
			}
			for _, name := range mutant.failing {
				if !failed(table.String(), name) {
					t.Errorf("%q has not failed:\n%s", name, &table)
				}
			}
		})
	}
}

// failed reports whether the case with this part of a name has failed.
func failed(table, name string) bool {
	for row := range strings.Lines(table) {
		if strings.Contains(row, name) && strings.HasSuffix(row, "FAIL\n") {
			return true
		}
	}
	return false
}
