package file

import "time"

// State is what can be done with a version.
type State string

// The states of a version, in the order in which they are looked for.
const (
	Disabled    State = "disabled"
	NotYetValid State = "not yet valid"
	Expired     State = "expired"
	Usable      State = "usable"
)

// state is the version's own; that the key is deleted is not in it.
func (v *version) state(now time.Time) State {
	switch {
	case !v.Enabled:
		return Disabled
	case now.Before(v.NotBefore):
		return NotYetValid
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		return Expired
	}
	return Usable
}

// Listing is a key store without its secrets, fit to be printed. Absent times
// are zero, and left out of its JSON.
type Listing struct {
	Path     string           `json:"path"`
	KeyID    string           `json:"key_id"`
	Type     string           `json:"type"`
	Size     int              `json:"size"` // bits
	Created  time.Time        `json:"created"`
	Deleted  time.Time        `json:"deleted,omitzero"`
	Purged   time.Time        `json:"purged,omitzero"`
	Versions []VersionListing `json:"versions"` // oldest first; none once purged
}

// VersionListing is one version in a Listing.
type VersionListing struct {
	ID        string    `json:"id"`
	KeyID     string    `json:"key_id"` // that pins this version
	State     State     `json:"state"`
	Current   bool      `json:"current"` // what an unversioned identifier means
	Enabled   bool      `json:"enabled"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Expires   time.Time `json:"expires,omitzero"`
}

// Show lists the store. A deleted or purged key is listed too.
func (s *Store) Show() (Listing, error) {
	d, err := read("show", s.path)
	if err != nil {
		return Listing{}, err
	}
	defer d.wipe()
	l := Listing{
		Path: s.path, KeyID: s.KeyID(), Type: d.Type, Size: d.Size,
		Created: d.Created, Deleted: d.Deleted, Purged: d.Purged, Versions: []VersionListing{},
	}
	now := s.now()
	for i := range d.Versions {
		v := &d.Versions[i]
		l.Versions = append(l.Versions, VersionListing{
			ID: v.ID, KeyID: pinned(s.path, v.ID), State: v.state(now), Enabled: v.Enabled,
			Current: d.Deleted.IsZero() && v == d.current(now) && v.state(now) == Usable,
			Created: v.Created, Updated: v.Updated, NotBefore: v.NotBefore, Expires: v.Expires,
		})
	}
	return l, nil
}

// pinned is the identifier of one version.
func pinned(path, version string) string { return KeyID(path) + "?version=" + version }
