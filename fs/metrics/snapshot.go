package metrics

import (
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/volume"
)

// Info is what does not change while a volume is mounted.
type Info struct {
	Volume     string // UUID
	Cluster    string
	Mountpoint string
	Version    string // of the program
	// States and KeyStates are all that a Snapshot may name.
	States    []string
	KeyStates []string
}

// Snapshot is how a volume stands at a scrape. A zero time is one that is not
// known.
type Snapshot struct {
	State             string
	Mounted           time.Time
	Keys              []Key
	MasterKeys        []MasterKey
	CredentialExpires time.Time
	Stats             volume.Stats
	Alerts            []alert.Alert
	Hook              alert.HookStats
	Scrub             Scrub
	Awake             time.Duration // that processors were kept awake
}

// Scrub tells of the reading and proving of everything there is.
type Scrub struct {
	Running  bool
	Read     uint64 // bytes since the mount
	Findings int
	Finished time.Time // the last one
}

// Key is a key identifier that wraps the master keys.
type Key struct {
	ID      string // without version
	Version string // that wraps
	State   string
	Wrapped time.Time // when this wrap was made
	Checked time.Time
	Expires time.Time // of the version that was described last
}

// MasterKey is one master key of the keyring.
type MasterKey struct {
	ID      string
	Active  bool
	Created time.Time
}
