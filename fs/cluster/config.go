package cluster

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
)

// Version is that of the record's form.
const Version = 1

// State is how far a cluster is.
type State string

// The states.
const (
	StateEnabling  State = "enabling"
	StateEnabled   State = "enabled"
	StateDisabling State = "disabling"
)

// Config is the record of a cluster.
type Config struct {
	Version int    `toml:"version" json:"-"`
	Project string `toml:"project" json:"project"`
	Data    string `toml:"data" json:"data"`       // the dbPath, and the mount point
	Backing string `toml:"backing" json:"backing"` // may be Data
	State   State  `toml:"state" json:"state"`
	// MountOptions are for every mount of the cluster, as `mount -o` has them.
	MountOptions []string `toml:"mount_options,omitempty" json:"mount_options,omitempty"`
}

// Cluster is one that is on record.
type Cluster struct {
	Name string `json:"name"`
	Config
}

// over reports whether the mount covers the backing directory.
func (c Config) over() bool { return c.Data == c.Backing }

// RecordError says that a cluster's record cannot be used.
type RecordError struct{ Path, Why string }

func (e *RecordError) Error() string { return e.Path + ": " + e.Why }

// Parse reads a record strictly. Errors are a *RecordError without a path.
func Parse(data []byte) (Config, error) {
	var c Config
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	switch err := d.Decode(&c).(type) {
	case nil:
		return c, c.validate()
	case *toml.StrictMissingError:
		row, _ := err.Errors[0].Position()
		return Config{}, &RecordError{Why: fmt.Sprintf("line %d has the unknown field %s", row, strings.Join(err.Errors[0].Key(), "."))}
	case *toml.DecodeError:
		row, _ := err.Position()
		return Config{}, &RecordError{Why: fmt.Sprintf("line %d is not what is meant there: %s", row, strings.TrimPrefix(err.Error(), "toml: "))}
	}
	return Config{}, &RecordError{Why: "is not TOML"}
}

func (c Config) encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# A cluster of akvfs. mount_options may be edited; `akvfs cluster enable` and `disable` keep the rest.\n")
	err := toml.NewEncoder(&b).Encode(c)
	return b.Bytes(), err
}

func (c Config) validate() error {
	bad := func(format string, a ...any) error { return &RecordError{Why: fmt.Sprintf(format, a...)} }
	switch {
	case c.Version != Version:
		return bad("version is %d; this akvfs knows %d", c.Version, Version)
	case c.Project == "":
		return bad("project is missing")
	case c.State != StateEnabling && c.State != StateEnabled && c.State != StateDisabling:
		return bad("state is enabling, enabled or disabling")
	}
	for name, path := range map[string]string{"data": c.Data, "backing": c.Backing} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || strings.ContainsFunc(path, unicode.IsControl) {
			return bad("%s is not the absolute path of a directory", name)
		}
	}
	if inside(c.Data, c.Backing) || inside(c.Backing, c.Data) {
		return bad("of data and backing one lies inside the other")
	}
	return nil
}

// inside reports whether a path lies below another.
func inside(path, dir string) bool { return strings.HasPrefix(path, dir+"/") }

// Takes reports whether a canonical path is one of the cluster's directories, or
// lies in one, or has one in it.
func (c Config) Takes(path string) bool { return c.collides(Config{Data: path, Backing: path}) }

// collides reports whether two clusters have a directory in common, or one in
// another's.
func (c Config) collides(other Config) bool {
	for _, a := range []string{c.Data, c.Backing} {
		for _, b := range []string{other.Data, other.Backing} {
			if a == b || inside(a, b) || inside(b, a) {
				return true
			}
		}
	}
	return false
}
