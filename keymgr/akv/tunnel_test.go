package akv

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// viaProxy is a provider that goes by a proxy.
func viaProxy(t *testing.T, c *cloud, by *url.URL) *Provider {
	p := c.open(t, budget(5*time.Second), func(cfg *Config) { cfg.Dial = c.dialPlain })
	p.courier.transport.Proxy = http.ProxyURL(by)
	return p
}

// TestTunnels: master keys go by whatever proxy the environment names, as all
// else does.
func TestTunnels(t *testing.T) {
	c := newCloud(t)
	web := &webProxy{dial: c.Dial}
	plain, secure := httptest.NewServer(web), httptest.NewTLSServer(web)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	socks := newSOCKSProxy(t, c.Dial)
	for name, at := range map[string]struct {
		url     string
		carried *atomic.Int32
	}{
		"HTTP":   {"http://user:p%40ss@" + plain.Listener.Addr().String(), &web.carried},
		"HTTPS":  {"https://user:p%40ss@" + secure.Listener.Addr().String(), &web.carried},
		"SOCKS":  {"socks5://user:p%40ss@" + socks.l.Addr().String(), &socks.carried},
		"SOCKSh": {"socks5h://user:p%40ss@" + socks.l.Addr().String(), &socks.carried},
	} {
		by, err := url.Parse(at.url)
		must(t, err)
		p := viaProxy(t, c, by)
		p.courier.tls.RootCAs.AddCert(secure.Certificate())
		before := at.carried.Load()
		mustUnwrap(t, p, mustWrap(t, p))
		if n := at.carried.Load() - before; n < 3 {
			t.Errorf("%s: %d connections, of which two were to be the keys'", name, n)
		}
	}
}

// TestNoTunnel: what a proxy refuses is told, and nothing that it says.
func TestNoTunnel(t *testing.T) {
	c := newCloud(t)
	srv := httptest.NewServer(&webProxy{dial: c.Dial})
	t.Cleanup(srv.Close)
	for at, says := range map[string]string{
		"http://" + srv.Listener.Addr().String():             "Proxy Authentication Required",
		"http://user:wrong@" + c.ProxyURL()[len("http://"):]: "Bad Gateway",
		"http://127.0.0.1:1":                                 "connection refused",
		"ftp://127.0.0.1":                                    "scheme",
		"socks5://127.0.0.1:1":                               "connection refused",
	} {
		by, err := url.Parse(at)
		must(t, err)
		p := viaProxy(t, c, by)
		_, err = p.courier.connect(t.Context(), &url.URL{Scheme: "https", Host: "kv-none.vault.azure.net"})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: %v", at, err)
		}
		if v := network(&url.Error{Op: "Post", URL: "https://kv-none.vault.azure.net", Err: err}); v.class != keymgr.Unreachable {
			t.Errorf("%s: %+v", at, v)
		}
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// webProxy carries on whoever knows the password.
type webProxy struct {
	dial    dialFunc
	carried atomic.Int32
}

func (p *webProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	as := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	if user, password, _ := as.BasicAuth(); r.Method != http.MethodConnect || user != "user" || password != "p@ss" {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	up, err := p.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	p.carried.Add(1)
	_, _ = io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	join(up, down)
}

// join copies both ways until one side ends.
func join(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}

// socksProxy is as much of RFC 1928 and RFC 1929 as a client needs that names
// its host and has a password.
type socksProxy struct {
	l       net.Listener
	dial    dialFunc
	carried atomic.Int32
}

func newSOCKSProxy(t *testing.T, dial dialFunc) *socksProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	p := &socksProxy{l: l, dial: dial}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *socksProxy) serve(conn net.Conn) {
	defer conn.Close()
	read := func(n byte) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(conn, b)
		return b
	}
	read(read(2)[1]) // methods
	_, _ = conn.Write([]byte{5, 2})
	user := read(read(2)[1])
	password := read(read(1)[0])
	if string(user) != "user" || string(password) != "p@ss" {
		_, _ = conn.Write([]byte{1, 1})
		return
	}
	_, _ = conn.Write([]byte{1, 0})
	if head := read(4); head[1] != 1 || head[3] != 3 {
		return
	}
	host := string(read(read(1)[0]))
	port := binary.BigEndian.Uint16(read(2))
	up, err := p.dial(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		_, _ = conn.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	p.carried.Add(1)
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	join(up, conn)
}
