package project

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/keymgr/confdir"
)

// Change is a configuration that is to be a project's.
type Change struct {
	Config  Config
	Secret  []byte // to be stored with it; nil: Config says where it is
	Timeout time.Duration
	Env     Env
}

// ExistsError says that there is a project of a name already.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("there is a project %s already", e.Name) }

// Absent refuses a name that a project has. Errors are an *ExistsError.
func (s Store) Absent(name string) error {
	_, err := s.dir.Read(name, configFile)
	if _, missing := errors.AsType[*confdir.NoEntryError](err); missing {
		return nil
	}
	if err == nil {
		err = &ExistsError{name}
	}
	return err
}

// newSecret stands for the secret of a Change until that has a file.
const newSecret = secretPrefix + "new"

// Apply proves a configuration and then stores it. The caller holds the
// project's lock. What is not proven leaves everything as it was: errors are
// an *InvalidError, a *CredentialError or an *UnprovenError.
func (s Store) Apply(ctx context.Context, name string, c Change) (Report, error) {
	if c.Secret != nil {
		c.Config.Credential.SecretFile = newSecret
	}
	if err := c.check(); err != nil {
		return Report{}, err
	}
	p := s.At(name, c.Config)
	if c.Secret != nil {
		forget, err := p.try(c.Secret)
		if err != nil {
			return Report{}, err
		}
		defer forget()
	}
	report, err := p.Prove(ctx, c.Timeout, c.Env)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && c.Secret != nil {
		c.Config.Credential.SecretFile, err = s.PutSecret(name, c.Secret)
	}
	if err == nil {
		err = s.Save(name, c.Config)
	}
	return report, err
}

// check is Validate, and what only the host that takes the change can tell.
func (c Change) check() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if unknown := c.Config.Roles.Unknown(); len(unknown) > 0 {
		return &InvalidError{Problems: []Problem{{"roles", fmt.Sprintf("name %q, of whom this host does not know; a number stands for itself (@NUMBER for a group)", unknown)}}}
	}
	return nil
}

// try has a project read its secret from memory that is no file's.
func (p *Project) try(secret []byte) (forget func(), err error) {
	fd, err := unix.MemfdCreate("akvfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "secret")
	p.secret = fmt.Sprintf("/proc/self/fd/%d", fd)
	if _, err := f.Write(secret); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
