package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Addresses that are none of the network's.
const (
	Off  = "off"  // nothing is served
	Unix = "unix" // a socket beside the control socket
)

// AddressError says that metrics cannot be served at an address: only its
// owner, or this host, is to read them.
type AddressError struct{ Address string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("metrics cannot be served at %q: it is neither off, nor unix, nor a loopback address with a port", e.Address)
}

// CheckAddress refuses what is neither Off, nor Unix, nor a loopback address
// such as 127.0.0.1:9478 or [::1]:9478. Names are refused: what they resolve to
// is not ours to say. The error is an *AddressError.
func CheckAddress(address string) error {
	if address == Off || address == Unix {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil || !a.Addr().Unmap().IsLoopback() || a.Addr().Zone() != "" {
		return &AddressError{address}
	}
	return nil
}

// scrapeTime bounds one scrape, and how long a client may dawdle.
const scrapeTime = 10 * time.Second

// Server answers scrapes.
type Server struct{ http *http.Server }

// Serve answers scrapes of /metrics on a listener until Close.
func (e *Exporter) Serve(l net.Listener, log *slog.Logger) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(e.registry, promhttp.HandlerOpts{
		ErrorLog: logged{log}, ErrorHandling: promhttp.ContinueOnError, Timeout: scrapeTime, MaxRequestsInFlight: 4,
	}))
	s := &Server{&http.Server{
		Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	return s
}

// Close hangs up on everybody and closes the listener.
func (s *Server) Close() error { return s.http.Close() }

// logged is promhttp's view of a log.
type logged struct{ *slog.Logger }

func (l logged) Println(v ...any) { l.Warn("metrics", "error", fmt.Sprint(v...)) }
