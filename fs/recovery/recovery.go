// Package recovery brings home what the journal holds after a volume was not
// closed cleanly, and checks every block that it touched. It runs before any
// file is opened; run again after a crash in its midst, it does the same.
package recovery

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// Report tells what a recovery did.
type Report struct {
	Records int `json:"records"` // in the journal
	Files   int `json:"files"`   // that records were brought home for
	Blocks  int `json:"blocks"`  // written
	// Gone counts files with records that are no longer there: unlinked, or
	// made and never synced.
	Gone int `json:"gone"`
	// Damaged counts files of which something does not verify.
	Damaged int `json:"damaged"`
}

func (r Report) String() string {
	return fmt.Sprintf("%d journal records: %d blocks of %d files brought home, %d files gone, %d damaged",
		r.Records, r.Blocks, r.Files, r.Gone, r.Damaged)
}

// Run brings the records home, in their order, and makes them durable there.
// env needs no journal. A file that does not verify is reported through
// env.Damage and does not stop the others; an error of the store does.
func Run(st store.FS, env *blockfile.Env, records []journal.Record) (Report, error) {
	report := Report{Records: len(records)}
	byFile := map[format.FileID][]*journal.Record{}
	var order []format.FileID
	for i := range records {
		id := records[i].File
		if byFile[id] == nil {
			order = append(order, id)
		}
		byFile[id] = append(byFile[id], &records[i])
	}
	for _, id := range order {
		if err := recoverFile(st, env, byFile[id], &report); err != nil {
			return report, err
		}
	}
	return report, nil
}

func recoverFile(st store.FS, env *blockfile.Env, records []*journal.Record, report *Report) error {
	back, name, err := find(st, records)
	if err != nil {
		return err
	}
	if back == nil {
		report.Gone++
		return nil
	}
	defer back.Close()
	report.Files++
	last := landings(records)
	for i, r := range records {
		n, err := apply(back, r, func(group int64, index int) bool { return last.after(i, group, index) })
		if err != nil {
			return fmt.Errorf("recovering %q: %w", name, err)
		}
		report.Blocks += n
	}
	if err := finish(back, records[len(records)-1]); err != nil {
		return fmt.Errorf("recovering %q: %w", name, err)
	}
	damaged, err := verify(st, env, name, records)
	if damaged {
		report.Damaged++
	}
	return err
}

// find opens the file that the records are of, under any of the names they
// give; nil if it is under none.
func find(st store.FS, records []*journal.Record) (store.File, string, error) {
	id := records[0].File
	tried := map[string]bool{}
	for i := len(records) - 1; i >= 0; i-- {
		name := records[i].Path
		if tried[name] {
			continue
		}
		tried[name] = true
		if name == "" { // the file had lost the only name that was known
			found, err := search(st, ".", id)
			if err != nil {
				return nil, "", err
			}
			name = found
		}
		back, err := open(st, name, id)
		if back != nil || err != nil {
			return back, name, err
		}
	}
	return nil, "", nil
}

// open opens the file of that name if it is the one with that ID.
func open(st store.FS, name string, id format.FileID) (store.File, error) {
	if name == "" {
		return nil, nil
	}
	back, err := st.OpenFile(name, os.O_RDWR, 0)
	if notThere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	page := make([]byte, format.PageSize)
	n, err := back.ReadAt(page, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		back.Close()
		return nil, err
	}
	h, err := format.ParseHeader(page[:n])
	if err != nil || h.ID != id {
		back.Close()
		return nil, nil
	}
	return back, nil
}

func notThere(err error) bool {
	for _, e := range []error{syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENXIO, syscall.EINVAL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// search looks through a whole directory for the file with that ID.
func search(st store.FS, dir string, id format.FileID) (string, error) {
	entries, err := st.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		switch e.Type & unix.S_IFMT {
		case unix.S_IFDIR:
			if found, err := search(st, name, id); found != "" || err != nil {
				return found, err
			}
		case unix.S_IFREG:
			back, err := open(st, name, id)
			if back != nil {
				back.Close()
				return name, nil
			}
			if err != nil {
				return "", err
			}
		}
	}
	return "", nil
}

// landed tells, of blocks by group, which record is the last that has a block at
// home: its index and one.
type landed map[int64]*[format.GroupBlocks]int

func landings(records []*journal.Record) landed {
	last := landed{}
	for i, r := range records {
		for _, g := range r.Groups {
			for _, b := range g.Blocks {
				if !b.AtHome {
					continue
				}
				if last[g.Number] == nil {
					last[g.Number] = new([format.GroupBlocks]int)
				}
				last[g.Number][b.Index] = i + 1
			}
		}
	}
	return last
}

// after reports whether a record later than that of this index has the block at home.
func (l landed) after(record int, group int64, index int) bool {
	return l[group] != nil && l[group][index] > record+1
}

// apply does at home what one record says, and counts the blocks it wrote.
// lands tells of blocks that went home later, without data in the journal: what
// is a hole in this record is none at home any more, as it was made sure to be
// one before the block went there.
func apply(back store.File, r *journal.Record, lands func(group int64, index int) bool) (int, error) {
	if r.Cut != journal.NoCut {
		if err := blockfile.CutHome(back, r.Cut); err != nil {
			return 0, err
		}
	}
	blocks := 0
	for i := range r.Groups {
		n, err := applyGroup(back, &r.Groups[i], lands)
		if err != nil {
			return blocks, err
		}
		blocks += n
	}
	return blocks, nil
}

// finish gives the file what its last record says of all of it, and makes it durable.
func finish(back store.File, last *journal.Record) error {
	if err := setSize(back, last.Size); err != nil {
		return err
	}
	if !last.Modified.IsZero() {
		if err := back.Chtimes(nil, &last.Modified); err != nil {
			return err
		}
	}
	return back.Sync()
}

// setSize gives the file the size after its last record. What is longer had
// blocks sent home ahead of a commit that never came.
func setSize(back store.File, size int64) error {
	if err := blockfile.CutHome(back, size); err != nil {
		return err
	}
	attr, err := back.Stat()
	if err != nil || attr.Size == format.BackingSize(size) {
		return err
	}
	return back.Truncate(format.BackingSize(size))
}

func applyGroup(back store.File, g *journal.Group, lands func(group int64, index int) bool) (int, error) {
	var page format.TagPage
	if _, err := back.ReadAt(page[:], format.TagPageOffset(g.Number)); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	var holes []int64
	for i := range g.Blocks {
		b := &g.Blocks[i]
		*page.Entry(b.Index) = b.Entry
		off := format.BlockOffset(g.Number*format.GroupBlocks + int64(b.Index))
		switch {
		case b.Data != nil:
			if _, err := back.WriteAt(b.Data, off); err != nil {
				return 0, err
			}
		case !b.AtHome && !lands(g.Number, b.Index):
			holes = append(holes, off)
		}
	}
	if err := punch(back, holes); err != nil {
		return 0, err
	}
	*page.Trailer() = g.Trailer
	_, err := back.WriteAt(page[:], format.TagPageOffset(g.Number))
	return len(g.Blocks), err
}

// punch makes zeros of the pages at these offsets, those side by side at once.
func punch(back store.File, offs []int64) error {
	for len(offs) > 0 {
		n := 1
		for n < len(offs) && offs[n] == offs[n-1]+format.PageSize {
			n++
		}
		if err := blockfile.PunchHome(back, offs[0], int64(n)*format.PageSize); err != nil {
			return err
		}
		offs = offs[n:]
	}
	return nil
}

// verify reads every block that the records touched.
func verify(st store.FS, env *blockfile.Env, name string, records []*journal.Record) (damaged bool, err error) {
	back, err := st.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	f, err := blockfile.Open(env, back, name)
	if err != nil {
		back.Close()
		return true, onlyStore(err)
	}
	defer f.Close()
	buf := make([]byte, format.BlockSize)
	for _, number := range touched(records) {
		_, err := f.ReadAt(buf, number*format.BlockSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return true, onlyStore(err)
		}
	}
	return false, nil
}

// touched lists each block of the records once, in order.
func touched(records []*journal.Record) (blocks []int64) {
	for _, r := range records {
		for _, g := range r.Groups {
			for _, b := range g.Blocks {
				blocks = append(blocks, g.Number*format.GroupBlocks+int64(b.Index))
			}
		}
	}
	slices.Sort(blocks)
	return slices.Compact(blocks)
}

// onlyStore drops integrity errors, which were reported where they were met.
func onlyStore(err error) error {
	var integrity *blockfile.IntegrityError
	if errors.As(err, &integrity) {
		return nil
	}
	return err
}
