// SPDX-License-Identifier: Apache-2.0

package migrating_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/codec"
	"github.com/udsipc/udsipc/rpc"
)

// Calls with bytes: golib's chunk/rpc.
func Example_chunkCalls() {
	ctx, path, remove := place()
	defer remove()

	server, err := rpc.NewServer(path, udsipc.WithSocketMode(0o770))
	must(err)
	server.Handle("reverse", func(ctx context.Context, request []byte) ([]byte, error) {
		// There: CredFromCtx. The handler's context ends when the caller gives up.
		if peer, ok := rpc.PeerFromContext(ctx); !ok || peer.Credentials != nil && peer.Credentials.UID != os.Getuid() {
			return nil, rpc.Errorf(rpc.CodePermissionDenied, "not you")
		}
		if len(request) == 0 {
			return nil, rpc.Errorf(rpc.CodeInvalidArgument, "nothing to reverse")
		}
		response := slices.Clone(request)
		slices.Reverse(response)
		return response, nil
	})
	server.Handle("open", func(_ context.Context, request []byte) ([]byte, error) {
		return os.ReadFile(string(request)) // Its error keeps its meaning, without a code.
	})
	server.Handle("wait", func(ctx context.Context, _ []byte) ([]byte, error) {
		if _, ok := ctx.Deadline(); !ok { // The caller's.
			return nil, rpc.Errorf(rpc.CodeInvalidArgument, "no deadline")
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	must(server.Start()) // Returns; there it blocks.

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	response, err := client.Call(ctx, "reverse", []byte("abc"))
	fmt.Printf("%s %v\n", response, err)
	_, err = client.Call(ctx, "reverse", nil)
	fmt.Println(errors.Is(err, &rpc.Error{Code: rpc.CodeInvalidArgument, Message: "nothing to reverse"}))
	_, err = client.Call(ctx, "forward", []byte("abc"))
	fmt.Println(rpc.CodeOf(err))
	_, err = client.Call(ctx, "open", []byte(path+".none"))
	fmt.Println(rpc.CodeOf(err), errors.Is(err, os.ErrNotExist))
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	_, err = client.Call(short, "wait", nil)
	fmt.Println(rpc.CodeOf(err), errors.Is(err, context.DeadlineExceeded))

	must(client.Stop(ctx))
	must(server.Stop(ctx)) // Returns when the calls are done.
	// Output:
	// cba <nil>
	// true
	// unknown method
	// not found true
	// deadline exceeded true
}

// Without a server: there, the constructor fails; here, calls wait for one, or fail at once.
func Example_nobodyListens() {
	ctx, path, remove := place()
	defer remove()

	client, err := rpc.NewClient(path)
	must(err)
	client.SetFailFast()
	must(client.Start())
	_, err = client.Call(ctx, "reverse", []byte("abc"))
	fmt.Println(rpc.CodeOf(err), errors.Is(err, udsipc.ErrNoConsumer))
	must(client.Stop(ctx))
	// Output: unavailable true
}

type sumRequest struct{ Ints []int }

type sumResponse struct{ Sum int }

// The method, with the codecs of its values: both programs have it from one package.
var mathSum = rpc.NewMethod("/math/sum", codec.JSON[sumRequest](), codec.JSON[sumResponse]())

// Calls with JSON: the program in the documentation of golib's json/rpc.
func Example_jsonCalls() {
	ctx, path, remove := place()
	defer remove()

	server, err := rpc.NewServer(path)
	must(err)
	mathSum.Handle(server, func(_ context.Context, q sumRequest) (r sumResponse, err error) {
		if len(q.Ints) == 0 {
			return r, rpc.Errorf(rpc.CodeInvalidArgument, "%d numbers", len(q.Ints))
		}
		for _, i := range q.Ints {
			r.Sum += i
		}
		return r, nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	r, err := mathSum.Call(ctx, client, sumRequest{[]int{1, 2, 3}}) // There: "/math/sum" and &r are arguments.
	fmt.Println(r.Sum, err)
	_, err = mathSum.Call(ctx, client, sumRequest{})
	fmt.Println(rpc.CodeOf(err), errors.Is(err, &rpc.Error{Code: rpc.CodeInvalidArgument, Message: "0 numbers"}))
	_, err = client.Call(ctx, "/math/sum", []byte("no JSON"))
	fmt.Println(rpc.CodeOf(err))

	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// 6 <nil>
	// invalid argument true
	// invalid argument
}

// A hundred callers of a named handler at once: the program of domainsockets' test.
func Example_namedHandlers() {
	ctx, path, remove := place()
	defer remove()

	server, err := rpc.NewServer(path)
	must(err)
	server.Handle("HelloWorld", func(_ context.Context, request []byte) ([]byte, error) {
		if string(request) != "Hello" {
			return nil, rpc.Errorf(rpc.CodeInvalidArgument, "did not receive Hello")
		}
		return []byte("World"), nil
	})
	must(server.Start())

	client, err := rpc.NewClient(path)
	must(err)
	must(client.Start())
	answers := make([]string, 100)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			answer, err := client.Call(ctx, "HelloWorld", []byte("Hello"))
			must(err)
			answers[i] = string(answer)
		})
	}
	wg.Wait()
	slices.Sort(answers)
	fmt.Println(len(answers), slices.Compact(answers))

	_, err = client.Call(ctx, "HelloWorld", []byte("Goodbye")) // There, the error is the data of a message.
	fmt.Println(rpc.CodeOf(err))
	_, err = client.Call(ctx, "GoodbyeWorld", []byte("Goodbye")) // There, such a call never returns.
	fmt.Println(rpc.CodeOf(err))
	must(client.Stop(ctx))
	must(server.Stop(ctx))
	// Output:
	// 100 [World]
	// invalid argument
	// unknown method
}
