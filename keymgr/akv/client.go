package akv

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// metadataHost is where virtual machines get the tokens of their managed
// identity. It is the host's own and never behind a proxy.
const metadataHost = "169.254.169.254"

// newHTTPClient makes the client for vault and directory. It follows no
// redirect: a wrap's request body holds a master key, and Azure sends none.
func (c Config) newHTTPClient() (*http.Client, error) {
	roots, err := c.roots()
	if err != nil {
		return nil, err
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: c.tryTimeout(), KeepAlive: 30 * time.Second}).DialContext
	}
	transport := &http.Transport{
		Proxy:               proxy,
		DialContext:         dial,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: c.tryTimeout(),
		ForceAttemptHTTP2:   true,
		// Notices connections that died while nobody asked.
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 4,
	}
	if c.Dial != nil {
		transport.Proxy = nil
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// proxy is HTTPS_PROXY and its like, but for the metadata service.
func proxy(req *http.Request) (*url.URL, error) {
	if req.URL.Hostname() == metadataHost {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// tryTimeout bounds one exchange, so that a connection which has gone dead
// leaves time for another.
func (c Config) tryTimeout() time.Duration { return c.Timeout / 3 }

// clientOptions are those of a pipeline, of a credential (tokens) or of the
// vault's client.
func (c Config) clientOptions(transport policy.Transporter, authority string, tokens bool) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     azcloud.Configuration{ActiveDirectoryAuthorityHost: authority},
		Transport: transport,
		Telemetry: policy.TelemetryOptions{ApplicationID: "akvfs"},
		Retry: policy.RetryOptions{
			MaxRetries: 6,
			TryTimeout: c.tryTimeout(),
			// Pauses grow from here by doubling; all of them fit the budget.
			RetryDelay:    min(400*time.Millisecond, c.Timeout/60),
			MaxRetryDelay: c.Timeout,
			ShouldRetry:   shouldRetry,
		},
		PerRetryPolicies: []policy.Policy{observer{tokens: tokens, log: c.Logger}},
	}
}

// retryStatus are answers that another try may better.
var retryStatus = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// metadataRetryStatus are more of them, which Microsoft's description of the
// metadata service names.
var metadataRetryStatus = []int{http.StatusNotFound, http.StatusGone}

// shouldRetry decides for one exchange. A wait longer than what is left of the
// call is not begun. Certificates get no better by asking again.
func shouldRetry(resp *http.Response, err error) bool {
	if err != nil {
		return !isTLSFailure(err)
	}
	host := resp.Request.URL.Hostname()
	if !slices.Contains(retryStatus, resp.StatusCode) &&
		!(host == metadataHost && slices.Contains(metadataRetryStatus, resp.StatusCode)) {
		return false
	}
	ctx := resp.Request.Context()
	if t := traceOf(ctx); t != nil {
		ctx = t.ctx // the call's, not the one exchange's
	}
	end, bounded := ctx.Deadline()
	return !bounded || time.Until(end) > retryAfter(resp.Header)
}

// isTLSFailure reports whether the other side's certificate or its TLS is not
// to be trusted.
func isTLSFailure(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// An alert, the other side's or ours, has no type that is exported.
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}
