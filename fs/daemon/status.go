package daemon

import (
	"time"

	"github.com/akvfs/akvfs/fs/alert"
	"github.com/akvfs/akvfs/fs/volume"
)

// State is how a volume stands.
type State string

// The states of a volume.
const (
	StateUnmounted State = "unmounted"
	StateMounted   State = "mounted"
	StateGrace     State = "grace"  // the key vault cannot be reached; still serving
	StateLocked    State = "locked" // the keys are gone; every call answers ENOKEY
)

// Status is what `akvfs status --json` prints. Fields may join, none goes and
// none changes its meaning.
type Status struct {
	Backing    string     `json:"backing"`
	Mountpoint string     `json:"mountpoint"` // "" if unmounted, or not to be told
	State      State      `json:"state"`
	Stopping   bool       `json:"stopping"` // told to end, and waiting for those who use the mount
	Since      *time.Time `json:"since"`    // when it was mounted
	PID        int        `json:"pid"`      // of the daemon, 0 without one
	Daemon     string     `json:"daemon"`   // the daemon's version
	ReadOnly   bool       `json:"read_only"`
	Note       string     `json:"note"` // one sentence on what is out of the ordinary

	StateSince   *time.Time `json:"state_since"`    // when State began; nil if unmounted
	StateReason  string     `json:"state_reason"`   // why it is StateGrace or StateLocked
	LockedByHand bool       `json:"locked_by_hand"` // it stays locked until it is unlocked by hand
	GraceUntil   *time.Time `json:"grace_until"`    // when StateGrace ends in a lock, as it looks now

	Cluster  string    `json:"cluster"`
	VolumeID string    `json:"volume_id"`
	Format   int       `json:"format"`
	Names    string    `json:"names"`
	Created  time.Time `json:"created"`

	CheckInterval string `json:"check_interval"` // "" if unmounted
	Grace         string `json:"grace"`

	MasterKeys []MasterKeyStatus `json:"master_keys"`
	AKIs       []AKIStatus       `json:"akis"`
	Rewrap     *RewrapStatus     `json:"rewrap"` // since the mount; nil: there was none

	Scrub *ScrubStatus `json:"scrub"` // nil if unmounted
	// WritePolicy says what of an overwritten block the journal holds before it
	// is written home: WriteFullData always. "" if nothing is written.
	WritePolicy string `json:"write_policy"`

	Processors *ProcessorStatus `json:"processors"` // nil if unmounted

	FrozenUntil *time.Time `json:"frozen_until"` // nil: it is not

	Alerts []alert.Alert `json:"alerts"` // that fire; always empty if unmounted

	Stats *volume.Stats `json:"stats"` // nil if unmounted
}

// WriteFullData is a WritePolicy: the journal holds all of a block.
const WriteFullData = "full-data"

// MasterKeyStatus is one master key of the keyring.
type MasterKeyStatus struct {
	ID      string    `json:"id"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
}

// AKIStatus is one key identifier that wraps the master keys.
type AKIStatus struct {
	KeyID     string     `json:"key_id"`    // without a version
	AKI       string     `json:"aki"`       // as given, with a version if that is pinned
	Version   string     `json:"version"`   // the version that wraps
	Algorithm string     `json:"algorithm"` // of the wrap
	Operation string     `json:"operation"` // the permission that it used: "wrap" or "encrypt"
	Provider  string     `json:"provider"`  // "akv" or "file"
	State     KeyState   `json:"state"`
	Checked   *time.Time `json:"checked"` // when State was found; nil: never since the mount
	Error     string     `json:"error"`   // why State is not available
	Created   time.Time  `json:"created"` // when this wrap was made
}

// KeyState is what the last check of a key found.
type KeyState string

// The states of a key.
const (
	KeyUnknown     KeyState = "unknown" // nobody has asked, as for an unmounted volume
	KeyAvailable   KeyState = "available"
	KeyRevoked     KeyState = "revoked"
	KeyCredentials KeyState = "credentials-refused"
	KeyUnreachable KeyState = "unreachable"
	KeyMismatch    KeyState = "mismatch" // it answers, but opens something else
	KeyInvalid     KeyState = "invalid"
)
