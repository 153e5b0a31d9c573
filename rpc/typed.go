// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"
	"fmt"

	"github.com/udsipc/udsipc/codec"
)

// Handle is Server.Handle for values. Requests that cannot be decoded fail with
// CodeInvalidArgument. With codec.Raw the request is valid until handler returns.
func Handle[Req, Resp any](s *Server, name string, requests codec.Codec[Req],
	responses codec.Codec[Resp], handler func(ctx context.Context, request Req) (Resp, error)) {
	s.Handle(name, func(ctx context.Context, data []byte) ([]byte, error) {
		request, err := requests.Decode(data)
		if err != nil {
			return nil, &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("a request of %d bytes: %v", len(data), err)}
		}
		response, err := handler(ctx, request)
		if err != nil {
			return nil, err
		}
		return responses.Append(nil, response)
	})
}

// Call is Client.Call for values. A value that cannot be encoded or decoded fails with
// CodeInvalidArgument.
func Call[Req, Resp any](ctx context.Context, c *Client, name string, requests codec.Codec[Req],
	responses codec.Codec[Resp], request Req) (response Resp, err error) {
	b := getBytes(nil)
	defer putBytes(b)
	if *b, err = requests.Append(*b, request); err != nil {
		return response, &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("the request: %v", err)}
	}
	data, err := c.Call(ctx, name, *b)
	if err != nil {
		return response, err
	}
	if response, err = responses.Decode(data); err != nil {
		return response, &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("a response of %d bytes: %v", len(data), err)}
	}
	return response, nil
}
