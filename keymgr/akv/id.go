package akv

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/akvfs/akvfs/keymgr"
)

// Codes of identifiers that ParseID refuses.
const (
	CodeBadKeyID     = "BadKeyID"     // no URL of the right form
	CodeNotHTTPS     = "NotHTTPS"     // another scheme
	CodeNotAKey      = "NotAKey"      // a secret, a certificate, ...
	CodeUnknownVault = "UnknownVault" // a host of no known cloud
)

// Limits of Key Vault's names. The service documents them with its REST
// interface ("Object identifiers and versioning").
var (
	vaultName  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	hostLabel  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	objectName = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	keyVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ID is a parsed key identifier.
type ID struct {
	Host    string // lower case; with the port where a private cloud has one
	Name    string // as given; the vault does not mind its case
	Version string // 32 hexadecimal digits, or empty
	Cloud   Cloud
}

// Base is the identifier without a version.
func (id ID) Base() string { return id.vaultURL() + "/keys/" + id.Name }

// String is the identifier in its normal form.
func (id ID) String() string {
	if id.Version == "" {
		return id.Base()
	}
	return id.Base() + "/" + id.Version
}

func (id ID) vaultURL() string { return "https://" + id.Host }

// sameKey reports whether two identifiers name one key. The vault may leave
// out a port, and spell the name in another case.
func (id ID) sameKey(other ID) bool {
	return hostname(id.Host) == hostname(other.Host) && strings.EqualFold(id.Name, other.Name)
}

func hostname(hostport string) string {
	host, _, _ := strings.Cut(hostport, ":")
	return host
}

// ParseID takes a key identifier apart. suffixes are those of private clouds,
// added to the known ones; only with them may an identifier have a port. The
// error is a *keymgr.KeyError of class Invalid, which repeats no user name and
// no query of the URL.
func ParseID(keyID string, suffixes ...string) (ID, error) {
	id, code, err := parseID(keyID, suffixes)
	if err != nil {
		return ID{}, &keymgr.KeyError{Class: keymgr.Invalid, KeyID: printable(keyID), Code: code, Op: "open", Err: err}
	}
	return id, nil
}

func parseID(keyID string, suffixes []string) (id ID, code string, err error) {
	u, err := url.Parse(keyID)
	switch {
	case len(keyID) > 1024 || err != nil:
		return ID{}, CodeBadKeyID, errors.New("the identifier is not a URL")
	case u.Scheme == "" || u.Host == "":
		return ID{}, CodeBadKeyID, errors.New("the identifier is not an https URL with a host")
	case u.Scheme != "https":
		return ID{}, CodeNotHTTPS, fmt.Errorf("its scheme is %q; a vault is spoken to by https alone", u.Scheme)
	case u.User != nil:
		return ID{}, CodeBadKeyID, errors.New("it holds a user name; credentials are configured elsewhere")
	case u.RawQuery != "" || u.ForceQuery:
		return ID{}, CodeBadKeyID, errors.New("it has a query")
	case strings.Contains(keyID, "#"):
		return ID{}, CodeBadKeyID, errors.New("it has a fragment")
	}
	if id.Host, id.Cloud, err = parseHost(u.Host, suffixes); err != nil {
		return ID{}, CodeUnknownVault, err
	}
	if id.Name, id.Version, code, err = parsePath(u); err != nil {
		return ID{}, code, err
	}
	return id, "", nil
}

// parseHost finds the cloud that a host belongs to.
func parseHost(host string, suffixes []string) (string, Cloud, error) {
	host = strings.ToLower(host)
	name, port, hasPort := strings.Cut(host, ":")
	for _, c := range knownClouds {
		label, ok := strings.CutSuffix(name, "."+c.Suffix)
		switch {
		case !ok:
		case hasPort:
			return "", Cloud{}, fmt.Errorf("%s has no port other than https's own", c.Suffix)
		case len(label) < 3 || len(label) > 24 || !vaultName.MatchString(label):
			return "", Cloud{}, fmt.Errorf("%q is not the name of a vault: 3 to 24 letters, digits and single hyphens, a letter first", label)
		default:
			return host, c, nil
		}
	}
	for _, suffix := range suffixes {
		want, wantPort, pinned := strings.Cut(strings.ToLower(suffix), ":")
		label, ok := strings.CutSuffix(name, "."+want)
		if !ok || len(label) > 63 || !hostLabel.MatchString(label) {
			continue
		}
		if pinned && port != wantPort || hasPort && !validPort(port) {
			continue
		}
		return host, Cloud{Suffix: want, Private: true}, nil
	}
	return "", Cloud{}, fmt.Errorf("%q is no vault of a known cloud (%s); a private cloud's DNS suffix is configured by %s",
		host, strings.Join(knownSuffixes(), ", "), EnvDNSSuffix)
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// parsePath takes /keys/NAME[/VERSION] apart.
func parsePath(u *url.URL) (name, version, code string, err error) {
	parts := strings.Split(u.EscapedPath(), "/")
	if len(parts) < 2 || parts[1] == "" {
		return "", "", CodeBadKeyID, errors.New("it names a vault, but no key: /keys/NAME is missing")
	}
	collection := strings.ToLower(parts[1])
	if slices.Contains([]string{"secrets", "certificates", "storage", "deletedkeys"}, collection) {
		return "", "", CodeNotAKey, fmt.Errorf("it names something under /%s, not a key", collection)
	}
	if collection != "keys" || len(parts) < 3 || len(parts) > 4 {
		return "", "", CodeBadKeyID, errors.New("its path is not /keys/NAME or /keys/NAME/VERSION")
	}
	if name = parts[2]; !objectName.MatchString(name) {
		return "", "", CodeBadKeyID, errors.New("the name of the key is not 1 to 127 letters, digits and hyphens")
	}
	if len(parts) == 4 {
		if version = strings.ToLower(parts[3]); !keyVersion.MatchString(version) {
			return "", "", CodeBadKeyID, errors.New("the version of the key is not 32 hexadecimal digits")
		}
	}
	return name, version, "", nil
}

// printable is an identifier that may be shown: where a password or a token
// could be in it, those parts are left out.
func printable(keyID string) string {
	if len(keyID) > 256 {
		keyID = keyID[:256] + "..."
	}
	if at := strings.IndexAny(keyID, "?#"); at >= 0 {
		keyID = keyID[:at]
	}
	if at := strings.LastIndex(keyID, "@"); at >= 0 {
		keyID = "..." + keyID[at:]
	}
	return keyID
}
