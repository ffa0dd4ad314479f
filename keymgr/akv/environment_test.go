package akv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/akvfs/akvfs/keymgr"
)

// TestVariablesAreAll: every variable that the code asks getenv for is one
// that Remembering remembers.
func TestVariablesAreAll(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	asked := regexp.MustCompile(`(?i)getenv\("([A-Z_]+)"\)`)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		must(t, err)
		for _, m := range asked.FindAllStringSubmatch(string(text), -1) {
			if found++; !slices.Contains(variables, m[1]) {
				t.Errorf("%s asks for %s, which is not remembered", file, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("nothing was looked at")
	}
}

// TestRemembering: credentials can be made of an environment that is gone.
func TestRemembering(t *testing.T) {
	const secret = "not-to-be-shown"
	for name, value := range map[string]string{
		"AZURE_TENANT_ID": "b6c3d2ae-4f0c-4a5b-8f6e-1d2c3b4a5f60", "AZURE_CLIENT_ID": "client", "AZURE_CLIENT_SECRET": secret,
		EnvDNSSuffix: "vault.example.org", "AZURE_AUTHORITY_HOST": "https://login.example.org/",
	} {
		t.Setenv(name, value)
	}
	open := Remembering()
	must(t, os.Unsetenv("AZURE_CLIENT_SECRET"))
	must(t, os.Unsetenv(EnvDNSSuffix))
	p, err := open("https://v.vault.example.org/keys/k", keymgr.ProviderOptions{})
	must(t, err)
	if id := p.(*Provider).identity; id.kind != kindSecret {
		t.Errorf("it has %s", id.kind)
	}
	e := environment{"AZURE_CLIENT_SECRET": secret}
	if text := fmt.Sprintf("%v %+v %#v %s", e, e, e, e); strings.Contains(text, secret) {
		t.Error("the secret is shown")
	}
	if _, err := Open("https://v.vault.example.org/keys/k", keymgr.ProviderOptions{}); err == nil {
		t.Error("the environment still has it")
	}
}
