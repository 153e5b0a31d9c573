// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
)

type Event struct {
	Name string
	Size int `json:",omitempty"`
}

// The values of a Writer arrive at the handler of a Reader.
func Example() {
	dir, err := os.MkdirTemp("", "codec")
	must(err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "events.sock")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	events := codec.JSON[Event]()
	reader, err := udsipc.NewReader(codec.Handler(events, func(e Event) error {
		fmt.Println(e.Name, e.Size)
		return nil
	}), path)
	must(err)
	must(reader.Start())

	writer, err := udsipc.NewWriter(path)
	must(err)
	must(writer.Start())
	out := codec.NewWriter(writer, events)
	must(out.Write(Event{Name: "upload", Size: 1000}))
	must(out.Write(Event{Name: "exit"}))
	must(writer.Stop(ctx))
	must(reader.Stop(ctx))
	// Output:
	// upload 1000
	// exit 0
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// pair returns both ends of a connection, and a function that closes them.
func pair() (client, server *udsipc.Conn, remove func()) {
	dir, err := os.MkdirTemp("", "codec")
	must(err)
	path := filepath.Join(dir, "s")
	listener, err := udsipc.Listen(path)
	must(err)
	client, err = udsipc.Dial(context.Background(), path)
	must(err)
	server, err = listener.Accept()
	must(err)
	return client, server, func() {
		must(client.Close())
		must(server.Close())
		must(listener.Close())
		must(os.RemoveAll(dir))
	}
}

// A Reader reads one value at a time, with a deadline if you like.
func ExampleReader() {
	client, server, remove := pair()
	defer remove()
	in, out := codec.NewReader(server, codec.JSON[Event]()), codec.NewWriter(client, codec.JSON[Event]())

	must(server.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err := in.Read()
	fmt.Println("nothing yet:", errors.Is(err, os.ErrDeadlineExceeded))

	must(server.SetReadDeadline(time.Time{}))
	must(out.Write(Event{Name: "start"}))
	e, err := in.Read()
	fmt.Println(e.Name, err)

	must(client.WriteMessage([]byte("no JSON")))
	_, err = in.Read()
	fmt.Println("skipped:", errors.Is(err, codec.ErrInvalid))
	// Output:
	// nothing yet: true
	// start <nil>
	// skipped: true
}

func ExampleMessages() {
	client, server, remove := pair()
	defer remove()
	out := codec.NewWriter(client, codec.JSON[Event]())
	must(out.Write(Event{Name: "start"}))
	must(out.Write(Event{Name: "stop"}))
	must(client.Close())
	for e, err := range codec.Messages(server, codec.JSON[Event]()) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(e.Name)
	}
	// Output:
	// start
	// stop
}

func ExampleWriter() {
	client, server, remove := pair()
	defer remove()
	must(codec.NewWriter(client, codec.JSON[Event]()).Write(Event{Name: "start"}))
	data, err := server.ReadMessage()
	fmt.Printf("%s %v\n", data, err)
	// Output: {"Name":"start"} <nil>
}

// A codec of one's own takes two functions.
func ExampleOf() {
	numbers := codec.Of(func(dst []byte, n uint64) ([]byte, error) {
		return binary.AppendUvarint(dst, n), nil
	}, func(data []byte) (uint64, error) {
		n, size := binary.Uvarint(data)
		if size != len(data) || size == 0 {
			return 0, errors.New("no number")
		}
		return n, nil
	})
	b, err := numbers.Append(nil, 300)
	fmt.Println(b, err)
	n, err := numbers.Decode(b)
	fmt.Println(n, err)
	_, err = numbers.Decode([]byte{0x80})
	fmt.Println(err)
	// Output:
	// [172 2] <nil>
	// 300 <nil>
	// no number
}
