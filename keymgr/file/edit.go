package file

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/akvfs/akvfs/keymgr"
)

// Rotate makes a new version, which an unversioned identifier means from now
// on, and returns its ID. Older versions stay as they are.
func (s *Store) Rotate() (version string, err error) {
	err = s.edit("rotate", func(d *document, now time.Time) error {
		if err := s.addVersion(d, now); err != nil {
			return s.fail("rotate", "", keymgr.Invalid, "TooManyVersions", err)
		}
		version = d.Versions[len(d.Versions)-1].ID
		return nil
	})
	return version, err
}

// Disable makes a version unusable until Enable. An empty version means all,
// so that "disable the key" takes it away whichever version is in use.
func (s *Store) Disable(version string) error {
	return s.editVersions("disable", version, func(v *versionOf) { v.Enabled = false })
}

// Enable undoes Disable, for one version or all.
func (s *Store) Enable(version string) error {
	return s.editVersions("enable", version, func(v *versionOf) { v.Enabled = true })
}

// Expire sets the instant from which on a version, or all, is not usable. A
// zero time takes the limit away.
func (s *Store) Expire(version string, at time.Time) error {
	if err := s.checkTime("expire", version, at); err != nil {
		return err
	}
	return s.editVersions("expire", version, func(v *versionOf) { v.Expires = utc(at) })
}

// NotBefore sets the instant before which a version, or all, is not usable. A
// zero time takes the limit away.
func (s *Store) NotBefore(version string, at time.Time) error {
	if err := s.checkTime("not-before", version, at); err != nil {
		return err
	}
	return s.editVersions("not-before", version, func(v *versionOf) { v.NotBefore = utc(at) })
}

// Delete makes the whole key unusable until Recover, or for ever by Purge.
func (s *Store) Delete() error {
	return s.edit("delete", func(d *document, now time.Time) error {
		d.Deleted = now
		return nil
	})
}

// Recover undoes Delete.
func (s *Store) Recover() error {
	return s.editDeleted("recover", func(d *document, _ time.Time) {
		d.Deleted = time.Time{}
	})
}

// Purge destroys a deleted key: its versions are gone from the file, and
// whatever they wrap is lost. The file stays, so that the key is known to be
// gone rather than missing; Create may make a new key in it.
func (s *Store) Purge() error {
	return s.editDeleted("purge", func(d *document, now time.Time) {
		d.wipe()
		d.Versions = []version{}
		d.Purged = now
	})
}

// versionOf lets the edits above have a parameter named version.
type versionOf = version

// edit changes a key that is not deleted.
func (s *Store) edit(op string, f func(d *document, now time.Time) error) error {
	return s.editAny(op, func(d *document, now time.Time) error {
		if err := gone(op, s.path, d); err != nil {
			return err
		}
		return f(d, now)
	})
}

// editDeleted changes a key that is deleted, and not purged.
func (s *Store) editDeleted(op string, f func(d *document, now time.Time)) error {
	return s.editAny(op, func(d *document, now time.Time) error {
		if !d.Purged.IsZero() {
			return gone(op, s.path, d)
		}
		if d.Deleted.IsZero() {
			return s.fail(op, "", keymgr.Invalid, "KeyNotDeleted", errors.New("the key is not deleted"))
		}
		f(d, now)
		return nil
	})
}

func (s *Store) editAny(op string, f func(d *document, now time.Time) error) error {
	unlock, err := s.lock(op)
	if err != nil {
		return err
	}
	defer unlock()
	d, err := read(op, s.path)
	if err != nil {
		return err
	}
	defer d.wipe()
	if err := f(d, s.now().UTC()); err != nil {
		return err
	}
	return s.write(op, d)
}

// editVersions changes one version, or all if id is empty.
func (s *Store) editVersions(op, id string, f func(*versionOf)) error {
	return s.edit(op, func(d *document, now time.Time) error {
		found := false
		for i := range d.Versions {
			v := &d.Versions[i]
			if id != "" && v.ID != id {
				continue
			}
			found = true
			f(v)
			v.Updated = now
		}
		if !found {
			return noVersion(op, s.path, id)
		}
		return nil
	})
}

func (s *Store) checkTime(op, version string, t time.Time) error {
	if err := checkTimes(utc(t)); err != nil {
		return s.fail(op, version, keymgr.Invalid, "BadTime", err)
	}
	return nil
}

// utc is t as the file holds it; a zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}

// gone is the error of a deleted or purged key, nil for any other.
func gone(op, path string, d *document) error {
	switch {
	case !d.Purged.IsZero():
		return failure(op, path, keymgr.Revoked, "KeyNotFound", fmt.Errorf("it was purged at %s", show(d.Purged)))
	case !d.Deleted.IsZero():
		return failure(op, path, keymgr.Revoked, "KeyDeleted", fmt.Errorf("it was deleted at %s", show(d.Deleted)))
	}
	return nil
}

func noVersion(op, path, id string) error {
	ke := failure(op, path, keymgr.Revoked, "KeyVersionNotFound", errors.New("the key has no such version"))
	ke.Version = id
	return ke
}

// unusable is the error of a version that may not be used at this time, nil
// for any other.
func (v *version) unusable(op, path string, now time.Time) error {
	var ke *keymgr.KeyError
	switch v.state(now) {
	case Disabled:
		ke = failure(op, path, keymgr.Revoked, "KeyDisabled", fmt.Errorf("it was disabled at %s", show(v.Updated)))
	case NotYetValid:
		ke = failure(op, path, keymgr.Revoked, "KeyNotYetValid", fmt.Errorf("it is not valid before %s", show(v.NotBefore)))
	case Expired:
		ke = failure(op, path, keymgr.Revoked, "KeyExpired", fmt.Errorf("it expired at %s", show(v.Expires)))
	default:
		return nil
	}
	ke.Version = v.ID
	return ke
}

func show(t time.Time) string { return t.Format(time.RFC3339) }

// find is the version with an ID, or nil.
func (d *document) find(id string) *version {
	i := slices.IndexFunc(d.Versions, func(v version) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &d.Versions[i]
}

// current is the newest usable version, or the newest if none is usable. d is
// not purged.
func (d *document) current(now time.Time) *version {
	for i := len(d.Versions) - 1; i >= 0; i-- {
		if d.Versions[i].state(now) == Usable {
			return &d.Versions[i]
		}
	}
	return &d.Versions[len(d.Versions)-1]
}
