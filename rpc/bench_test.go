// SPDX-License-Identifier: Apache-2.0

package rpc_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/rpc"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	ours "github.com/udsipc/udsipc/rpc"
)

// Arith is what net/rpc calls.
type Arith struct{}

// Echo returns what it gets.
func (Arith) Echo(request *[]byte, response *[]byte) error {
	*response = *request
	return nil
}

func BenchmarkCall(b *testing.B) {
	for _, size := range []int{128, 1 << 10} {
		request := make([]byte, size)
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("ours/%d/%d", size, callers), func(b *testing.B) {
				address := ipctest.SocketPath(b)
				serve(b, address, nil)
				c := dial(b, address)
				atOnce(b, callers, func() error { _, err := c.Call(context.Background(), "echo", request); return err })
			})
			b.Run(fmt.Sprintf("net-rpc/%d/%d", size, callers), func(b *testing.B) {
				l, err := net.Listen("unix", ipctest.SocketPath(b))
				if err != nil {
					b.Fatal(err)
				}
				defer l.Close()
				log.SetOutput(io.Discard) // It says that l was closed.
				s := rpc.NewServer()
				if err := s.Register(Arith{}); err != nil {
					b.Fatal(err)
				}
				go s.Accept(l) // Ends with l.
				c, err := rpc.Dial("unix", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				atOnce(b, callers, func() error { var response []byte; return c.Call("Arith.Echo", &request, &response) })
			})
		}
		b.Run(fmt.Sprintf("bare/%d/1", size), func(b *testing.B) { pingPong(b, size) })
	}
}

// atOnce has callers make b.N calls.
func atOnce(b *testing.B, callers int, call func() error) {
	b.Helper()
	if err := call(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// pingPong is the floor: one write and one read at either end.
func pingPong(b *testing.B, size int) {
	l, err := net.Listen("unix", ipctest.SocketPath(b))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() { // Ends with the connection.
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, size)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return
			}
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, size)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{128, 1 << 10} {
		message := make([]byte, size)
		b.Run(fmt.Sprintf("stream/%d", size), func(b *testing.B) {
			address := ipctest.SocketPath(b)
			done := make(chan struct{})
			serve(b, address, func(s *ours.Server) {
				s.HandleStream("sink", func(_ context.Context, stream *ours.Stream) error {
					for {
						if _, err := stream.Receive(); err != nil {
							close(done)
							return nil
						}
					}
				})
			})
			c := dial(b, address)
			s, err := c.OpenStream(context.Background(), "sink", nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := s.Send(message); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.CloseSend(); err != nil {
				b.Fatal(err)
			}
			<-done
		})
		b.Run(fmt.Sprintf("Writer/%d", size), func(b *testing.B) {
			address := ipctest.SocketPath(b)
			r, err := udsipc.NewReader(func([]byte) error { return nil }, address)
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Start(); err != nil {
				b.Fatal(err)
			}
			w, err := udsipc.NewWriter(address, udsipc.WithOverflow(udsipc.OverflowBlock))
			if err != nil {
				b.Fatal(err)
			}
			if err := w.Start(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := w.WriteMessage(message); err != nil {
					b.Fatal(err)
				}
			}
			ipctest.Stop(b, w)
			b.StopTimer()
			ipctest.Stop(b, r)
		})
	}
}
