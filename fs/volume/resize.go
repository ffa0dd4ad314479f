package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// newJournalDir is where a journal of another size is made before it takes the
// old one's place.
const newJournalDir = JournalDir + ".new"

// wantedName holds the size that the journal of a restored volume had: whoever
// restores one has no keys to make such a journal with.
const wantedName = "journal.json"

type wanted struct {
	Bytes int64 `json:"bytes"`
}

// WantJournal has the next Open for writing give the journal a size in bytes,
// unless it is told another.
func WantJournal(st store.FS, size int64) error {
	data, err := json.Marshal(wanted{size})
	if err != nil {
		return err
	}
	return Metadata(st).ReplaceFile(wantedName, data)
}

// wantedJournal is the size that the journal is to have, 0 if any will do.
func (v *Volume) wantedJournal() int64 {
	data, err := Metadata(v.st).ReadFile(wantedName)
	var w wanted
	if v.opts.JournalSize == 0 && err == nil && json.Unmarshal(data, &w) == nil && w.Bytes >= journal.MinSize && w.Bytes <= mostWanted {
		return w.Bytes
	}
	return v.opts.JournalSize
}

// mostWanted bounds what is believed of a file that is not authentic, in bytes.
const mostWanted = 1 << 30

// forgetWanted is called when the journal is as it is to be.
func (v *Volume) forgetWanted() error {
	err := v.st.Unlink(path.Join(MetaDir, wantedName))
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// resizeJournal puts a journal of the size that the options ask for in the
// place of j, which holds nothing that is needed any more. The two change
// places in one step, so that a crash leaves the volume with either.
func (v *Volume) resizeJournal(j *journal.Journal, cfg journal.Config) (*journal.Journal, error) {
	if err := v.removeNewJournal(); err != nil {
		return j, err
	}
	if v.opts.JournalSize = v.wantedJournal(); v.opts.JournalSize == 0 || journal.Rounded(v.opts.JournalSize) == j.Size() {
		return j, v.forgetWanted()
	}
	before := j.Size()
	if err := v.replaceJournal(cfg, j.Position()); err != nil {
		return j, fmt.Errorf("giving the journal %d bytes instead of %d: %w", v.opts.JournalSize, before, errors.Join(err, v.removeNewJournal()))
	}
	closeJournal(j)
	j, _, err := journal.Open(v.st, JournalDir, cfg, false)
	if err != nil {
		return nil, err
	}
	v.log.Info("the journal has another size", "bytes", j.Size(), "before", before)
	return j, errors.Join(j.Start(), v.removeNewJournal(), v.forgetWanted())
}

func (v *Volume) replaceJournal(cfg journal.Config, before uint64) error {
	if err := journal.Create(v.st, newJournalDir, v.opts.JournalSize); err != nil {
		return err
	}
	if err := journal.Initialize(v.st, newJournalDir, cfg, before); err != nil {
		return err
	}
	if err := v.st.Rename(newJournalDir, JournalDir, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	return v.st.SyncDir(MetaDir)
}

// removeNewJournal removes what a resize has left: the old journal, or a new
// one that never took its place.
func (v *Volume) removeNewJournal() error {
	return store.RemoveAll(v.st, newJournalDir)
}

// RenewJournal puts a new journal in the place of one that is damaged, or
// missing; its first frame has the number after before. The size is that of the
// old one's largest segment, as far as there is any. Nobody may have the volume
// open. A crash leaves the volume with either.
func RenewJournal(st store.FS, id uuid.UUID, keys Keys, before uint64) error {
	if err := store.RemoveAll(st, newJournalDir); err != nil {
		return err
	}
	size, err := journal.SizeLeft(st, JournalDir)
	if err != nil {
		return err
	}
	if err := createJournalIn(st, newJournalDir, size, id, keys, before); err != nil {
		return err
	}
	err = st.Rename(newJournalDir, JournalDir, unix.RENAME_EXCHANGE)
	if errors.Is(err, syscall.ENOENT) {
		err = st.Rename(newJournalDir, JournalDir, 0)
	}
	if err != nil {
		return err
	}
	if err := st.SyncDir(MetaDir); err != nil {
		return err
	}
	return store.RemoveAll(st, newJournalDir)
}
