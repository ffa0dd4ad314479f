package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client does calls over one connection each. It is safe for concurrent use.
type Client struct {
	dial func(ctx context.Context) (*net.UnixConn, error)
}

// GoneError says that the daemon ended, or was killed, before it answered.
type GoneError struct{ Err error }

func (e *GoneError) Error() string {
	return fmt.Sprintf("the daemon ended before it answered: %v", e.Err)
}
func (e *GoneError) Unwrap() error { return e.Err }

// Call calls a method. params may be nil; result, if not nil, receives the
// answer; event, if not nil, each event. A failure that the daemon reports is
// an *Error; one that ends the connection a *GoneError. When ctx ends, the
// call is hung up, which cancels it in the daemon.
func (c *Client) Call(ctx context.Context, method string, params, result any, event func(json.RawMessage)) error {
	request := Request{V: Version, Method: method}
	if params != nil {
		data, err := json.Marshal(params)
		if err != nil {
			return err
		}
		request.Params = data
		defer clear(data) // a secret may be in it
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() {
		// A deadline in the past ends the read or write under way.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	err = exchange(conn, request, result, event)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func exchange(conn *net.UnixConn, request Request, result any, event func(json.RawMessage)) error {
	// A daemon that refuses a caller answers and hangs up without reading: the
	// answer is there although the request could not be written.
	unsent := writeLine(conn, request)
	r := bufio.NewReader(conn)
	for {
		line, err := readLine(r, MaxResponse)
		if err != nil && unsent != nil {
			return &GoneError{unsent}
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		var protocol *ProtocolError
		if err != nil && !errors.As(err, &protocol) {
			return &GoneError{err}
		}
		if err != nil {
			return err
		}
		response, err := ParseResponse(line)
		switch {
		case err != nil:
			return err
		case response.Error != nil:
			return response.Error
		case response.Result != nil:
			if result == nil {
				return nil
			}
			return json.Unmarshal(response.Result, result)
		case event != nil:
			event(response.Event)
		}
	}
}
