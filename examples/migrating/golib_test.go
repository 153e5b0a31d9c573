// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package migrating_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
)

// listen returns a Listener as uds.NewServer makes it, and starts serve for each connection: the loop of
// golib's servers, for conn := range server.Conn().
func listen(path string, serve func(conn *udsipc.Conn)) *udsipc.Listener {
	listener, err := udsipc.Listen(path,
		udsipc.WithSocketOwner(os.Getuid(), os.Getgid()),
		udsipc.WithSocketMode(0o770),
		udsipc.WithAuthorizer(udsipc.SameUser())) // Or look at conn.Peer().Credentials.
	must(err)
	go func() { // Ends when the Listener is closed.
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			must(err)
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener
}

// The server writes lines, and the client copies them to its output until the end: golib's
// ipc/uds/example/server and ipc/uds/example/client.
func Example_bytes() {
	ctx, path, remove := place()
	defer remove()
	listener := listen(path, func(conn *udsipc.Conn) {
		if c := conn.Peer().Credentials; c == nil || c.UID != os.Getuid() { // There: conn.Cred.UID.
			log.Fatal("who is that?")
		}
		for i := range 3 {
			if _, err := fmt.Fprintf(conn.Stream(), "line %d\n", i); err != nil {
				return // The client has gone.
			}
		}
	})
	defer listener.Close()

	conn, err := udsipc.Dial(ctx, path, udsipc.WithAuthorizer(udsipc.AllowUIDs(os.Getuid())))
	must(err)
	_, err = io.Copy(os.Stdout, conn.Stream())
	must(err)
	must(conn.Close())
	// Output:
	// line 0
	// line 1
	// line 2
}

// The client expects another server than the one that listens. There the owner of the file counts, here the
// user of the process.
func Example_otherServer() {
	ctx, path, remove := place()
	defer remove()
	listener := listen(path, func(*udsipc.Conn) {})
	defer listener.Close()

	_, err := udsipc.Dial(ctx, path, udsipc.WithAuthorizer(udsipc.AllowUIDs(os.Getuid()+1)))
	fmt.Println(errors.Is(err, udsipc.ErrUnauthorized))
	// Output: true
}

type word struct{ Word string }

type sum struct{ Sum []string }

// The client streams words, and the server returns the last ten each time: golib's
// json/stream/example.
func Example_jsonStream() {
	ctx, path, remove := place()
	defer remove()
	words, sums := codec.JSON[word](), codec.JSON[sum]()
	listener := listen(path, func(conn *udsipc.Conn) {
		out, last := codec.NewWriter(conn, sums), sum{}
		for w, err := range codec.Messages(conn, words) {
			if err != nil {
				return
			}
			if last.Sum = append(last.Sum, w.Word); len(last.Sum) == 10 {
				must(out.Write(last)) // Queued: the loop goes on.
				last.Sum = nil
			}
		}
	})
	defer listener.Close()

	conn, err := udsipc.Dial(ctx, path)
	must(err)
	out, in := codec.NewWriter(conn, words), codec.NewReader(conn, sums)
	for i := range 20 {
		must(out.Write(word{fmt.Sprint("w", i)}))
	}
	for range 2 {
		s, err := in.Read() // There: streamer.Read(&s).
		must(err)
		fmt.Println("Sum message:", strings.Join(s.Sum, " "))
	}
	must(conn.Close())
	// Output:
	// Sum message: w0 w1 w2 w3 w4 w5 w6 w7 w8 w9
	// Sum message: w10 w11 w12 w13 w14 w15 w16 w17 w18 w19
}

// A time limit for one read: there ReadTimeout before each Read, here a deadline that stays. What was not
// read in time is not lost.
func Example_readTimeout() {
	ctx, path, remove := place()
	defer remove()
	words, now := codec.JSON[word](), make(chan struct{})
	listener := listen(path, func(conn *udsipc.Conn) {
		<-now
		must(codec.NewWriter(conn, words).Write(word{"late"}))
	})
	defer listener.Close()

	conn, err := udsipc.Dial(ctx, path)
	must(err)
	in := codec.NewReader(conn, words)
	must(conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = in.Read()
	fmt.Println("timed out:", errors.Is(err, os.ErrDeadlineExceeded))

	close(now)
	must(conn.SetReadDeadline(time.Time{}))
	fmt.Println(in.Read())
	_, err = in.Read()
	fmt.Println("the server has closed the connection:", errors.Is(err, io.EOF))
	must(conn.Close())
	// Output:
	// timed out: true
	// {late} <nil>
	// the server has closed the connection: true
}

// Chunks: a Conn has messages by itself. A message over the limit costs itself, not the connection.
func Example_chunks() {
	ctx, path, remove := place()
	defer remove()
	listener := listen(path, func(conn *udsipc.Conn) {
		for data, err := range conn.Messages() {
			if err != nil || conn.WriteMessage(bytes.Repeat(data, 3)) != nil {
				return
			}
		}
	})
	defer listener.Close()

	conn, err := udsipc.Dial(ctx, path, udsipc.WithMaxMessageSize(16)) // There: chunk.MaxSize.
	must(err)
	fmt.Println(errors.Is(conn.WriteMessage(make([]byte, 17)), udsipc.ErrMessageTooLarge))
	for _, chunk := range []string{"abc", "too large", "", "def"} { // There, an empty chunk is not sent.
		must(conn.WriteMessage([]byte(chunk)))
	}
	for range 4 {
		data, err := conn.ReadMessage() // Valid until the next call; there is nothing to recycle.
		if tooLarge := (*udsipc.TooLargeError)(nil); errors.As(err, &tooLarge) {
			fmt.Println("skipped")
			continue // There, the connection is closed.
		}
		must(err)
		fmt.Printf("%q\n", data)
	}
	must(conn.Close())
	// Output:
	// true
	// "abcabcabc"
	// skipped
	// ""
	// "defdefdef"
}
