// SPDX-License-Identifier: Apache-2.0

package udsipc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
)

// TestHandOver has five processes follow one another under Writers at full speed, which must not notice.
func TestHandOver(t *testing.T) {
	t.Parallel()
	const generations = 5
	overAddresses(t, func(t *testing.T, address string) {
		for name, opts := range map[string][]udsipc.WriterOption{
			"plain": nil, "acknowledged": {udsipc.WithAcknowledgements()},
		} {
			t.Run(name, func(t *testing.T) {
				systemd, log := fakeNotify(t, socketPath(t)), newServedLog(t)
				environment := []string{"ADDRESS=" + address, "LOG=" + log.path}
				cmd := systemd.generation(t, environment...)
				torrent, idle := startTorrent(t, address, opts...), startWriter(t, address, opts...)
				if err := idle.WaitConnected(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range generations {
					torrent.progress(t)
					systemd.end(t, cmd, syscall.SIGUSR2)
					if n := len(systemd.names()); n < 3 || n > 4 { // The listener, the memory, and two connections, of which one may still be in the backlog.
						t.Fatalf("%d descriptors are stored: %q", n, systemd.names())
					}
					cmd = systemd.generation(t, environment...)
					until(t, "nothing is stored any more", func() bool { return len(systemd.names()) == 0 })
				}
				torrent.progress(t)
				count := torrent.end(t)
				if m := torrent.w.Metrics(); m.Connections != 1 || m.Retransmitted != 0 {
					t.Errorf("%+v", m)
				}
				if m := idle.Metrics(); m.Connections != 1 || m.LostConnections != 0 {
					t.Errorf("%+v", m)
				}
				stop(t, idle)
				systemd.end(t, cmd, syscall.SIGTERM)
				if repeats := log.numbers(t, count); repeats != 0 {
					t.Errorf("%d repeats", repeats)
				}
			})
		}
	})
}

// TestHandOverOnTheBoundary: a message that has begun is read to its end, and nothing behind it.
func TestHandOverOnTheBoundary(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	cmd := systemd.generation(t, environment...)
	conn := mustDial(t, path)
	stream := frames("hello", strings.Repeat("x", 300_000), "a", "b") // A length of three bytes.

	mustWrite(t, conn, stream[:7]) // "hello" and one byte of the length.
	log.want(t, "hello")
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	systemd.says(t, "STOPPING=1")
	mustWrite(t, conn, stream[7:])
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	log.want(t, "hello", "xxxxxxxx\x00") // The first eight, which count as a number.
	if !slices.ContainsFunc(systemd.names(), func(name string) bool { return strings.HasPrefix(name, "udsipc-plain-") }) {
		t.Fatalf("the connection is not stored: %q", systemd.names())
	}
	cmd = systemd.generation(t, environment...)
	log.want(t, "hello", "xxxxxxxx\x00", "a", "b")
	conn.Close()
	systemd.end(t, cmd, syscall.SIGTERM)
}

// TestHandOverOfAHalf: a message whose rest does not come ends its connection as Stop does.
func TestHandOverOfAHalf(t *testing.T) {
	t.Parallel()
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	cmd := systemd.generation(t, "ADDRESS="+path, "LOG="+log.path)
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello", "never")[:8])
	log.want(t, "hello")
	systemd.end(t, cmd, syscall.SIGUSR2)
	for _, name := range systemd.names() {
		if strings.Contains(name, "plain") {
			t.Errorf("%s is stored", name)
		}
	}
	if said, err := io.ReadAll(conn); len(said) < 2 || said[0] != 0 || err != nil { // The goodbye and the report.
		t.Errorf("% x, %v", said, err)
	}
}

// TestHandOverWithoutMemory: what the next process cannot know costs repeats that are marked, and no message.
func TestHandOverWithoutMemory(t *testing.T) {
	t.Parallel()
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	cmd := systemd.generation(t, environment...)
	torrent := startTorrent(t, path, udsipc.WithAcknowledgements())
	for range 3 {
		torrent.progress(t)
		systemd.end(t, cmd, syscall.SIGUSR2)
		systemd.forget("-memory-")
		cmd = systemd.generation(t, environment...)
	}
	torrent.progress(t)
	count := torrent.end(t)
	systemd.end(t, cmd, syscall.SIGTERM)
	t.Logf("%d messages, %d repeats", count, log.numbers(t, count))
}

// TestHandOverIsKilled in its middle, or right behind it: with acknowledgements nothing is lost.
func TestHandOverIsKilled(t *testing.T) {
	t.Parallel()
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	cmd := systemd.generation(t, environment...)
	torrent := startTorrent(t, path, udsipc.WithAcknowledgements())
	for i := range 20 {
		torrent.progress(t)
		if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			systemd.says(t, "FDSTORE=1\nFDNAME=udsipc-listener.")
		} else {
			systemd.says(t, "FDSTORE=1\nFDNAME=udsipc-session-")
		}
		_ = cmd.Process.Kill() // It may have ended by itself.
		_ = cmd.Wait()
		cmd = systemd.generation(t, environment...)
	}
	torrent.progress(t)
	count := torrent.end(t)
	systemd.end(t, cmd, syscall.SIGTERM)
	t.Logf("%d messages, %d repeats", count, log.numbers(t, count))
}

// TestHandOverKeepsTheBacklog: who connects while no process is there is served by the next one.
func TestHandOverKeepsTheBacklog(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	systemd.end(t, systemd.generation(t, environment...), syscall.SIGUSR2)
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello"))
	cmd := systemd.generation(t, environment...)
	log.want(t, "hello")
	systemd.end(t, cmd, syscall.SIGTERM)
	checkEmpty(t, filepath.Dir(path))
}

// TestHandOverOfAnotherFile: a socket that was put in the place of the old one is not touched, and is an error.
func TestHandOverOfAnotherFile(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	systemd.end(t, systemd.generation(t, "ADDRESS="+path, "LOG="+log.path), syscall.SIGUSR2)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var output strings.Builder
	cmd := systemd.service(t, "collector", "ADDRESS="+path, "LOG="+log.path)
	cmd.Stderr = &output
	if err := cmd.Run(); err == nil || !strings.Contains(output.String(), udsipc.ErrSocketInUse.Error()) {
		t.Errorf("%v: %s", err, output.String())
	}
	if lstat(t, path) == nil {
		t.Error("the other socket is gone")
	}
}

// TestHandOverOfTheWrongKind: what has the name of a connection and is none is reported, and left alone.
func TestHandOverOfTheWrongKind(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	for _, name := range []string{"plain", "listener.1.2.3", "memory"} {
		file, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		systemd.put(storedFile{"udsipc-" + name + "-" + path, file})
	}
	var output strings.Builder
	cmd := systemd.service(t, "collector", "ADDRESS="+path, "LOG="+log.path)
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	systemd.says(t, "READY=1")
	send(t, path, "hello")
	log.want(t, "hello")
	systemd.end(t, cmd, syscall.SIGTERM)
	if !strings.Contains(output.String(), "character device") {
		t.Error(output.String())
	}
}

// TestHandOverOfASlowReader: what is already buffered may take long to handle; the connection is handed over all the same.
func TestHandOverOfASlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	path := socketPath(t)
	var handled atomic.Int64
	r := startReader(t, func([]byte) error {
		if handled.Add(1) > 2000 {
			time.Sleep(20 * time.Millisecond) // Some 80 messages are buffered.
		}
		return nil
	}, path)
	torrent := startTorrent(t, path)
	until(t, "the buffer is full", func() bool { return handled.Load() > 2010 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.HandOver(ctx); err != nil {
		t.Error(err)
	}
	if m := r.Metrics(); m.HandedOver != 1 {
		t.Errorf("the connection was not handed over: %+v", m)
	}
	torrent.cancel()
	await(t, "the end of writing", torrent.count)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = torrent.w.Stop(ended) // Nobody follows.
}

// TestStartFailsAfterHandOver: the process after that one still finds everything.
func TestStartFailsAfterHandOver(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	cmd := systemd.generation(t, environment...)
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello"))
	log.want(t, "hello")
	systemd.end(t, cmd, syscall.SIGUSR2)
	mustWrite(t, conn, frames("second"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	failing := systemd.service(t, "collector", environment...)
	failing.Stderr = nil
	if err := failing.Run(); err == nil {
		t.Error("the Reader has started")
	}
	l.Close()
	cmd = systemd.generation(t, environment...)
	log.want(t, "hello", "second")
	systemd.end(t, cmd, syscall.SIGTERM)
}

// TestHandOverToAnotherAddress: the next process listens where it is told to, and serves who waited at the old one.
func TestHandOverToAnotherAddress(t *testing.T) {
	t.Parallel()
	for name, addresses := range map[string][2]string{
		"tcp": {tcpAddress(t), tcpAddress(t)}, "unix": {socketPath(t), socketPath(t)}, "abstract": {abstractName(t), abstractName(t)},
	} {
		t.Run(name, func(t *testing.T) {
			systemd, log := fakeNotify(t, socketPath(t)), newServedLog(t)
			cmd := systemd.generation(t, "ADDRESS="+addresses[0], "LOG="+log.path, "NAME=x")
			systemd.end(t, cmd, syscall.SIGUSR2)
			mustWrite(t, mustDial(t, addresses[0]), frames("waited"))
			cmd = systemd.generation(t, "ADDRESS="+addresses[1], "LOG="+log.path, "NAME=x")
			log.want(t, "waited")
			send(t, addresses[1], "hello")
			log.want(t, "waited", "hello")
			systemd.end(t, cmd, syscall.SIGTERM)
		})
	}
}

// TestHandOverWithoutTheFile: systemd removes RuntimeDirectory= at a restart; who had connected before is served.
func TestHandOverWithoutTheFile(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
	systemd.end(t, systemd.generation(t, environment...), syscall.SIGUSR2)
	mustWrite(t, mustDial(t, path), frames("waited"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	cmd := systemd.generation(t, environment...)
	log.want(t, "waited")
	send(t, path, "hello")
	log.want(t, "waited", "hello")
	systemd.end(t, cmd, syscall.SIGTERM)
}

// TestHandOverToAStoreThatIsTooSmall becomes a Stop, whether the limit is known or not: no message is lost.
func TestHandOverToAStoreThatIsTooSmall(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "not known": false} {
		t.Run(name, func(t *testing.T) {
			const limit, connections = 6, 20
			systemd := fakeNotify(t, socketPath(t))
			systemd.limitTo(limit)
			t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
			if known {
				t.Setenv("FDSTORE", strconv.FormatInt(udsipc.Slots()+limit, 10))
			}
			path := socketPath(t)
			errs := collect()
			var received atomic.Int64
			r := startReader(t, func([]byte) error { received.Add(1); return nil }, path, udsipc.WithReaderErrorCallback(errs.callback))
			for range connections {
				mustWrite(t, mustDial(t, path), frames("x"))
			}
			until(t, "all are there", func() bool { return received.Load() == connections })
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			errs.want(t, udsipc.ErrStoreFull)
			m, names := r.Metrics(), systemd.names()
			if known && (m.HandedOver != limit-3 || len(names) != limit-1) || !known && m.HandedOver != 0 {
				t.Errorf("%d were handed over; %q are stored", m.HandedOver, names)
			}
			if !known {
				until(t, "all is forgotten", func() bool { return len(systemd.names()) == 0 })
				checkEmpty(t, filepath.Dir(path))
			}
			if known {
				return
			}
			next := startReader(t, ignore, path) // Nothing keeps it from that.
			stop(t, next)
		})
	}
}

// TestForeignDescriptors in the store are the program's own.
func TestForeignDescriptors(t *testing.T) {
	for _, name := range []string{"", "NAME=collector"} {
		systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
		file, err := os.CreateTemp(t.TempDir(), "state")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", path+"passed")
		if err != nil {
			t.Fatal(err)
		}
		systemd.put(storedFile{"state", file})
		environment := []string{"ADDRESS=" + path, "LOG=" + log.path}
		if name == "" {
			environment[0] += "unused"
			systemd.put(storedFile{"udsipc-collector.socket", fileOf(t, l.(*net.UnixListener))})
			path += "passed"
		} else {
			environment = append(environment, name)
		}
		cmd := systemd.generation(t, environment...)
		send(t, path, "hello")
		log.want(t, "hello")
		systemd.end(t, cmd, syscall.SIGTERM)
		l.Close()
	}
}

// TestReclaim: a connection that was left is of no use once its writer has connected again.
func TestReclaim(t *testing.T) {
	if err := udsipc.ReclaimAfterAnother(); !errors.Is(err, udsipc.ErrInvalidSession) {
		t.Error(err)
	}
}

// TestWhatNobodyTakesCanBeClosed: connections that were left for a Reader of another name.
func TestWhatNobodyTakesCanBeClosed(t *testing.T) {
	systemd, log, path := fakeNotify(t, socketPath(t)), newServedLog(t), socketPath(t)
	cmd := systemd.generation(t, "ADDRESS="+path, "LOG="+log.path, "NAME=old")
	conn := mustDial(t, path)
	mustWrite(t, conn, frames("hello"))
	log.want(t, "hello")
	systemd.end(t, cmd, syscall.SIGUSR2)
	cmd = systemd.generation(t, "ADDRESS="+socketPath(t), "LOG="+log.path, "NAME=new", "CLOSE=yes")
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is still open: %v", err)
	}
	log.want(t, "hello", "listener.", "plain-old", "memory-ol")
	until(t, "nothing is stored any more", func() bool { return len(systemd.names()) == 0 })
	systemd.end(t, cmd, syscall.SIGTERM)
}

// TestHandOverThatCannotBe is a Stop, and says so.
func TestHandOverThatCannotBe(t *testing.T) {
	path := socketPath(t)
	for name, test := range map[string]struct {
		prepare func(t *testing.T)
		address string
		opts    []udsipc.ReaderOption
	}{
		"no systemd":             {func(t *testing.T) { t.Setenv("NOTIFY_SOCKET", "") }, path, nil},
		"a systemd that is gone": {func(t *testing.T) { t.Setenv("NOTIFY_SOCKET", path+"-gone") }, path, nil},
		"WithoutSystemd":         {func(*testing.T) {}, path, []udsipc.ReaderOption{udsipc.WithoutSystemd()}},
		"a full store":           {func(t *testing.T) { t.Setenv("FDSTORE", "0") }, path, nil},
		"a name too long":        {func(*testing.T) {}, path, []udsipc.ReaderOption{udsipc.WithSystemdName(strings.Repeat("ä", 60))}},
	} {
		t.Run(name, func(t *testing.T) {
			systemd := fakeNotify(t, socketPath(t))
			t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
			test.prepare(t)
			errs := collect()
			got := make(chan string, 1)
			r := startReader(t, func(data []byte) error { got <- string(data); return nil }, test.address,
				append(test.opts, udsipc.WithReaderErrorCallback(errs.callback))...)
			w := startWriter(t, path)
			mustWriteMessage(t, w, "hello")
			await(t, "the message", got)
			if err := r.HandOver(t.Context()); err != nil {
				t.Error(err)
			}
			var op *udsipc.OpError
			if err := await(t, "a report", errs.events); !errors.As(err, &op) {
				t.Error(err)
			} else if name != "a systemd that is gone" && op.Op != udsipc.OpHandOver {
				t.Error(err)
			}
			if len(systemd.names()) != 0 {
				t.Errorf("%q are stored", systemd.names())
			}
			checkEmpty(t, filepath.Dir(path))
			if m := r.Metrics(); m.Connections != 0 || m.HandedOver != 0 {
				t.Errorf("%+v", m)
			}
			if err := r.HandOver(t.Context()); err != nil { // Again.
				t.Error(err)
			}
		})
	}
}

// TestHandOverEndsTLS gracefully: its keys live in the process.
func TestHandOverEndsTLS(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	server, client := newAuthority(t).configs(t)
	path, errs := socketPath(t), collect()
	got := make(chan string, 10)
	r := startReader(t, func(data []byte) error { got <- string(data); return nil }, path, udsipc.WithTLS(server), udsipc.WithReaderErrorCallback(errs.callback))
	w := startWriter(t, path, udsipc.WithTLS(client))
	mustWriteMessage(t, w, "hello")
	await(t, "the message", got)
	if err := r.HandOver(t.Context()); err != nil {
		t.Error(err)
	}
	if err := await(t, "a report", errs.events); !strings.Contains(err.Error(), "TLS") {
		t.Error(err)
	}
	if m := r.Metrics(); m.HandedOver != 0 || len(systemd.names()) != 2 {
		t.Errorf("%q are stored: %+v", systemd.names(), m)
	}
	until(t, "the Writer has noticed", func() bool { return w.Metrics().LostConnections == 1 })
	if m := w.Metrics(); m.PossiblyLost != 0 {
		t.Errorf("%+v", m)
	}
}

// TestHandOverReturnsWithItsContext although a handler is stuck.
func TestHandOverReturnsWithItsContext(t *testing.T) {
	systemd := fakeNotify(t, socketPath(t))
	t.Setenv("NOTIFY_SOCKET", systemd.conn.LocalAddr().String())
	path, release, entered := socketPath(t), make(chan struct{}), make(chan struct{})
	r := startReader(t, func([]byte) error { close(entered); <-release; return nil }, path)
	mustWrite(t, mustDial(t, path), frames("hello"))
	await(t, "the handler", entered)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := r.HandOver(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	close(release)
}

func FuzzParseLegacy(f *testing.F) {
	for _, seed := range udsipc.LegacySeeds() {
		f.Add(seed)
	}
	f.Add([]byte{})
	f.Add(binary.AppendUvarint([]byte{1}, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, err := udsipc.ParseLegacy(b)
		if err != nil {
			return
		}
		if third, err := udsipc.ParseLegacy(again); err != nil || !slices.Equal(again, third) {
			t.Errorf("% x becomes % x becomes % x, %v", b, again, third, err)
		}
	})
}
