package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/akvfs/akvfs/fs/volume"
)

// knownName remembers, among a volume's own files, where its snapshots are.
const knownName = "snapshots.json"

// known is what it holds.
type known struct {
	Directories []string `json:"directories"` // absolute
}

// DefaultDir is the collection of a volume that was not given one: beside its
// backing directory, so that both are on one file system.
func DefaultDir(backing string) string { return filepath.Clean(backing) + ".snapshots" }

// Known lists the collections that snapshots of a volume were made in, the
// default one first.
func Known(meta volume.MetadataFiles, backing string) ([]string, error) {
	k, err := readKnown(meta)
	if err != nil {
		return nil, err
	}
	dirs := []string{DefaultDir(backing)}
	for _, dir := range k.Directories {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

func readKnown(meta volume.MetadataFiles) (k known, err error) {
	data, err := meta.ReadFile(knownName)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("%s/%s is damaged; it only says where snapshots are, and may be removed: %w", volume.MetaDir, knownName, err)
	}
	return k, nil
}

// Remember notes that a volume has snapshots in a collection.
func Remember(meta volume.MetadataFiles, backing, dir string) error {
	if dir == DefaultDir(backing) {
		return nil
	}
	k, err := readKnown(meta)
	if err != nil || slices.Contains(k.Directories, dir) {
		return err
	}
	k.Directories = append(k.Directories, dir)
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return meta.ReplaceFile(knownName, append(data, '\n'))
}
