package project

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/akvfs/akvfs/keymgr/confdir"
)

const (
	configFile   = "project.toml"
	secretPrefix = "secret-"
)

// Store keeps the projects of a host, below its configuration directory.
type Store struct{ dir confdir.Dir }

// StoreIn is the store of a configuration directory.
func StoreIn(config string) Store { return Store{confdir.In(config, "projects", "project")} }

// Project is a configured project.
type Project struct {
	Name   string
	Config Config
	path   string // of the configuration file
	secret string // path that stands for Credential.SecretFile while that is tried; or ""
}

// Path is that of the project's configuration file.
func (p Project) Path() string { return p.path }

// CheckName refuses what cannot be a project's name: a *confdir.NameError.
func (s Store) CheckName(name string) error { return s.dir.CheckName(name) }

// Names lists the projects.
func (s Store) Names() ([]string, error) { return s.dir.Names(configFile) }

// Lock keeps others from changing a project; see confdir.
func (s Store) Lock(name string, shared bool) (unlock func(), err error) {
	return s.dir.Lock(name, shared)
}

// Load reads a project. Errors are a *confdir.NoEntryError, *confdir.NameError,
// *confdir.UnsafeError or an *InvalidError.
func (s Store) Load(name string) (Project, error) {
	data, err := s.dir.Read(name, configFile)
	if err != nil {
		return Project{}, err
	}
	p := Project{Name: name, path: s.dir.Path(name, configFile)}
	p.Config, err = Parse(data)
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		invalid.Path = p.path
	}
	return p, err
}

// At is what a project would be with another configuration: nothing is stored.
func (s Store) At(name string, c Config) Project {
	return Project{Name: name, Config: c, path: s.dir.Path(name, configFile)}
}

// PutSecret stores a secret beside a project's configuration, and returns the
// name by which Credential.SecretFile means it. It counts once a configuration
// that names it is saved.
func (s Store) PutSecret(name string, secret []byte) (string, error) {
	var b [8]byte
	rand.Read(b[:])
	file := secretPrefix + hex.EncodeToString(b[:])
	return file, s.dir.Write(name, file, secret)
}

// Save stores a configuration, and removes secrets that it does not name.
func (s Store) Save(name string, c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	data, err := c.Encode()
	if err == nil {
		err = s.dir.Write(name, configFile, data)
	}
	if err != nil {
		return err
	}
	return s.Tidy(name, c)
}

// Tidy removes secrets that a configuration does not name, such as those of an
// attempt that was not proven, and what a writer of one that was killed has left.
// The caller holds the project's lock.
func (s Store) Tidy(name string, c Config) error {
	secrets, err := filepath.Glob(s.dir.Path(name, secretPrefix+"*"))
	left, _ := filepath.Glob(s.dir.Path(name, "."+secretPrefix+"*"))
	for _, path := range append(secrets, left...) {
		if base := filepath.Base(path); base != c.Credential.SecretFile && err == nil {
			err = s.dir.RemoveFile(name, base)
		}
	}
	if _, missing := os.Lstat(s.dir.Path(name, configFile)); err == nil && errors.Is(missing, os.ErrNotExist) {
		_ = os.Remove(filepath.Dir(s.dir.Path(name, configFile))) // if it is empty: there was no project
	}
	return err
}

// Remove removes a project and its secret.
func (s Store) Remove(name string) error { return s.dir.Remove(name, configFile) }

// in makes a path of the configuration absolute.
func (p Project) in(path string) string {
	if path == "" || strings.HasPrefix(path, "/") {
		return path
	}
	return filepath.Join(filepath.Dir(p.path), path)
}
