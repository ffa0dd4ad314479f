package akv

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	socks "golang.org/x/net/proxy"
)

// mostProxyAnswer bounds what a proxy may say before a tunnel begins, in bytes.
const mostProxyAnswer = 64 << 10

// connect is a connection to a URL's host, without TLS, by the proxy that
// requests to it take.
func (c courier) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	var by *url.URL
	if c.transport.Proxy != nil {
		var err error
		if by, err = c.transport.Proxy(&http.Request{URL: u}); err != nil {
			return nil, err
		}
	}
	if by == nil {
		return c.transport.DialContext(ctx, "tcp", address)
	}
	conn, err := c.connectBy(ctx, by, address)
	if err != nil {
		return nil, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: err}
	}
	return conn, nil
}

func (c courier) connectBy(ctx context.Context, by *url.URL, address string) (net.Conn, error) {
	switch by.Scheme {
	case "socks5", "socks5h":
		return c.connectBySOCKS(ctx, by, address)
	case "http", "https":
	default:
		return nil, errors.New("the proxy's scheme is none of http, https, socks5 and socks5h")
	}
	port := cmp.Or(by.Port(), map[string]string{"http": "80", "https": "443"}[by.Scheme])
	conn, err := c.transport.DialContext(ctx, "tcp", net.JoinHostPort(by.Hostname(), port))
	if err != nil {
		return nil, err
	}
	through := conn
	if by.Scheme == "https" {
		through = tls.Client(conn, c.tlsFor(by.Hostname()))
	}
	stop := context.AfterFunc(ctx, func() { giveUp(conn) })
	err = askTunnel(through, by.User, address)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return through, nil
}

// askTunnel has a proxy carry a connection on (RFC 9110 section 9.3.6).
func askTunnel(conn net.Conn, user *url.Userinfo, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: make(http.Header)}
	if user != nil {
		password, _ := user.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	// Whoever is behind the proxy says nothing before TLS begins, so that
	// nothing stays in this reader.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, mostProxyAnswer)), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		_, text, _ := strings.Cut(resp.Status, " ")
		return errors.New(cmp.Or(http.StatusText(resp.StatusCode), word(text), "refused"))
	}
	return nil
}

func (c courier) connectBySOCKS(ctx context.Context, by *url.URL, address string) (net.Conn, error) {
	var auth *socks.Auth
	if by.User != nil {
		auth = &socks.Auth{User: by.User.Username()}
		auth.Password, _ = by.User.Password()
	}
	d, err := socks.SOCKS5("tcp", net.JoinHostPort(by.Hostname(), cmp.Or(by.Port(), "1080")), auth, dialer(c.transport.DialContext))
	if err != nil {
		return nil, err
	}
	return d.(socks.ContextDialer).DialContext(ctx, "tcp", address)
}

// dialer is a function as a socks.ContextDialer.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}
