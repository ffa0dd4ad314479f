package akvtest

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what cloud to play. The zero value is the public one.
type Options struct {
	// Suffix of the vaults' names ("vault.azure.net"), with a port if clients
	// are to see one; HSMSuffix that of Managed HSMs ("managedhsm.azure.net").
	Suffix    string
	HSMSuffix string
	// Authority is the directory's host ("login.microsoftonline.com"), with a
	// port if clients are to see one.
	Authority string
	// Resource is the tokens' audience, if it is not https:// and the suffix.
	Resource string
	// Listen is the TLS listener's address ("127.0.0.1:0"), ListenPlain that of
	// proxy, managed identity and admin interface.
	Listen      string
	ListenPlain string
	// Dir takes ca.pem; empty: a temporary directory.
	Dir string
}

// Server is a running test cloud. Safe for concurrent use.
type Server struct {
	o         Options
	ca        *authority
	stranger  *authority // trusted by nobody
	caFile    string
	tempDir   string
	secure    net.Listener
	plain     net.Listener
	servers   []*http.Server
	directory *Directory
	closing   chan struct{}
	running   sync.WaitGroup

	mu       sync.Mutex
	clock    func() time.Time
	certMode string
	vaults   map[string]*Vault // by host without port
	faults   []*Fault
	requests []Request
	conns    map[net.Conn]bool
	drawn    map[int]int // RSA keys, by size
}

// Request is one that a vault, the directory or the managed-identity endpoint
// has answered after it knew who asks.
type Request struct {
	Host    string `json:"host"`
	Request string `json:"request"` // "get", "wrapKey", ..., "token", "discovery"
	Key     string `json:"key,omitempty"`
	Version string `json:"version,omitempty"`
}

// Start makes a test cloud with a directory of one application and no vault.
func Start(o Options) (*Server, error) {
	for field, value := range map[*string]string{
		&o.Suffix: "vault.azure.net", &o.HSMSuffix: "managedhsm.azure.net",
		&o.Authority: "login.microsoftonline.com", &o.Listen: "127.0.0.1:0", &o.ListenPlain: "127.0.0.1:0",
	} {
		if *field == "" {
			*field = value
		}
	}
	s := &Server{
		o: o, closing: make(chan struct{}), clock: time.Now,
		vaults: make(map[string]*Vault), conns: make(map[net.Conn]bool), drawn: make(map[int]int),
	}
	s.directory = newDirectory(s)
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) start() (err error) {
	if s.ca, err = newAuthority("akvfs test authority"); err != nil {
		return err
	}
	if s.stranger, err = newAuthority("nobody's authority"); err != nil {
		return err
	}
	if s.o.Dir == "" {
		if s.tempDir, err = os.MkdirTemp("", "akvtest"); err != nil {
			return err
		}
		s.o.Dir = s.tempDir
	}
	s.caFile = filepath.Join(s.o.Dir, "ca.pem")
	if err := os.WriteFile(s.caFile, s.ca.pem(), 0o644); err != nil {
		return err
	}
	if s.secure, err = net.Listen("tcp", s.o.Listen); err != nil {
		return err
	}
	if s.plain, err = net.Listen("tcp", s.o.ListenPlain); err != nil {
		return err
	}
	s.serve(&http.Server{Handler: http.HandlerFunc(s.route), TLSConfig: s.tlsConfig(), ConnState: s.track}, s.secure, true)
	s.serve(&http.Server{Handler: http.HandlerFunc(s.routePlain)}, s.plain, false)
	return nil
}

// serve runs one listener. What its connections complain about (a client that
// refuses a bad certificate) is part of the tests, not news.
func (s *Server) serve(srv *http.Server, l net.Listener, secure bool) {
	srv.ConnContext = withConn
	srv.ErrorLog = discard
	srv.ReadHeaderTimeout = time.Minute
	s.servers = append(s.servers, srv)
	s.running.Go(func() {
		if secure {
			_ = srv.ServeTLS(l, "", "")
		} else {
			_ = srv.Serve(l)
		}
	})
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

func (s *Server) closeConns() {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// Close ends everything at once. It is called once.
func (s *Server) Close() error {
	close(s.closing)
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.Close())
	}
	s.running.Wait()
	if s.tempDir != "" {
		errs = append(errs, os.RemoveAll(s.tempDir))
	}
	return errors.Join(errs...)
}

// AddVault makes a vault NAME.Suffix.
func (s *Server) AddVault(name string) *Vault { return s.addVault(name + "." + s.o.Suffix) }

// AddHSM makes a Managed HSM NAME.HSMSuffix.
func (s *Server) AddHSM(name string) *Vault { return s.addVault(name + "." + s.o.HSMSuffix) }

func (s *Server) addVault(host string) *Vault {
	v := &Vault{s: s, host: host, keys: make(map[string]*key), denied: make(map[string]string)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vaults[withoutPort(host)] = v
	return v
}

func (s *Server) vault(host string) *Vault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vaults[withoutPort(strings.ToLower(host))]
}

// Directory is the one that gives the tokens.
func (s *Server) Directory() *Directory { return s.directory }

// CAFile is the path of the authority's certificate.
func (s *Server) CAFile() string { return s.caFile }

// ProxyURL is the proxy through which clients of other processes come.
func (s *Server) ProxyURL() string { return "http://" + s.plain.Addr().String() }

// AuthorityURL is the directory's.
func (s *Server) AuthorityURL() string { return "https://" + s.o.Authority + "/" }

// SetClock changes what the server takes for the time.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = now
}

func (s *Server) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock().UTC()
}

// Env is the environment in which another process finds this cloud, known by
// the directory's first application and its secret.
func (s *Server) Env() []string {
	env := []string{
		"HTTPS_PROXY=" + s.ProxyURL(), "NO_PROXY=", "no_proxy=",
		"AKVFS_CA_FILE=" + s.caFile,
		"AZURE_TENANT_ID=" + s.directory.Tenant, "AZURE_CLIENT_ID=" + s.directory.ClientID,
		"AZURE_CLIENT_SECRET=" + s.directory.Secret,
	}
	if s.o.Authority != "login.microsoftonline.com" {
		env = append(env, "AZURE_AUTHORITY_HOST="+s.AuthorityURL())
	}
	if s.o.Suffix != "vault.azure.net" {
		env = append(env, "AKVFS_AKV_DNS_SUFFIX="+s.o.Suffix)
	}
	if s.o.Resource != "" {
		env = append(env, "AKVFS_AKV_RESOURCE="+s.o.Resource)
	}
	return env
}

// Requests are those answered so far, of vaults and directory.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ForgetRequests empties the list.
func (s *Server) ForgetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
}

func (s *Server) record(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
}

// Dial connects every name of the cloud to this server, and knows no other.
func (s *Server) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host := withoutPort(strings.ToLower(address))
	to := s.secure.Addr().String()
	switch {
	case host == "169.254.169.254":
		to = s.plain.Addr().String()
	case !s.knows(host):
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to)
}

func (s *Server) knows(host string) bool {
	return s.vault(host) != nil || host == withoutPort(s.o.Authority)
}

func withoutPort(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return name
}

// route sends a request to the vault or the directory that its host names.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().Format(http.TimeFormat))
	if v := s.vault(r.Host); v != nil {
		v.ServeHTTP(w, r)
		return
	}
	if withoutPort(r.Host) == withoutPort(s.o.Authority) {
		s.directory.ServeHTTP(w, r)
		return
	}
	http.Error(w, "no such host here: "+Marker, http.StatusMisdirectedRequest)
}

// routePlain is the proxy, the managed-identity endpoint and the admin
// interface.
func (s *Server) routePlain(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		s.tunnel(w, r)
	case strings.HasPrefix(r.URL.Path, "/admin/"):
		s.admin(w, r)
	case r.URL.Path == imdsPath, r.URL.Path == appServicePath:
		s.directory.serveIdentity(w, r)
	default:
		http.NotFound(w, r)
	}
}

// tunnel is the CONNECT of a proxy.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request) {
	up, err := s.Dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, "no such host: "+Marker, http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	if _, err := io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	carry := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		ended <- struct{}{}
	}
	go carry(up, buffered)
	go carry(down, up)
	select {
	case <-ended:
	case <-s.closing:
	}
}

// IdentityEnv is the environment in which a process finds this cloud's managed
// identity, as App Service sets it.
func (s *Server) IdentityEnv() []string {
	return []string{"IDENTITY_ENDPOINT=" + s.ProxyURL() + appServicePath, "IDENTITY_HEADER=" + s.directory.identitySecret}
}

// resource is the audience that tokens for a vault need.
func (s *Server) resource(host string) string {
	if s.o.Resource != "" {
		return s.o.Resource
	}
	_, suffix, _ := strings.Cut(host, ".")
	return (&url.URL{Scheme: "https", Host: suffix}).String()
}
