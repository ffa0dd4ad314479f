package daemon

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Role is the part that a directory plays.
type Role string

// The roles of a PathError.
const (
	RoleBacking    Role = "backing directory"
	RoleMountpoint Role = "mount point"
	RoleVolume     Role = "volume"
	RoleAuditLog   Role = "audit log"
	RoleData       Role = "data directory"
)

// Problem is what is wrong with a directory.
type Problem string

// The problems of a PathError.
const (
	ProblemMissing       Problem = "does not exist"
	ProblemNotDirectory  Problem = "is not a directory"
	ProblemNotEmpty      Problem = "is not empty"
	ProblemInsideBacking Problem = "lies inside the backing directory"
	ProblemInsideMount   Problem = "lies inside the mount point"
	ProblemInsideVolume  Problem = "lies inside a mounted akvfs volume"
	ProblemIsVolume      Problem = "holds an akvfs volume already"
	ProblemSymlink       Problem = "is a symbolic link"
	ProblemMounted       Problem = "has something mounted on it"
	ProblemOtherDisk     Problem = "lies on another file system than the data"
)

// PathError says that a directory which the caller named cannot serve.
type PathError struct {
	Role    Role
	Path    string
	Problem Problem
}

func (e *PathError) Error() string {
	return fmt.Sprintf("%s %s %s", e.Role, e.Path, e.Problem)
}

// Holder is a process, or a mount, that keeps a mount from being unmounted.
type Holder struct {
	PID     int    `json:"pid"` // 0: a mount below this one
	Command string `json:"command"`
	Path    string `json:"path"` // one of the files that it holds
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "a mount at " + h.Path
	}
	return fmt.Sprintf("%s (process %d: %s)", h.Command, h.PID, h.Path)
}

// BusyError says that a mount cannot be unmounted because it is being used.
type BusyError struct {
	Mountpoint string
	Holders    []Holder // those that could be found, perhaps none
}

func (e *BusyError) Error() string {
	if len(e.Holders) == 0 {
		return fmt.Sprintf("%s is in use", e.Mountpoint)
	}
	names := make([]string, len(e.Holders))
	for i, h := range e.Holders {
		names[i] = h.String()
	}
	return fmt.Sprintf("%s is in use by %s", e.Mountpoint, strings.Join(names, ", "))
}

// InUseError says that a volume, or a mount point, is taken by a live mount.
type InUseError struct {
	Backing    string
	Mountpoint string // where it is mounted, "" if that cannot be told
	PID        int    // 0 if that cannot be told
}

func (e *InUseError) Error() string {
	s := fmt.Sprintf("volume %s is in use", e.Backing)
	if e.Mountpoint != "" {
		s = fmt.Sprintf("volume %s is mounted at %s already", e.Backing, e.Mountpoint)
	}
	if e.PID != 0 {
		s += fmt.Sprintf(" (process %d)", e.PID)
	}
	return s
}

// MountpointTakenError says that an akvfs of which this program knows nothing
// more is mounted at a path: another user's, or one with another run directory.
type MountpointTakenError struct{ Path string }

func (e *MountpointTakenError) Error() string {
	return fmt.Sprintf("another akvfs volume is mounted at %s, by another user or with another run directory", e.Path)
}

// NotMountedError says that nothing of ours is mounted at a path.
type NotMountedError struct{ Path string }

func (e *NotMountedError) Error() string {
	return fmt.Sprintf("no akvfs volume is mounted at %s", e.Path)
}

// NotFoundError says that no mounted volume has an ID.
type NotFoundError struct{ ID uuid.UUID }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no volume with the ID %s is mounted", e.ID)
}

// VolumeError puts the backing directory's path before an error about it.
type VolumeError struct {
	Backing string
	Err     error
}

func (e *VolumeError) Error() string { return fmt.Sprintf("%s: %v", e.Backing, e.Err) }
func (e *VolumeError) Unwrap() error { return e.Err }
