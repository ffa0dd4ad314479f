package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// requestTime bounds how long a client may take over its request line,
	// and writeTime how long over taking one line of the answer.
	requestTime = 10 * time.Second
	writeTime   = 10 * time.Second
	// maxCalls bounds the calls at one time, maxGuests those of them that come
	// from users whose daemon this is not, and maxOfGuest those of one such user:
	// nobody keeps others out.
	maxCalls   = 64
	maxGuests  = 16
	maxOfGuest = 6
)

// Call is one call of a method.
type Call struct {
	Peer   Peer
	Method string
	params json.RawMessage
	conn   *net.UnixConn
}

// Params reads the call's parameters into a struct; nil says that there are
// none. The error is one to return as it is.
func (c *Call) Params(into any) error { return DecodeParams(c.params, into) }

// RawParams are the call's parameters as they came; empty for none.
func (c *Call) RawParams() json.RawMessage { return c.params }

// Event sends word of progress to the client. An error says that the client
// has gone; long work may go on or stop as it likes.
func (c *Call) Event(event any) error {
	data, err := json.Marshal(event)
	if err != nil {
		return err
	}
	return c.write(Response{V: Version, Event: data})
}

func (c *Call) write(r Response) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return writeLine(c.conn, r)
}

// Method does a call's work. ctx ends when the client hangs up or the server
// closes. The result is encoded as JSON. An error that is, or wraps, an *Error
// keeps its code; the server's Code function sorts all others.
type Method func(ctx context.Context, c *Call) (result any, err error)

// Server answers calls. Its fields are set before Serve and not after.
type Server struct {
	Methods map[string]Method
	// Authorize decides whether a peer may call a method; nil stands for Owner.
	Authorize func(p Peer, method string) error
	// Code names the code of a method's error; nil stands for CodeFailed always.
	Code func(error) string

	mu     sync.Mutex
	conns  map[*net.UnixConn]context.CancelFunc
	guests map[uint32]int // calls by user; the sum is bounded, too
	closed bool
	calls  sync.WaitGroup
}

// acceptPause is how long Serve waits where the system is short of what a
// connection takes, such as descriptors.
const acceptPause = 100 * time.Millisecond

// Serve accepts connections until the listener is closed, which is no error. A
// system that is short of descriptors or memory is waited for.
func (s *Server) Serve(l *net.UnixListener) error {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if scarce(err) {
			time.Sleep(acceptPause)
			continue
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		peer, err := peerOf(conn)
		if err != nil {
			conn.Close() // who calls without a name is nobody
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		if reason := s.add(conn, cancel, peer); reason != nil {
			cancel()
			(&Call{conn: conn}).write(Response{V: Version, Error: reason})
			conn.Close()
			continue
		}
		go s.handle(ctx, conn, peer)
	}
}

func scarce(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Close cancels what is running, waits until each call has answered or grace
// is over, and hangs up. The listener is the caller's to close first.
func (s *Server) Close(grace time.Duration) {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.conns {
		cancel()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(grace):
	}
	s.mu.Lock()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
}

func (s *Server) add(conn *net.UnixConn, cancel context.CancelFunc, peer Peer) *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &Error{CodeEnding, "the daemon is ending"}
	}
	guest := !peer.IsOwner()
	if len(s.conns) >= maxCalls || guest && !s.room(peer.UID) {
		return &Error{CodeOverload, "the daemon has too many calls to answer; try again"}
	}
	if s.conns == nil {
		s.conns, s.guests = make(map[*net.UnixConn]context.CancelFunc), make(map[uint32]int)
	}
	s.conns[conn] = cancel
	if guest {
		s.guests[peer.UID]++
	}
	s.calls.Add(1)
	return nil
}

// room tells whether another call of a guest fits in. s.mu is held.
func (s *Server) room(uid uint32) bool {
	all := 0
	for _, n := range s.guests {
		all += n
	}
	return all < maxGuests && s.guests[uid] < maxOfGuest
}

func (s *Server) remove(conn *net.UnixConn, peer Peer) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !peer.IsOwner() {
		if s.guests[peer.UID]--; s.guests[peer.UID] == 0 {
			delete(s.guests, peer.UID)
		}
	}
	s.conns[conn]()
	delete(s.conns, conn)
	s.calls.Done()
}

// handle answers the one call of a connection.
func (s *Server) handle(ctx context.Context, conn *net.UnixConn, peer Peer) {
	defer s.remove(conn, peer)
	call := &Call{conn: conn, Peer: peer}
	defer func() { clear(call.params) }() // a secret may be in it
	result, err := s.answer(ctx, call)
	if errors.Is(err, io.EOF) {
		return // it connected only to see whether we live
	}
	response := Response{V: Version}
	if err == nil {
		response.Result, err = json.Marshal(result)
	}
	if err != nil {
		response.Result, response.Error = nil, s.wireError(err)
	}
	// A client that has gone needs no answer.
	_ = call.write(response)
}

func (s *Server) answer(ctx context.Context, call *Call) (any, error) {
	// What a stranger is refused is told by the request alone.
	request, r, err := readRequest(call.conn)
	if err != nil {
		return nil, err
	}
	call.Method, call.params = request.Method, request.Params
	authorize := s.Authorize
	if authorize == nil {
		authorize = Owner
	}
	if err := authorize(call.Peer, request.Method); err != nil {
		return nil, err
	}
	method, ok := s.Methods[request.Method]
	if !ok {
		return nil, &Error{CodeNoMethod, fmt.Sprintf("the daemon does not know %q: it is of another version of akvfs than this command", request.Method)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go hangUp(r, cancel)
	return method(ctx, call)
}

func readRequest(conn *net.UnixConn) (Request, *bufio.Reader, error) {
	if err := conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return Request{}, nil, err
	}
	r := bufio.NewReader(conn)
	line, err := readLine(r, MaxRequest)
	if err != nil {
		return Request{}, nil, err
	}
	request, err := ParseRequest(line)
	clear(line)
	if err != nil {
		return Request{}, nil, err
	}
	return request, r, conn.SetReadDeadline(time.Time{})
}

// hangUp cancels when the client closes, or says more than it may. It ends
// with the connection.
func hangUp(r io.Reader, cancel context.CancelFunc) {
	var b [1]byte
	_, _ = r.Read(b[:]) // whatever comes, it is the end
	cancel()
}

func (s *Server) wireError(err error) *Error {
	var wire *Error
	var protocol *ProtocolError
	var version *VersionError
	switch {
	case errors.As(err, &wire):
		return wire
	case errors.As(err, &protocol):
		return &Error{CodeBadRequest, protocol.Error()}
	case errors.As(err, &version):
		return &Error{CodeVersion, version.Error()}
	}
	code := CodeFailed
	if s.Code != nil {
		code = s.Code(err)
	}
	return &Error{code, err.Error()}
}
