package daemon

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// lockFile is what a process that has the volume open holds a flock on.
func lockFile(backing string) string { return filepath.Join(backing, ".akvfs", "lock") }

// Inspect describes an unmounted volume from what can be read without keys.
// It changes nothing. A volume that somebody unknown has open is described as
// mounted, without a mount point. Errors are a *PathError or a *VolumeError
// around one of volume.ReadInfo or keymgr.LoadKeyring.
func Inspect(backing string) (Status, error) {
	s, _, err := inspectKeyring(backing)
	return s, err
}

// inspectKeyring is Inspect, and all that the keyring says besides.
func inspectKeyring(backing string) (Status, KeyListing, error) {
	path, err := directory(RoleVolume, backing)
	if err != nil {
		return Status{}, KeyListing{}, err
	}
	st, err := store.OpenDisk(path)
	if err != nil {
		return Status{}, KeyListing{}, err
	}
	defer st.Close()
	info, err := volume.ReadInfo(st)
	if err != nil {
		return Status{}, KeyListing{}, &VolumeError{path, err}
	}
	keyring, err := keymgr.LoadKeyring(volume.Metadata(st))
	if err != nil {
		return Status{}, KeyListing{}, &VolumeError{path, err}
	}
	s := Status{Backing: path, State: StateUnmounted}
	s.describe(info, keyring)
	if pid, ok := flockHolder(lockFile(path)); ok {
		s.State, s.PID = StateMounted, pid
		s.Note = "another process has it open, and this run directory does not know it"
	}
	return s, listing(keyring), nil
}

// describe fills in what volume.json and the keyring say.
func (s *Status) describe(info volume.Info, keyring *keymgr.Keyring) {
	s.VolumeID, s.Cluster = info.ID.String(), info.Cluster
	s.Format, s.Names, s.Created = info.Format, info.Names, info.Created
	s.MasterKeys, s.AKIs, s.Alerts = []MasterKeyStatus{}, []AKIStatus{}, []alert.Alert{}
	for _, mk := range keyring.MasterKeys() {
		s.MasterKeys = append(s.MasterKeys, MasterKeyStatus{mk.ID.String(), mk.Active, mk.Created})
	}
	for _, w := range keyring.Wraps() {
		s.AKIs = append(s.AKIs, describeWrap(w))
	}
}

// describeWrap is what the keyring says of a key.
func describeWrap(w keymgr.Wrap) AKIStatus {
	return AKIStatus{
		KeyID: w.KeyID, AKI: w.AKI, Version: w.Version, Algorithm: w.Algorithm, Operation: w.Operation,
		Provider: w.Provider, State: KeyUnknown, Created: w.Created,
	}
}

// Status describes the mounted volume.
func (d *Daemon) Status() Status {
	since := d.started
	stats := d.volume.Stats()
	s := Status{
		Backing: d.cfg.Backing, Mountpoint: d.cfg.Mountpoint,
		Stopping: isClosed(d.stopping), Since: &since, PID: d.pid, Daemon: d.cfg.Version,
		ReadOnly: d.cfg.ReadOnly, CheckInterval: short(d.cfg.CheckInterval), Grace: short(d.cfg.Grace),
		Stats: &stats, Processors: d.processors(),
	}
	if !d.cfg.ReadOnly {
		s.WritePolicy = WriteFullData
	}
	s.describe(d.info, d.keys.keyring())
	d.keys.watch.fill(s.AKIs)
	d.guard.fill(&s, d.now())
	s.Alerts = d.observed.firing()
	s.Rewrap, _, _ = d.rewraps.get()
	s.Scrub = d.scrubs.status(d.cfg.Scrub)
	s.FrozenUntil = d.freezer.frozen()
	return s
}

// short writes 15m0s as 15m.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// keyState is how a key stands after a call of it answered err.
func keyState(err error) KeyState {
	var key *keymgr.KeyError
	switch {
	case err == nil:
		return KeyAvailable
	case !errors.As(err, &key):
		return KeyUnknown
	}
	switch key.Class {
	case keymgr.Revoked:
		return KeyRevoked
	case keymgr.Credentials:
		return KeyCredentials
	case keymgr.Unreachable:
		return KeyUnreachable
	case keymgr.Mismatch:
		return KeyMismatch
	}
	return KeyInvalid
}
