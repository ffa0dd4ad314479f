package project

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/akvfs/akvfs/keymgr/confdir"
)

// snapshotsFile remembers where snapshots of a project's former clusters are.
const snapshotsFile = "snapshots.json"

// SnapshotDirs lists the directories that were remembered.
func (s Store) SnapshotDirs(name string) ([]string, error) {
	data, err := s.dir.Read(name, snapshotsFile)
	if _, none := errors.AsType[*confdir.NoEntryError](err); none {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dirs []string
	if json.Unmarshal(data, &dirs) != nil {
		return nil, &InvalidError{Path: s.dir.Path(name, snapshotsFile), Problems: []Problem{{What: "is not a list of directories; it only says where snapshots are, and may be removed"}}}
	}
	return dirs, nil
}

// RememberSnapshots notes directories in which snapshots are that a project's
// key opens.
func (s Store) RememberSnapshots(name string, dirs []string) error {
	known, err := s.SnapshotDirs(name)
	if err != nil {
		return err
	}
	all := slices.Concat(known, dirs)
	slices.Sort(all)
	if all = slices.Compact(all); len(all) == len(known) {
		return nil
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return s.dir.Write(name, snapshotsFile, append(data, '\n'))
}
