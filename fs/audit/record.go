package audit

import "time"

// Types of lines. A reader must expect others.
const (
	TypeKey     = "key"     // something was done with a key
	TypeCommand = "command" // somebody told the daemon to do something
	TypeMount   = "mount"   // the daemon's own beginning and end
	TypeAlert   = "alert"   // a condition began or ended; package alert's Event
)

// Results of a Record.
const (
	ResultBegun   = "begun" // a second line, with the same Call, tells the end
	ResultOK      = "ok"
	ResultFailed  = "failed"
	ResultRefused = "refused" // the caller may not do this
)

// Record is a line of the log. Fields may join; none changes its meaning.
type Record struct {
	Time      time.Time `json:"time"` // UTC
	Type      string    `json:"type"`
	Action    string    `json:"action"` // "key.rotate", "check", "unmount"
	Volume    string    `json:"volume"` // UUID; "" for what concerns none
	Project   string    `json:"project,omitempty"`
	Cluster   string    `json:"cluster,omitempty"`
	Snapshot  string    `json:"snapshot,omitempty"`
	By        *Who      `json:"by"` // null: the daemon of its own accord
	Call      uint64    `json:"call,omitempty"`
	KeyID     string    `json:"key_id,omitempty"`      // without a version
	Version   string    `json:"key_version,omitempty"` // of the key
	MasterKey string    `json:"master_key,omitempty"`
	Result    string    `json:"result"`
	Class     string    `json:"error_class,omitempty"` // "revoked", "busy": see Code of package daemon
	Error     string    `json:"error,omitempty"`       // for people
	Millis    float64   `json:"took_ms,omitempty"`
	Untold    int       `json:"untold,omitempty"` // refusals since the last line of one, that have no line of their own
}

// Who is a process that asked for something. UID and PID are the kernel's word;
// Command is the process's own, and no proof of anything.
type Who struct {
	UID     uint32 `json:"uid"`
	PID     int32  `json:"pid"`
	Command string `json:"command"`
}
