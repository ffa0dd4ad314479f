package daemon

import "time"

// Methods about keys.
const (
	MethodKeyCheck        = "key.check"
	MethodKeyRotate       = "key.rotate"
	MethodKeyAdd          = "key.add"
	MethodKeyRemove       = "key.remove"
	MethodKeyList         = "key.list"
	MethodMasterKeyRotate = "master-key.rotate"
)

// KeyParams are the parameters of the methods about keys. An empty field says
// nothing.
type KeyParams struct {
	From      string `json:"from,omitempty"`      // rotate, check, remove: the key that is meant
	To        string `json:"to,omitempty"`        // rotate, check, add: the key to take
	Operation string `json:"operation,omitempty"` // keymgr.OpWrap or OpEncrypt; empty: that of the key before
}

// MasterKeyParams are those of MethodMasterKeyRotate.
type MasterKeyParams struct {
	Wait bool `json:"wait"` // until every file key is re-wrapped and the old master key retired
}

// KeyVersion is one version of a key of a vault.
type KeyVersion struct {
	KeyID   string `json:"key_id"`  // without a version
	AKI     string `json:"aki"`     // as given, with a version if that is pinned
	Version string `json:"version"` // that wraps
}

// KeyChange is what rotating, adding or removing a key has done.
type KeyChange struct {
	Changed    bool        `json:"changed"` // false: it was so already
	Before     *KeyVersion `json:"before"`  // nil for a key that was added
	After      *KeyVersion `json:"after"`   // nil for a key that was removed
	MasterKeys int         `json:"master_keys"`
	Generation uint64      `json:"generation"` // of the keyring
}

// KeyReport is what MethodKeyCheck answers.
type KeyReport struct {
	Keys []KeyAnswer `json:"keys"`
	Plan KeyPlan     `json:"plan"`
}

// KeyAnswer is what one key of the volume says.
type KeyAnswer struct {
	KeyVersion
	State   KeyState   `json:"state"` // whether the version that wraps opens the volume
	Error   string     `json:"error"`
	Newest  string     `json:"newest"` // version; "" if the vault did not tell
	Pinned  bool       `json:"pinned"`
	Created *time.Time `json:"created"` // of the newest version, and so on
	Expires *time.Time `json:"expires"`
	Enabled bool       `json:"enabled"`
}

// KeyPlan is what a rotation would do.
type KeyPlan struct {
	Would Would       `json:"would"`
	From  *KeyVersion `json:"from"`
	To    *KeyVersion `json:"to"`
	Error string      `json:"error"` // why it would fail
}

// Would is the outcome of a rotation that is only planned.
type Would string

// The outcomes of a KeyPlan.
const (
	WouldRotate  Would = "rotate"
	WouldNothing Would = "nothing" // that version wraps already
	WouldFail    Would = "fail"
	WouldAsk     Would = "ask" // which of several keys is meant
)

// KeyListing is what MethodKeyList answers: the keyring, without its keys.
type KeyListing struct {
	Generation uint64           `json:"generation"`
	MasterKeys []MasterKeyWraps `json:"master_keys"`
	Rewrap     *RewrapStatus    `json:"rewrap"` // nil unless mounted
}

// MasterKeyWraps is a master key and what wraps it.
type MasterKeyWraps struct {
	MasterKeyStatus
	Wraps []AKIStatus `json:"wraps"`
}

// MasterKeyChange is what MethodMasterKeyRotate answers.
type MasterKeyChange struct {
	MasterKey string        `json:"master_key"` // the new one
	Before    string        `json:"before"`     // the one before, or what is left of it to do
	Rewrap    *RewrapStatus `json:"rewrap"`     // how far file keys are under the new one
}

// RewrapStatus tells of the walk that brings file keys under a new master key.
type RewrapStatus struct {
	Running   bool       `json:"running"`
	To        string     `json:"to"`       // master key
	Retiring  []string   `json:"retiring"` // master keys that go once it is done
	Files     uint64     `json:"files"`    // looked at
	Rewrapped uint64     `json:"rewrapped"`
	Bytes     uint64     `json:"bytes_written"` // of headers; no data is written
	Started   time.Time  `json:"started"`
	Finished  *time.Time `json:"finished"`
	Error     string     `json:"error"` // why the last walk did not come to its end
}
