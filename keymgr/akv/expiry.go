package akv

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/akvfs/akvfs/keymgr"
)

// CertificateExpiry tells when the certificate expires by which this host is
// known to the directory. What is configured is read once, when it is called;
// what it returns reads the certificate's file at each call, so that a renewed
// one is taken. Where the host is known by other means, the time is zero.
func CertificateExpiry(o keymgr.CredentialOptions, getenv func(string) string) func() (time.Time, error) {
	id, err := identify(o, getenv)
	return func() (time.Time, error) {
		if err != nil || id.kind != kindCertificate {
			return time.Time{}, nil // the provider says what is wrong with it
		}
		return id.certificateExpiry()
	}
}

func (id identity) certificateExpiry() (time.Time, error) {
	certs, key, err := id.readCertificate()
	if err != nil {
		return time.Time{}, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return time.Time{}, fmt.Errorf("%s holds a key that cannot sign", id.certificate)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, c := range certs {
		if ok && public.Equal(c.PublicKey) {
			return c.NotAfter.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s holds no certificate for its key", id.certificate)
}

// readCertificate reads the file with its chain and its private key.
func (id identity) readCertificate() ([]*x509.Certificate, crypto.PrivateKey, error) {
	data, err := readCredentialFile(id.certificate)
	if err != nil {
		return nil, nil, err
	}
	defer clear(data)
	var password string
	if id.password.set() {
		if password, err = id.password.read(); err != nil {
			return nil, nil, err
		}
	}
	certs, key, err := azidentity.ParseCertificates(data, []byte(password))
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be read as a certificate with its private key: %w", id.certificate, err)
	}
	return certs, key, nil
}
