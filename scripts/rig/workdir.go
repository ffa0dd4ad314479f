package rig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
)

// workPrefix begins the name of every work directory; the maker's PID follows.
const workPrefix = "akvfs-rig-"

// childDir records the children of this process, so that a sweep after its
// death finds them. Set once by NewWorkDir, before any child is started.
var childDir string

// WorkDir is a run's directory. It holds mount points, disk images and logs,
// and a record of the children.
type WorkDir struct{ Path string }

// NewWorkDir sweeps what dead runs left under parent, and makes a directory
// for this one that other users may pass through.
func NewWorkDir(ctx context.Context, parent string) (*WorkDir, error) {
	if err := Sweep(ctx, parent); err != nil {
		return nil, fmt.Errorf("what an earlier run left: %w", err)
	}
	path, err := os.MkdirTemp(parent, workPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	childDir = filepath.Join(path, "children")
	return &WorkDir{Path: path}, errors.Join(os.Chmod(path, 0o755), os.Mkdir(childDir, 0o700))
}

// Close removes the directory and everything mounted in it.
func (w *WorkDir) Close(ctx context.Context) error { return clear(ctx, w.Path) }

// Sweep clears the work directories under parent whose maker has died.
func Sweep(ctx context.Context, parent string) error {
	dirs, err := filepath.Glob(filepath.Join(parent, workPrefix+"*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), workPrefix), "-")
		if n, bad := strconv.Atoi(pid); bad == nil && !runs(n) {
			err = errors.Join(err, clear(ctx, dir))
		}
	}
	return err
}

// clear kills the recorded children, unmounts what is mounted below dir, the
// innermost first, frees its loop devices and removes it.
func clear(ctx context.Context, dir string) error {
	if err := killChildren(filepath.Join(dir, "children")); err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		err = errors.Join(err, detach(m.Mountpoint))
	}
	return errors.Join(err, freeLoops(ctx, dir), removeTree(ctx, dir))
}

// removeTree removes dir; a file system that was just detached may still let
// go of its files, so it tries for a while.
func removeTree(ctx context.Context, dir string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := os.RemoveAll(dir)
		if err == nil || pause(ctx, deadline) != nil {
			return err
		}
	}
}

func freeLoops(ctx context.Context, dir string) error {
	out, err := Command{Path: "losetup", Args: []string{"--list", "--noheadings", "--output", "NAME,BACK-FILE"}}.Run(ctx)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], dir+"/") {
			continue
		}
		_, errDetach := Command{Path: "losetup", Args: []string{"--detach", f[0]}}.Run(ctx)
		err = errors.Join(err, errDetach)
	}
	return err
}

// killChildren kills those recorded in dir.
func killChildren(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		pid, errPid := strconv.Atoi(e.Name())
		start, errRead := os.ReadFile(filepath.Join(dir, e.Name()))
		if errPid == nil && errRead == nil && len(start) > 0 && string(start) == stat(pid).start {
			killTree(pid)
		}
	}
	return err
}
