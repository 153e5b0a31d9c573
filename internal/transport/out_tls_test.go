// SPDX-License-Identifier: Apache-2.0

package transport_test

// A sending connection over TLS.

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/transport"
)

// tlsPipe returns the ends of TLS over a connection in memory, after the handshake, and the end beneath the client.
// It must be called in a bubble.
func tlsPipe(t *testing.T) (server, client, far net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	config := tlsConfig(t)
	server, client = transport.NewTLSServer(near, config), transport.NewTLSClient(far, config)
	done := make(chan error, 1)
	go func() { // Ends with the handshake.
		_, err := tlsHandshake(t.Context(), client)
		_, _ = client.Read(make([]byte, 1)) // What else belongs to the handshake.
		done <- err
	}()
	if _, err := tlsHandshake(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return server, client, far
}

// TestOut_TLS_WritesWithoutDeadline, which would break it, and reports each time that a write has waited for it.
func TestOut_TLS_WritesWithoutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, _ := tlsPipe(t)
		o := transport.NewOut(server, time.Second)
		if !o.IsTLS() || o.IsResumable() {
			t.Error("TLS goes on after a timeout")
		}
		told := make(chan time.Time, 9)
		o.OnSlowWrite(func() { told <- time.Now() })
		time.Sleep(2 * time.Hour) // Nothing is written.
		write := func(after time.Duration) (began time.Time) {
			t.Helper()
			began = time.Now()
			time.AfterFunc(after, func() { _, _ = io.ReadFull(client, make([]byte, 3)) })
			if n, err := o.Write(bufs("\x02ab")); n != 3 || err != nil || time.Since(began) != after {
				t.Errorf("%d bytes, %v after %v", n, err, time.Since(began))
			}
			time.Sleep(500 * time.Millisecond)
			return began
		}
		began := write(3500 * time.Millisecond)
		for i := range 3 {
			if got, want := (<-told).Sub(began), time.Duration(i+1)*time.Second; got != want {
				t.Errorf("a slow write is reported after %v, want %v", got, want)
			}
		}
		for range 3 {
			write(999 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		if len(told) > 0 {
			t.Error("a write within its time is reported")
		}
		if waited, err := o.AfterTimeout(0, os.ErrDeadlineExceeded); waited || err != os.ErrDeadlineExceeded {
			t.Error(waited, err)
		}
	})
}

// TestOut_TLSGoodbye_DoesNotCutWrite: a write in progress comes to its end, the next one is refused, and
// the end of the stream is announced.
func TestOut_TLSGoodbye_DoesNotCutWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client, far := tlsPipe(t)
		o := transport.NewOut(server, time.Second)
		woken := make(chan struct{}, 2)
		go o.ReadLoop(func() { woken <- struct{}{} })
		written := make(chan error, 1)
		go func() { // Ends when it is read.
			_, err := o.Write(bufs("\x02ab"))
			written <- err
		}()
		synctest.Wait()
		if _, err := client.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		<-woken
		if !o.IsWriteStopped() || len(written) > 0 {
			t.Errorf("stopped %v, %d writes have returned", o.IsWriteStopped(), len(written))
		}
		if _, err := io.ReadFull(client, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		o.Completed(1)
		if _, err := o.Write(bufs("\x01c")); err != transport.ErrGracefulEnd {
			t.Error(err)
		}
		go func() { // Ends with its steps.
			if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF || !transport.EndedByNotify(client) {
				t.Errorf("%d bytes, %v; announced %v", n, err, transport.EndedByNotify(client))
			}
			far.Close()
		}()
		if end := o.CloseAndAccount(nil, nil); end.Lost != 1 || end.Reported { // TLS does not tell what was read.
			t.Errorf("%+v", end)
		}
	})
}

// TestOut_UnfinishedTLS_HalfClosesBeneath: without a handshake, TLS has no way to announce the end.
func TestOut_UnfinishedTLS_HalfClosesBeneath(t *testing.T) {
	client, server := tcpPair(t)
	o := transport.NewOut(transport.NewTLSClient(client, tlsConfig(t)), time.Second)
	abort := make(chan struct{})
	ended := make(chan transport.Outcome, 1)
	go func() { ended <- o.CloseGracefully(abort) }() // Ends with abort.
	if n, err := server.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	close(abort)
	if end := <-ended; !errors.Is(end.Cause, transport.ErrGracefulEnd) {
		t.Errorf("%+v", end)
	}
	o.Close()
}

// TestCloseWriteWithin_UnreadTLS_TimesOut: the close_notify waits for a peer that reads.
func TestCloseWriteWithin_UnreadTLS_TimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _, far := tlsPipe(t)
		began := time.Now()
		err := transport.CloseWriteWithin(server, 3*time.Second)
		if !errors.Is(err, udsipc.ErrBackpressure) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		far.Close()
		synctest.Wait()
		server, client, _ := tlsPipe(t)
		go io.Copy(io.Discard, client) // Ends with the announcement.
		if err := transport.CloseWriteWithin(server, time.Second); err != nil || !transport.EndedByNotify(client) {
			t.Error(err)
		}
	})
}

// TestEndSending_TLS_AnnouncesTheEnd, and ends the sending side of TCP beneath.
func TestEndSending_TLS_AnnouncesTheEnd(t *testing.T) {
	near, far := tcpPair(t)
	config := tlsConfig(t)
	server, client := transport.NewTLSServer(near, config), transport.NewTLSClient(far, config)
	done := make(chan error, 1)
	go func() { // Ends with the handshake.
		_, err := tlsHandshake(t.Context(), client)
		done <- err
	}()
	if _, err := tlsHandshake(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	transport.EndSending(server)
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF || !transport.EndedByNotify(client) {
		t.Errorf("%d bytes, %v; announced %v", n, err, transport.EndedByNotify(client))
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("beneath: %d bytes, %v", n, err)
	}
}
