package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/akvfs/akvfs/fs/meter"
	"github.com/akvfs/akvfs/keymgr"
)

// Follow is what a mount does about a new version of its key.
type Follow string

// The values of Config.Follow.
const (
	FollowTake  Follow = "take"  // re-wrap the master keys under it
	FollowAlert Follow = "alert" // only tell
)

const alertRotation alertName = "rotation-available"

// follow looks for newer versions of the keys that are not pinned, and takes
// them or tells of them. It is called after each check, and asks a vault once
// for each key. A key whose version in use does not open the volume is left
// alone: what was revoked is not to be escaped by way of another version.
func (d *Daemon) follow(ctx context.Context) {
	if d.cfg.ReadOnly {
		return
	}
	master, err := d.masterKeys()
	if err != nil {
		return
	}
	var newer []string
	unknown := false
	for _, w := range master.Keyring().Wraps() {
		if w.Pinned() || d.keys.watch.state(w.KeyID) != KeyAvailable {
			continue
		}
		version, err := d.newerVersion(ctx, master.Keyring(), w)
		unknown = unknown || err != nil // the check tells what is wrong with a key
		if version == "" {
			continue
		}
		detail := fmt.Sprintf("%s has a newer version, %s, than wraps the volume", w.KeyID, version)
		if d.cfg.Follow != FollowAlert {
			_, err := d.admin.rotate(ctx, "follow", nil, KeyParams{From: w.KeyID})
			if err == nil || interrupted(err) {
				continue
			}
			detail += fmt.Sprintf(", and could not be taken: %v", err)
		}
		newer = append(newer, detail)
	}
	if unknown && len(newer) == 0 {
		return // what was told of may still be there
	}
	d.alert(alertRotation, len(newer) > 0, strings.Join(newer, "; "))
}

// newerVersion is the version of a key that ought to wrap the master keys and
// does not; "" if there is none, or it cannot be used now.
func (d *Daemon) newerVersion(ctx context.Context, keyring *keymgr.Keyring, w keymgr.Wrap) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.KeyTimeout)
	defer cancel()
	provider, err := d.keys.providers.get(w.AKI)
	if err != nil {
		return "", err
	}
	info, err := provider.Describe(ctx)
	if err == nil {
		d.observed.assess.learn(info, meter.Clock()+describeInterval)
	}
	if err != nil || !usable(info, d.cfg.Now()) {
		return "", err
	}
	for _, mk := range keyring.MasterKeys() {
		for _, other := range mk.Wraps {
			if other.KeyID == w.KeyID && other.Version != info.Version {
				return info.Version, nil
			}
		}
	}
	return "", nil
}

func usable(info keymgr.KeyInfo, now time.Time) bool {
	return info.Enabled && !now.Before(info.NotBefore) && (info.Expires.IsZero() || now.Before(info.Expires))
}

// state is what a key said last.
func (w *watch) state(keyID string) KeyState {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, ok := w.found[keyID]; ok {
		return f.state
	}
	return KeyUnknown
}
