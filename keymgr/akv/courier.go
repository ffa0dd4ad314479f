package akv

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/akvfs/akvfs/crypto"
)

// mostAnswer bounds an answer with its head, in bytes.
const mostAnswer = 1 << 20

// hidden is the value of one operation of a vault, which is a master key. The
// libraries see zeros, or nothing, in its place: their buffers, pools and
// strings cannot be erased. It travels to the courier in the context.
type hidden struct {
	seals bool
	value []byte // to be sealed; or what was opened
}

type hiddenKey struct{}

func withHidden(ctx context.Context, h *hidden) context.Context {
	return context.WithValue(ctx, hiddenKey{}, h)
}

// shown is what a library is given to send in place of a value to be sealed.
func (h *hidden) shown() []byte { return make([]byte, len(h.value)) }

// courier carries the requests to a vault (policy.Transporter). One that has a
// hidden value goes by a connection of its own, which one goroutine makes,
// uses and leaves within crypto.Secretly: so all that the value passes through
// on its way, TLS's buffers above all, is out of use when Do returns, and is
// erased by the next collection. An http.Transport keeps goroutines, pools and
// timers that hold on to what they have read, for minutes after its
// connections were closed.
type courier struct {
	client    *http.Client // for what is not hidden
	transport *http.Transport
	tls       *tls.Config // the transport's, for HTTP/1.1 alone
}

// newCourier is for a client that has not been used yet.
func newCourier(client *http.Client) courier {
	c := courier{client: client, transport: client.Transport.(*http.Transport)}
	c.tls = c.transport.TLSClientConfig.Clone()
	c.tls.NextProtos = []string{"http/1.1"}
	return c
}

// tlsFor is the configuration for a host.
func (c courier) tlsFor(host string) *tls.Config {
	config := c.tls.Clone()
	config.ServerName = host
	return config
}

// Do implements policy.Transporter. Errors are *url.Error, as an http.Client's.
func (c courier) Do(req *http.Request) (*http.Response, error) {
	h, _ := req.Context().Value(hiddenKey{}).(*hidden)
	if h == nil || req.Body == nil {
		return c.client.Do(req)
	}
	resp, err := c.carry(req, h)
	if err != nil && req.Context().Err() != nil {
		err = req.Context().Err()
	}
	if err != nil {
		return nil, &url.Error{Op: "Post", URL: req.URL.String(), Err: err}
	}
	return resp, nil
}

// carry makes the connection, and ends it with the context.
func (c courier) carry(req *http.Request, h *hidden) (resp *http.Response, err error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	conn, err := c.connect(req.Context(), req.URL)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(req.Context(), func() { giveUp(conn) })()
	config := c.tlsFor(req.URL.Hostname())
	crypto.Secretly(func() { resp, err = h.exchange(tls.Client(conn, config), req, body) })
	return resp, err
}

// giveUp ends what a connection waits for.
func giveUp(conn net.Conn) { _ = conn.SetDeadline(time.Unix(1, 0)) }

// exchange sends a request and takes the answer's value out of it. Handshake
// and not HandshakeContext, which starts a goroutine.
func (h *hidden) exchange(conn *tls.Conn, req *http.Request, body []byte) (*http.Response, error) {
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	message, err := h.message(req, body)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	resp, err := readResponse(conn, req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if !h.seals && resp.StatusCode == http.StatusOK {
		answer = h.take(answer)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(answer)), int64(len(answer))
	return resp, nil
}

// message is the request as HTTP/1.1 has it (RFC 9112), with the hidden value
// in its place. Request.Write would take the body through a pool.
func (h *hidden) message(req *http.Request, body []byte) ([]byte, error) {
	if h.seals {
		zeros := inJSON(h.shown())
		if bytes.Count(body, zeros) != 1 {
			return nil, errors.New("the request has no place for what is to be sealed")
		}
		body = bytes.Replace(body, zeros, inJSON(h.value), 1)
	}
	var m bytes.Buffer
	fmt.Fprintf(&m, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n",
		req.Method, req.URL.RequestURI(), cmp.Or(req.Host, req.URL.Host), len(body))
	own := map[string]bool{"Host": true, "Content-Length": true, "Connection": true, "Transfer-Encoding": true}
	if err := req.Header.WriteSubset(&m, own); err != nil {
		return nil, err
	}
	m.WriteString("\r\n")
	m.Write(body)
	return m.Bytes(), nil
}

// inJSON is a value as the vault's interface has it.
func inJSON(value []byte) []byte {
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(value) + `"`)
}

// readResponse passes over what is not final (RFC 9110 section 15.2).
func readResponse(conn io.Reader, req *http.Request) (*http.Response, error) {
	r := bufio.NewReader(io.LimitReader(conn, mostAnswer))
	for {
		resp, err := http.ReadResponse(r, req)
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
	}
}

// take keeps the value of an answer, and returns the answer without. What
// cannot be parsed is withheld: it may hold the value all the same.
func (h *hidden) take(answer []byte) []byte {
	var a struct {
		KID   string `json:"kid,omitempty"`
		Value string `json:"value,omitempty"`
	}
	err := json.Unmarshal(answer, &a)
	if err == nil {
		h.value, err = base64.RawURLEncoding.DecodeString(a.Value)
	}
	a.Value = ""
	rest, second := json.Marshal(a)
	if errors.Join(err, second) != nil {
		return []byte("withheld") // which is no JSON, either
	}
	return rest
}
