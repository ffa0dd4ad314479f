package akv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

func environmentOf(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestCertificateExpiry(t *testing.T) {
	first, firstText := newCertificate(t)
	other, otherText := newCertificate(t)
	path := writeFile(t, "client.pem", firstText)
	env := map[string]string{
		"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_CERTIFICATE_PATH": path,
	}
	expiry := CertificateExpiry(keymgr.CredentialOptions{}, environmentOf(env))
	clear(env) // the program takes its secrets out of the environment
	want := func(notAfter time.Time) {
		t.Helper()
		if at, err := expiry(); err != nil || !at.Equal(notAfter) {
			t.Errorf("%v, %v; want %v", at, err, notAfter)
		}
	}
	want(first.NotAfter)
	must(t, os.WriteFile(path, []byte(otherText), 0o600)) // renewed
	want(other.NotAfter)
	// A chain: the certificate of the key counts, wherever it stands.
	block, _, _ := strings.Cut(firstText, "-----BEGIN PRIVATE KEY")
	must(t, os.WriteFile(path, []byte(block+otherText), 0o600))
	want(other.NotAfter)
	must(t, os.WriteFile(path, []byte(block), 0o600))
	if at, err := expiry(); err == nil || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("without its key: %v, %v", at, err)
	}
	must(t, os.Remove(path))
	if _, err := expiry(); err == nil {
		t.Error("a file that is gone has an expiry")
	}
}

// The password may be in the environment only when the program starts.
func TestCertificateExpiryPKCS12(t *testing.T) {
	cert, text := newCertificate(t)
	pem := writeFile(t, "client.pem", text)
	p12 := filepath.Join(t.TempDir(), "client.p12")
	out, err := exec.Command("openssl", "pkcs12", "-export", "-legacy", "-in", pem, "-out", p12, "-passout", "pass:hush").CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	env := map[string]string{
		"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c",
		"AZURE_CLIENT_CERTIFICATE_PATH": p12, "AZURE_CLIENT_CERTIFICATE_PASSWORD": "hush",
	}
	expiry := CertificateExpiry(keymgr.CredentialOptions{}, environmentOf(env))
	clear(env)
	if at, err := expiry(); err != nil || !at.Equal(cert.NotAfter) {
		t.Errorf("%v, %v", at, err)
	}
}

// Where the host is known by other means nothing is known, and nothing wrong.
func TestNoCertificate(t *testing.T) {
	for name, expiry := range map[string]func() (time.Time, error){
		"ambient": CertificateExpiry(keymgr.CredentialOptions{}, environmentOf(nil)),
		"managed": CertificateExpiry(keymgr.CredentialOptions{ManagedIdentity: true}, environmentOf(nil)),
		"secret": CertificateExpiry(keymgr.CredentialOptions{}, environmentOf(map[string]string{
			"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"})),
		"half": CertificateExpiry(keymgr.CredentialOptions{}, environmentOf(map[string]string{"AZURE_CLIENT_SECRET": "s"})),
	} {
		if at, err := expiry(); err != nil || !at.IsZero() {
			t.Errorf("%s: %v, %v", name, at, err)
		}
	}
}
