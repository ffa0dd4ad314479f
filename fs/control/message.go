package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol's version. It changes when a peer that knows only
// the old one could misunderstand; new methods and new result fields do not.
const Version = 1

const (
	// MaxRequest bounds a request line, in bytes.
	MaxRequest = 64 << 10
	// MaxResponse bounds a response line, in bytes.
	MaxResponse = 4 << 20
	// maxMethod bounds a method's name, in bytes.
	maxMethod = 64
)

// Codes that the protocol itself answers. A server's methods add their own.
const (
	CodeBadRequest = "bad-request"    // not a request of this protocol
	CodeVersion    = "version"        // a request of another version
	CodeNoMethod   = "unknown-method" // the daemon is older than the command
	CodeDenied     = "denied"         // the caller may not
	CodeOverload   = "overload"       // too many calls at once
	CodeEnding     = "ending"         // the daemon does nothing any more
	CodeFailed     = "failed"         // no code says more
)

// Request is the line that opens a call.
type Request struct {
	V      int             `json:"v"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

// Response is a line that answers: exactly one of Event, Result and Error is
// there.
type Response struct {
	V      int             `json:"v"`
	Event  json.RawMessage `json:"event,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// Error is a failure as it crosses the wire. Code is for programs and stays
// the same for ever; Message is one sentence for people.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// ProtocolError says that a peer sent something that is not of the protocol.
type ProtocolError struct{ Reason string }

func (e *ProtocolError) Error() string { return "control protocol: " + e.Reason }

// VersionError says that a peer speaks another version of the protocol.
type VersionError struct{ Peer int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("control protocol: the peer speaks version %d, this program %d", e.Peer, Version)
}

// ParseRequest reads a request line, without its newline. Errors are a
// *ProtocolError or a *VersionError.
func ParseRequest(line []byte) (Request, error) {
	var r Request
	if err := decode(line, MaxRequest, &r); err != nil {
		return Request{}, err
	}
	if !validMethod(r.Method) {
		return Request{}, &ProtocolError{"the method's name is malformed"}
	}
	if isNull(r.Params) {
		r.Params = nil
	}
	return r, nil
}

// ParseResponse reads a response line, without its newline. Errors are a
// *ProtocolError or a *VersionError.
func ParseResponse(line []byte) (Response, error) {
	var r Response
	if err := decode(line, MaxResponse, &r); err != nil {
		return Response{}, err
	}
	parts := 0
	for _, present := range []bool{r.Event != nil, r.Result != nil, r.Error != nil} {
		if present {
			parts++
		}
	}
	if parts != 1 {
		return Response{}, &ProtocolError{"a response is one of event, result and error"}
	}
	if r.Error != nil && r.Error.Code == "" {
		return Response{}, &ProtocolError{"an error needs a code"}
	}
	return r, nil
}

// decode reads one JSON object and looks at its version before anything else,
// so that a peer of another version hears that, and not that a field is unknown.
func decode(line []byte, limit int, into any) error {
	if len(line) > limit {
		return &ProtocolError{fmt.Sprintf("a line is longer than %d bytes", limit)}
	}
	var version struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(line, &version); err != nil {
		return &ProtocolError{"a line is no JSON object"}
	}
	if version.V == nil {
		return &ProtocolError{"a line says no version"}
	}
	if *version.V != Version {
		return &VersionError{*version.V}
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &ProtocolError{"a line has a wrong or an unknown field"}
	}
	return nil
}

// validMethod: lower-case words with dots and dashes between, like "key.rotate".
func validMethod(name string) bool {
	if name == "" || len(name) > maxMethod {
		return false
	}
	word := false
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			word = true
		case (c == '.' || c == '-') && word:
			word = false
		default:
			return false
		}
	}
	return word
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// DecodeParams reads a call's parameters strictly: an unknown field is an
// error, and so are parameters for a method that takes none (into is nil).
func DecodeParams(params json.RawMessage, into any) error {
	if into == nil {
		if isNull(params) || string(bytes.TrimSpace(params)) == "{}" {
			return nil
		}
		return &Error{CodeBadRequest, "this method takes no parameters"}
	}
	if isNull(params) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &Error{CodeBadRequest, fmt.Sprintf("wrong parameters: %v", err)}
	}
	return nil
}

// readLine reads up to a newline, at most limit bytes. The end of the stream
// before the first byte is io.EOF, later io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit+1 {
			return nil, &ProtocolError{fmt.Sprintf("a line is longer than %d bytes", limit)}
		}
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func writeLine(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	_, err = w.Write(data)
	clear(data) // a secret may be in it
	return err
}
