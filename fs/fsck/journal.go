package fsck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/blockfile"
	"github.com/akvfs/akvfs/fs/format"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/recovery"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
)

// A journal that is damaged, or that names a size which the store cannot have,
// keeps its volume from being opened. What was committed last is then partly
// unknown, so that a repair takes Options.AcceptLoss. It brings home of each
// file the most that verifies, lists what it could not, and puts a new journal
// in the place of the old one.

// fits looks whether every size that the journal names can be had, and tells
// of those that cannot.
func (c *check) fits(records []journal.Record) (bool, error) {
	most, err := volume.SizeLimit(c.st)
	if err != nil {
		return false, err
	}
	fits := true
	for i := range records {
		if r := &records[i]; r.Size > most {
			fits = false
			c.report.add(Finding{Kind: Journal, Path: volume.Path(r.Path), Detail: fmt.Sprintf(
				"the journal gives it %d bytes, and a file may have %d here: the volume cannot be opened for writing", r.Size, most)})
		}
	}
	return fits, nil
}

// renewJournal gives up what of the journal cannot be brought home, if that is
// accepted.
func (c *check) renewJournal(ctx context.Context, past *journal.Past) error {
	left, before := past.Left, past.Before
	if past.Damage == nil {
		left, before = past.Pending, len(past.Pending)
	}
	if !c.hasJournalFindings() {
		return nil
	}
	if !c.opts.AcceptLoss {
		c.report.note("the journal can be given up, with what of it cannot be brought home, if that loss is accepted: what it had of each file is listed then")
		return nil
	}
	lost, err := c.bringHome(ctx, left, before, past)
	if err != nil {
		return err
	}
	if err := volume.RenewJournal(c.st, c.info.ID, c.keys, past.Newest); err != nil {
		return err
	}
	c.badJournal = false
	c.report.Pending = 0
	err = c.each(func(f *Finding) error {
		f.State, f.settled = Repaired, true
		if len(past.Missing) > 0 {
			f.Detail += "; a new one is in its place. " + missing(past) + " are lost, with what they held of files that are not listed here"
		}
		return nil
	}, Journal)
	for _, f := range lost {
		c.report.add(f)
	}
	return err
}

func (c *check) hasJournalFindings() bool {
	return slices.ContainsFunc(c.report.Findings, func(f Finding) bool { return f.Kind == Journal })
}

// missing names the frames that are not there.
func missing(past *journal.Past) string {
	var runs []string
	for _, m := range past.Missing {
		run := fmt.Sprint(m[0])
		if m[1] > m[0] {
			run += fmt.Sprintf(" to %d", m[1])
		}
		runs = append(runs, run)
	}
	return "frames " + strings.Join(runs, ", ")
}

// bringHome does, file by file, what can be done of the records that are left,
// and gives findings of what cannot, or may not be all.
func (c *check) bringHome(ctx context.Context, left []journal.Record, before int, past *journal.Past) (lost []Finding, err error) {
	most, err := volume.SizeLimit(c.st)
	if err != nil {
		return nil, err
	}
	names, err := c.treeNames(left)
	if err != nil {
		return nil, err
	}
	byFile := map[format.FileID][]journal.Record{}
	gaps := map[format.FileID]int{}
	var order []format.FileID
	for i, r := range left {
		if byFile[r.File] == nil {
			order = append(order, r.File)
		}
		byFile[r.File] = append(byFile[r.File], r)
		if i < before {
			gaps[r.File]++
		}
	}
	for _, id := range order {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		records := byFile[id]
		b, err := c.best(records, gaps[id], most)
		if err == nil {
			err = c.recover(c.st, records[b.first:b.end])
		}
		if err != nil {
			return nil, err
		}
		c.report.Replayed += b.end - b.first
		lost = append(lost, lostWrites(records, b.end, names, past)...)
	}
	return lost, nil
}

// env is for one recovery: what it remembers of tag pages is that one's.
func (c *check) env() (*blockfile.Env, error) {
	env := &blockfile.Env{Volume: c.info.ID, Keys: c.keys}
	return env, env.SetPageCache(1 << 20)
}

func (c *check) recover(st store.FS, records []journal.Record) error {
	env, err := c.env()
	if err != nil || len(records) == 0 {
		return err
	}
	_, err = recovery.Run(st, env, records)
	return err
}

// part is some records of a file, the one at end not among them.
type part struct{ first, end int }

// best is the part of a file's records that is to be brought home, so that the
// least of it does not verify: up to the last, up to a frame that is missing,
// up to a size that cannot be had, or none. Records that are at home are left
// out, unless more verifies with them: they may take away what a frame that is
// missing has brought there since.
func (c *check) best(records []journal.Record, gap int, most int64) (part, error) {
	possible := slices.IndexFunc(records, func(r journal.Record) bool { return r.Size > most })
	if possible < 0 {
		possible = len(records)
	}
	old, err := c.olderThanHome(records)
	if err != nil {
		return part{}, err
	}
	best, least := part{}, int64(-1)
	for _, end := range []int{possible, min(gap, possible), 0} {
		for _, first := range slices.Compact([]int{min(old, end), 0}) {
			bad, err := c.unproven(records, part{first, end})
			if err != nil {
				return part{}, err
			}
			if least < 0 || bad < least {
				best, least = part{first, end}, bad
			}
		}
	}
	return best, nil
}

// olderThanHome is how many records, from the first on, are at home already, or
// something newer is: by the nonce of every tag page that they change.
func (c *check) olderThanHome(records []journal.Record) (n int, err error) {
	err = c.inspect(c.st, records, func(file *blockfile.File) error {
		home := map[int64][]byte{}
		for _, group := range touched(records) {
			nonce, ok, err := file.PageNonce(group)
			if err != nil {
				return err
			}
			if ok {
				home[group] = nonce[:]
			}
		}
		for i := range records {
			for _, g := range records[i].Groups {
				if !atLeast(home[g.Number], format.TrailerNonce(&g.Trailer)) {
					return nil
				}
			}
			if len(records[i].Groups) > 0 { // else it tells nothing
				n = i + 1
			}
		}
		return nil
	})
	return n, err
}

// atLeast reports whether a page's nonce, nil if there is none, is another one
// or was given out after that.
func atLeast(nonce, other []byte) bool {
	return nonce != nil && (bytes.Equal(nonce, other) || crypto.NonceAfter(nonce, other))
}

// unproven is how many bytes of the groups in a file's records would not verify
// if a part of them were brought home. That is tried in memory.
func (c *check) unproven(records []journal.Record, p part) (bad int64, err error) {
	st := store.NewOverlay(c.st)
	if err := c.recover(st, records[p.first:p.end]); err != nil {
		return 0, err
	}
	err = c.inspect(st, records, func(file *blockfile.File) error {
		for _, group := range touched(records) {
			_, _, err := file.CheckGroup(group, func(l blockfile.Lost) { bad += max(l.Length, 1) })
			if err != nil {
				return err
			}
		}
		return file.CheckEnds(func(blockfile.Lost) { bad++ })
	})
	return bad, err
}

// inspect looks at the file that records are about, if it is there.
func (c *check) inspect(st store.FS, records []journal.Record, look func(*blockfile.File) error) error {
	env, err := c.env()
	if err != nil {
		return err
	}
	name := records[len(records)-1].Path
	back, err := st.OpenFile(name, 0, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer back.Close()
	file, err := blockfile.Inspect(env, back, name)
	if err != nil {
		return onlyStore(err)
	}
	defer file.Leave()
	return look(file)
}

// touched are the groups of records, in order.
func touched(records []journal.Record) (groups []int64) {
	for i := range records {
		for j := range records[i].Groups {
			groups = append(groups, records[i].Groups[j].Number)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// lostWrites are the findings about a file of which n records were brought home.
func lostWrites(records []journal.Record, n int, names map[string]volume.Path, past *journal.Past) (all []Finding) {
	last := &records[len(records)-1]
	tell := func(detail string, off, length int64) {
		all = append(all, Finding{
			Kind: LostWrite, State: Left, Path: volume.Path(last.Path), Name: names[last.Path],
			Detail: detail, Offset: off, Length: length, settled: true,
		})
	}
	for _, r := range ranges(records[n:]) {
		tell("what the journal had of it could not be put together: it may be older than what was acknowledged", r.Offset, r.Length)
	}
	if n < len(records) && len(all) == 0 {
		tell("the size that the journal had of it could not be given", 0, 0)
	}
	if len(all) == 0 && len(past.Missing) > 0 {
		tell("writes to it may be lost with "+missing(past)+" of the journal", 0, 0)
	}
	return all
}

// ranges are the blocks of records, those side by side as one.
func ranges(records []journal.Record) (all []Range) {
	var blocks []int64
	for i := range records {
		for _, g := range records[i].Groups {
			for _, b := range g.Blocks {
				blocks = append(blocks, g.Number*format.GroupBlocks+int64(b.Index))
			}
		}
	}
	slices.Sort(blocks)
	for _, b := range slices.Compact(blocks) {
		off := b * format.BlockSize
		if k := len(all) - 1; k >= 0 && all[k].Offset+all[k].Length == off {
			all[k].Length += format.BlockSize
			continue
		}
		all = append(all, Range{off, format.BlockSize})
	}
	return all
}

// treeNames are the names in the tree of the records' files.
func (c *check) treeNames(records []journal.Record) (map[string]volume.Path, error) {
	names := map[string]volume.Path{}
	v, err := volume.Open(c.st, c.keys, volume.Options{ReadOnly: true, NoJournal: true})
	if err != nil {
		return nil, err
	}
	for i := range records {
		if name, ok := v.TreeName(records[i].Path); ok {
			names[records[i].Path] = volume.Path(name)
		}
	}
	return names, errors.Join(v.Close())
}
