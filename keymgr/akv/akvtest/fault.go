package akvtest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault makes requests fail that would have succeeded, or takes their time.
// Unless it says otherwise it spares requests that have no valid token yet, so
// that it is not wasted on the first one.
type Fault struct {
	// Vault is the host that it is about; "" is any vault, "directory" the
	// directory, "identity" the managed-identity endpoint.
	Vault string `json:"vault,omitempty"`
	// Request is "get", "wrapKey", ..., "token", "discovery"; "" is any of
	// these. "challenge" is any that has no valid token yet.
	Request string `json:"request,omitempty"`
	// Times is how often it strikes; 0 is until it is cleared.
	Times int `json:"times,omitempty"`

	Status     int           `json:"status,omitempty"` // 0: the right answer, after Delay
	Code       string        `json:"code,omitempty"`
	Inner      string        `json:"inner,omitempty"`
	RetryAfter string        `json:"retry_after,omitempty"` // header, seconds or a date
	Delay      time.Duration `json:"delay,omitempty"`       // nanoseconds; before all else
	Reset      bool          `json:"reset,omitempty"`       // a TCP reset instead of an answer
	Raw        string        `json:"raw,omitempty"`         // body as it is, instead of an error of the right form
	Location   string        `json:"location,omitempty"`    // header, of a redirect
	Challenge  string        `json:"challenge,omitempty"`   // WWW-Authenticate header
}

func (f *Fault) about(host, request string) bool {
	anyVault := f.Vault == "" && host != identityHost && host != directoryHost
	return (anyVault || strings.EqualFold(f.Vault, host)) &&
		(f.Request == "" && request != challengeRequest || strings.EqualFold(f.Request, request))
}

const challengeRequest = "challenge"

// Names of the parts that are no vaults, in a Fault and in Request.Host.
const (
	directoryHost = "directory"
	identityHost  = "identity"
)

// Inject adds a fault. Of several that fit, the one added first strikes.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// ClearFaults ends all faults.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// nextFault is the fault that strikes a request, or nil.
func (s *Server) nextFault(host, request string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if !f.about(host, request) {
			continue
		}
		if f.Times == 1 {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
		} else if f.Times > 1 {
			f.Times--
		}
		strike := *f
		return &strike
	}
	return nil
}

type connKey struct{}

// withConn remembers a request's connection, for Reset.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// strike answers a request wrongly, and reports whether it did.
func (s *Server) strike(w http.ResponseWriter, r *http.Request, host, request string) bool {
	f := s.nextFault(host, request)
	if f == nil {
		return false
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
	if f.Reset {
		resetConn(r)
		return true
	}
	if f.Status == 0 && f.Raw == "" {
		return false
	}
	s.answerFault(w, f, host)
	return true
}

func (s *Server) answerFault(w http.ResponseWriter, f *Fault, host string) {
	for name, value := range map[string]string{
		"Retry-After": f.RetryAfter, "Location": f.Location, "WWW-Authenticate": f.Challenge,
	} {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case f.Raw != "":
		w.WriteHeader(status)
		fmt.Fprint(w, f.Raw)
	case host == directoryHost || host == identityHost:
		code, _ := strconv.Atoi(strings.TrimPrefix(f.Inner, "AADSTS"))
		writeOAuthError(w, status, f.Code, code)
	default:
		writeVaultError(w, &vaultError{status, f.Code, f.Inner, "an injected fault"})
	}
}

// resetConn ends the request's connection by a TCP reset.
func resetConn(r *http.Request) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	if under, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = under.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
	panic(http.ErrAbortHandler)
}
