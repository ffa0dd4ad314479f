package file

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/akvfs/akvfs/keymgr"
)

// Scheme is the URL scheme of the embedded key store's identifiers.
const Scheme = "file"

// KeyID is the identifier of the key in the file at an absolute path.
func KeyID(file string) string {
	return (&url.URL{Scheme: Scheme, Path: path.Clean(file)}).String()
}

// ParseKeyID takes an identifier apart. version is empty if it names none.
// Errors are *keymgr.KeyError of class Invalid.
func ParseKeyID(keyID string) (file, version string, err error) {
	file, version, err = parseKeyID(keyID)
	if err != nil {
		return "", "", &keymgr.KeyError{Class: keymgr.Invalid, KeyID: keyID, Code: "BadKeyID", Op: "open", Err: err}
	}
	return file, version, nil
}

func parseKeyID(keyID string) (file, version string, err error) {
	u, err := url.Parse(keyID)
	if err != nil {
		return "", "", err
	}
	switch {
	case u.Scheme != Scheme:
		return "", "", fmt.Errorf("the scheme is %q, not %q", u.Scheme, Scheme)
	case u.Host != "" && u.Host != "localhost" || u.User != nil:
		return "", "", fmt.Errorf("it names the host %q; an embedded key store is a file of this host, as in file:///path/key.json", u.Host)
	case u.Fragment != "" || strings.HasSuffix(keyID, "#"):
		return "", "", errors.New("it has a fragment")
	case !strings.HasPrefix(u.Path, "/"):
		return "", "", errors.New("it has no absolute path, as file:///path/key.json has")
	case strings.HasSuffix(u.Path, "/") || path.Clean(u.Path) == "/":
		return "", "", errors.New("it names a directory")
	case strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", "", errors.New("its path holds a control character")
	}
	version, err = parseQuery(u.RawQuery, u.ForceQuery)
	return path.Clean(u.Path), version, err
}

// parseQuery accepts nothing, or version=ID once.
func parseQuery(query string, bare bool) (version string, err error) {
	if query == "" && !bare {
		return "", nil
	}
	version, ok := strings.CutPrefix(query, "version=")
	if !ok || !validVersion(version) {
		return "", fmt.Errorf("%q is not version= and 32 hexadecimal digits", query)
	}
	return version, nil
}

// validVersion reports whether s has the form of a version's ID.
func validVersion(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
