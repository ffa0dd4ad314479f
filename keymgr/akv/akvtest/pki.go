package akvtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"
)

// Certificate modes of a Server.
const (
	CertGood      = ""           // for the name that is asked for
	CertExpired   = "expired"    // yesterday
	CertWrongName = "wrong-name" // for another host
	CertUnknownCA = "unknown-ca" // signed by nobody that is trusted
	CertOldTLS    = "old-tls"    // good, but TLS 1.1 is all that is offered
)

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // by host and mode
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key, leaves: make(map[string]*tls.Certificate)}, nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// leaf is the certificate for a host in a mode.
func (a *authority) leaf(host, mode string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[host+"\n"+mode]; c != nil {
		return c, nil
	}
	name, expires := host, time.Now().Add(365*24*time.Hour)
	switch mode {
	case CertExpired:
		expires = time.Now().Add(-24 * time.Hour)
	case CertWrongName:
		name = "another.example"
	}
	c, err := a.issue(name, expires)
	if err == nil {
		a.leaves[host+"\n"+mode] = c
	}
	return c, err
}

func (a *authority) issue(name string, expires time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: expires.Add(-2 * 365 * 24 * time.Hour), NotAfter: expires,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// SetCertificate changes what new connections are shown; see the Cert modes.
// Connections that are open are closed.
func (s *Server) SetCertificate(mode string) {
	s.mu.Lock()
	s.certMode = mode
	s.mu.Unlock()
	s.closeConns()
}

// tlsConfig serves each connection the certificate of the name that it asks for.
func (s *Server) tlsConfig() *tls.Config {
	certificate := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		mode := s.certMode
		s.mu.Unlock()
		host := strings.ToLower(hello.ServerName)
		if host == "" {
			host = "127.0.0.1"
		}
		if mode == CertUnknownCA {
			return s.stranger.leaf(host, mode)
		}
		return s.ca.leaf(host, mode)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: certificate}
	old := base.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.certMode == CertOldTLS {
			return old, nil
		}
		return nil, nil
	}
	return base
}
