package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/control"
)

// answerTime bounds how long a daemon may take to tell its status.
const answerTime = 5 * time.Second

// entriesIn lists a run directory; one that is not there is empty.
func entriesIn(runDir string) (*control.Dir, []control.Entry, error) {
	dir, err := control.OpenDir(runDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	entries, err := dir.Entries()
	return dir, entries, err
}

// find looks for a volume by its ID, its backing directory or its mount
// point, living ones first. ok is false if the run directory has none; path
// is then the canonical path that was looked for.
func find(runDir, name string) (dir *control.Dir, found control.Entry, path string, err error) {
	dir, entries, err := entriesIn(runDir)
	if err != nil {
		return nil, found, "", err
	}
	id, idErr := uuid.Parse(name)
	path, pathErr := canonical(name)
	for _, e := range entries {
		match := pathErr == nil && (e.Mountpoint == path || e.Backing == path)
		match = match || idErr == nil && e.Volume == id.String()
		if match && (found.Name == "" || !found.Live) {
			found = e
		}
	}
	switch {
	case found.Name != "":
		return dir, found, path, nil
	case idErr == nil && pathErr != nil:
		return nil, found, "", &NotFoundError{id}
	case errors.Is(pathErr, fs.ErrNotExist):
		return nil, found, "", &PathError{RoleVolume, name, ProblemMissing}
	}
	return dir, found, path, pathErr
}

// Knows reports whether a run directory has a volume with an ID, a backing
// directory or a mount point.
func Knows(runDir, name string) bool {
	_, entry, _, err := find(runDir, name)
	return err == nil && entry.Name != ""
}

// StatusOf describes the volume with an ID, a backing directory or a mount
// point: through its daemon if it is mounted, else from what can be read
// without keys. Errors are a *PathError, a *NotFoundError, a
// *MountpointTakenError, a *control.Error with CodeDenied or those of Inspect.
func StatusOf(ctx context.Context, runDir, name string) (Status, error) {
	dir, entry, path, err := find(runDir, name)
	if err != nil {
		return Status{}, err
	}
	if entry.Name != "" {
		s, err := statusOfEntry(ctx, dir, entry)
		if denied, ok := errors.AsType[*control.Error](err); ok && denied.Code == control.CodeDenied {
			return Status{}, err
		}
		return s, nil
	}
	if mine, err := ours(path); err != nil || mine {
		return Status{}, errors.Join(err, &MountpointTakenError{path})
	}
	return Inspect(path)
}

// Statuses describes every volume in a run directory, those that a killed
// daemon left included.
func Statuses(ctx context.Context, runDir string) ([]Status, error) {
	dir, entries, err := entriesIn(runDir)
	statuses := make([]Status, len(entries))
	done := make(chan struct{})
	for i, e := range entries {
		go func() {
			statuses[i], _ = statusOfEntry(ctx, dir, e) // its note tells
			done <- struct{}{}
		}()
	}
	for range entries {
		<-done
	}
	return statuses, err
}

// statusOfEntry always has an answer: a daemon that is silent, or dead, is
// one of the things that a status tells. The error is why it is not its daemon's.
func statusOfEntry(ctx context.Context, dir *control.Dir, e control.Entry) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var s Status
	err := dir.Client(e.Name).Call(ctx, MethodStatus, nil, &s, nil)
	if err == nil {
		return s, nil
	}
	if e.Live {
		s = Status{State: StateMounted, Mountpoint: e.Mountpoint, PID: e.PID, Since: &e.Started}
		s.Note = "its daemon does not answer: " + err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			s.Note = fmt.Sprintf("its daemon has not answered within %v: it hangs, is stopped, or waits for its disk", answerTime)
		}
	} else {
		// Behind a dead mount over the backing directory itself there is
		// nothing to read: what the record says has to do.
		s, _ = Inspect(e.Backing)
		s.State, s.Note = StateUnmounted, "its daemon was killed; mounting it again cleans up"
	}
	s.Backing, s.VolumeID = e.Backing, e.Volume
	return s, err
}

// UnmountResult tells what Unmount found.
type UnmountResult struct {
	Mountpoint string
	PID        int  // of the daemon that has unmounted; 0 if there was none to ask
	Dead       bool // the daemon had been killed, and its mount was cleaned up
}

// Unmount unmounts the volume with an ID, a backing directory or a mount
// point, and returns once its daemon has committed and let go of everything.
// It waits for users of the mount to go, up to wait. Errors are a
// *NotMountedError, a *control.Error with CodeBusy, a *BusyError, or those of
// the commit.
func Unmount(ctx context.Context, runDir, name string, wait time.Duration) (UnmountResult, error) {
	dir, entry, path, err := find(runDir, name)
	if err != nil {
		return UnmountResult{}, err
	}
	switch {
	case entry.Live:
		params := UnmountParams{Wait: wait.String()}
		err := dir.Client(entry.Name).Call(ctx, MethodUnmount, params, nil, nil)
		if unheard(err) && !Knows(runDir, name) {
			err = &NotMountedError{path}
		}
		return UnmountResult{Mountpoint: entry.Mountpoint, PID: entry.PID}, err
	case entry.Name != "":
		path = entry.Mountpoint
	}
	return unmountUnknown(ctx, path)
}

// unheard says that a daemon did not hear a call: it has ended, or been killed.
// One that has ended has taken its record away, a moment before.
func unheard(err error) bool {
	if answer, ok := errors.AsType[*control.Error](err); ok {
		return answer.Code == control.CodeEnding
	}
	_, gone := errors.AsType[*control.GoneError](err)
	return gone && slices.ContainsFunc([]error{syscall.ENOENT, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE},
		func(unsent error) bool { return errors.Is(err, unsent) })
}

// unmountUnknown unmounts an akvfs whose daemon cannot be asked.
func unmountUnknown(ctx context.Context, path string) (UnmountResult, error) {
	n, err := clearDead(ctx, path)
	if err != nil || n > 0 {
		return UnmountResult{Mountpoint: path, Dead: true}, err
	}
	mine, err := ours(path)
	if err != nil {
		return UnmountResult{}, err
	}
	if !mine {
		return UnmountResult{}, &NotMountedError{path}
	}
	err = unmountPath(ctx, path, false)
	if isBusy(err) {
		err = &BusyError{path, holders(path)}
	}
	return UnmountResult{Mountpoint: path}, err
}
