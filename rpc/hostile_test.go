// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rpc_test

// Clients that mean harm to servers of packages rpc and duplex, as processes of their own, beside honest clients:
//
//	go test ./rpc -run TestHostileConversations -hostile.time 10s -v

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
)

// A hostileKind is what each connection of a process does. It returns when there is nothing more to
// do; the connection stays open until the process ends, unless more of the kind come one after the
// other.
type hostileKind struct {
	name        string
	connections int
	duplex      bool // To the server of package duplex.
	again       bool // Connections one after the other, instead of all at once.
	attack      func(conn net.Conn)
}

var hostileKinds = []hostileKind{
	{"asks for 1 MiB each time, never reads", 1, false, false, func(conn net.Conn) { forever(conn, asks) }},
	{"five that do", 5, false, false, func(conn net.Conn) { forever(conn, asks) }},
	{"sends 1 MiB each time, never reads", 5, false, false, func(conn net.Conn) {
		data := make([]byte, 1<<20)
		forever(conn, func(n uint64) []byte { return rawCall(n, "echo", data) })
	}},
	{"opens 10,000 streams", 1, false, false, func(conn net.Conn) {
		for id := range uint64(10_000) {
			conn.Write(rawOpen(id+1, "unread", 1<<20))
		}
		io.Copy(io.Discard, conn)
	}},
	{"gives too much credit, never reads", 1, false, false, func(conn net.Conn) {
		forever(conn, func(n uint64) []byte {
			id := 1 + n/4
			if n%4 == 0 {
				return rawOpen(id, "flood", math.MaxUint64)
			}
			return rawMessage(8, id, binary.AppendUvarint(nil, []uint64{64 << 20, math.MaxUint64, 1 << 40}[n%3])...)
		})
	}},
	{"sends beyond the window", 1, false, false, func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		message := append(binary.AppendUvarint(nil, 100_000), make([]byte, 100_000)...)
		forever(conn, func(n uint64) []byte {
			if n%40 == 0 {
				return rawOpen(1+n/40, "unread", 1<<20)
			}
			return rawMessage(7, 1+n/40, message...)
		})
	}},
	{"opens streams without a window", 1, false, false, func(conn net.Conn) {
		for id := range uint64(1000) {
			conn.Write(rawOpen(id+1, "flood", 0))
		}
		io.Copy(io.Discard, conn)
	}},
	{"cancels at random", 2, false, false, func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		forever(conn, func(n uint64) []byte {
			switch rand.IntN(4) {
			case 0:
				return rawCall(n, "wait", nil)
			case 1:
				return rawOpen(n, "unread", 1<<20)
			}
			return rawMessage(4, n-uint64(rand.IntN(10)))
		})
	}},
	{"names of 9 MB", 2, false, false, func(conn net.Conn) {
		name := strings.Repeat("n", 9<<20)
		forever(conn, func(n uint64) []byte { return rawCall(n, name, nil) })
	}},
	{"ends the goroutines of handlers", 2, false, false, func(conn net.Conn) {
		go io.Copy(io.Discard, conn)
		forever(conn, func(n uint64) []byte {
			switch n % 3 {
			case 0:
				return rawCall(n, "goexit", nil)
			case 1:
				return rawOpen(n, "goexit stream", 1<<20)
			}
			return rawFrame(append([]byte{5, 6}, "goexit"...))
		})
	}},
	{"garbage in each field", 1, false, true, func(conn net.Conn) {
		for range 1 + rand.IntN(5) {
			conn.Write(garbage())
		}
		conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		io.Copy(io.Discard, conn)
	}},
	{"duplex: never reads the answers", 5, true, false, func(conn net.Conn) {
		data := make([]byte, 100_000)
		forever(conn, func(uint64) []byte { return rawFrame(data) })
	}},
	{"duplex: ends the goroutine of the handler", 2, true, false, func(conn net.Conn) {
		forever(conn, func(uint64) []byte { return rawFrame([]byte("\x01goexit")) })
	}},
	{"duplex: types that are none", 1, true, true, func(conn net.Conn) {
		conn.Write(rawFrame(nasty()))
		conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		io.Copy(io.Discard, conn)
	}},
}

// asks calls a method with a large response.
func asks(n uint64) []byte { return rawCall(n, "large", nil) }

// forever writes messages until the connection ends, or the process.
func forever(conn net.Conn, message func(n uint64) []byte) {
	for n := uint64(1); ; n++ {
		if _, err := conn.Write(message(n)); err != nil {
			return
		}
	}
}

// rawMessage is a message about a call.
func rawMessage(kind byte, id uint64, rest ...byte) []byte {
	return rawFrame(append(binary.AppendUvarint([]byte{kind}, id), rest...))
}

// nasty is a number that is none, or one that is not expected.
func nasty() []byte {
	switch rand.IntN(5) {
	case 0:
		return nil
	case 1:
		return []byte{0x80}
	case 2:
		return []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f") // More than 64 bits.
	case 3:
		return binary.AppendUvarint(nil, math.MaxUint64)
	}
	return binary.AppendUvarint(nil, rand.Uint64()>>rand.IntN(64))
}

// garbage is a message of some type with a bad field.
func garbage() []byte {
	fields := [][]byte{{byte(rand.IntN(12))}, {byte(1 + rand.IntN(3))}, {0}, {4}, []byte("echo"), {1}, []byte("data")}
	if rand.IntN(2) == 0 {
		fields[3], fields[4] = []byte{6}, []byte("stream")
	}
	fields[rand.IntN(len(fields))] = nasty()
	var body []byte
	for _, field := range fields[:1+rand.IntN(len(fields))] {
		body = append(body, field...)
	}
	if rand.IntN(10) == 0 {
		return append(nasty(), body...) // The length.
	}
	return rawFrame(body)
}

func init() {
	ipctest.Roles["hostile"] = func() error {
		index, err := strconv.Atoi(os.Getenv("KIND"))
		if err != nil {
			return err
		}
		kind := hostileKinds[index]
		address := os.Getenv("SOCKET")
		duration, err := time.ParseDuration(os.Getenv("TIME"))
		if err != nil {
			return err
		}
		over := time.After(duration)
		var made atomic.Int64
		fatal := make(chan error, kind.connections)
		for range kind.connections {
			go func() { // Ends with the process.
				for once := true; once || kind.again; once = false {
					conn, err := net.Dial("unix", address)
					if err != nil && !kind.again {
						fatal <- err
						return
					} else if err != nil {
						continue // The backlog is full.
					}
					made.Add(1)
					if kind.attack(conn); kind.again {
						conn.Close()
					}
				}
			}()
		}
		select {
		case err = <-fatal:
		case <-over:
		}
		fmt.Println(made.Load())
		return err
	}
}

// runHostile runs a process of one kind to its end, calls meanwhile now and then, and returns how
// many connections it made.
func runHostile(tb testing.TB, index int, address string, duration time.Duration,
	meanwhile func()) (made int, err error) {
	tb.Helper()
	cmd := ipctest.Process(tb, "hostile", "SOCKET="+address, fmt.Sprint("KIND=", index), "TIME="+duration.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { // Ends with the process.
		lines := bufio.NewScanner(out)
		var bad error
		for lines.Scan() {
			made, bad = strconv.Atoi(lines.Text())
		}
		ended <- errors.Join(bad, cmd.Wait())
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return made, err
		case <-ticker.C:
			meanwhile()
		}
	}
}
