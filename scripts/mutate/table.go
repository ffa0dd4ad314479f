package main

const (
	volumePkg   = "./fs/volume"
	journalPkg  = "./fs/journal"
	recoveryPkg = "./fs/recovery"
	convertPkg  = "./fs/convert"
	snapshotPkg = "./fs/snapshot"
	fuseloopPkg = "./fs/fuseloop"

	crashes   = "TestPowerCut|TestOrder|TestRenames|TestFilesWithoutNames"
	faults    = "TestFaults|TestFullDisk"
	tampering = "TestTampering|TestJournalTampering|TestHolesStayHoles"
	// conversions leave out random trees, which take long to shrink.
	conversions = "TestPowerCut|TestFaults|TestInterrupted|TestChangedMeanwhile|TestBadDisk"
	all         = "."
)

// mutations are the rules of docs/FORMAT.md ("Writing order", "Recovery") and
// of the comments in the code.
var mutations = []mutation{
	{
		rule: "a sync returns only after the journal holds it", file: "fs/volume/handle.go", quick: true,
		old: "	return h.v.env.Journal.Wait(t)\n", new: "	return nil\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a sync that nobody waits for is answered only after the journal holds it", file: "fs/volume/handle.go", quick: true,
		old: "	h.v.env.Journal.Then(t, done)\n", new: "	done(nil)\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "who went on is told only after the journal holds it", file: "fs/journal/promise.go", quick: true,
		old: "if p.ticket <= j.durable || j.err != nil {", new: "if p.ticket <= j.last || j.err != nil {", pkg: journalPkg, run: "TestThen",
	},
	{
		rule: "who went on is told of a failure", file: "fs/journal/promise.go",
		old: "			p.done(err)\n", new: "			_ = err\n			p.done(nil)\n", pkg: journalPkg, run: "TestThen",
	},
	{
		rule: "whoever goes on writes if nobody else does", file: "fs/journal/promise.go",
		old: "	for j.orphaned() {", new: "	for false {", pkg: journalPkg, run: "TestThenWrites",
	},
	{
		rule: "a commit is of use only with a durable name: a sync makes it so", file: "fs/blockfile/commit.go",
		old: "	return t, f.SyncName()\n", new: "	return t, nil\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a sync makes the name durable that the record has, not the one before", file: "fs/blockfile/commit.go",
		old: "	t, err := f.submit()\n	if err != nil {\n		return 0, err\n	}\n	// Afterwards", new: "	if err := f.SyncName(); err != nil {\n		return 0, err\n	}\n	return f.submit()\n	t, err := f.submit()\n	if err != nil {\n		return 0, err\n	}\n	// Afterwards", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "names that were changed before a volume was opened are durable before it is served", file: "fs/volume/volume.go",
		old: "		if err := v.syncStore(); err != nil {\n			return err\n		}\n		v.keepInfo()", new: "		v.keepInfo()", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a new file's name is owed, and that of one that is opened after a change of names", file: "fs/volume/handle.go",
		old: "			f.MarkFresh()\n", new: "", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a change of names that is under way is not covered by a sync of the store", file: "fs/volume/changes.go",
		old: "n.ended.Load() }", new: "n.begun.Load() }", pkg: volumePkg, run: "TestNameChangeUnderWay",
	},
	{
		rule: "the loss of a name is durable before what was committed under it is freed", file: "fs/volume/background.go",
		old: "	if err := v.syncDropped(); err != nil {\n		return err\n	}\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "nothing goes home before the journal holds it", file: "fs/blockfile/writeback.go", quick: true,
		old: "	if err := f.env.Journal.Wait(f.ticket); err != nil {\n		return nil, err\n	}\n", new: "", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a block comes home only under a durable header and name", file: "fs/blockfile/writeback.go",
		old: "	if err := f.SyncName(); err != nil {\n		return err\n	}\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "room is freed only after what it held is durable at home", file: "fs/blockfile/writeback.go", quick: true,
		old: "	if err := f.syncBack(f.back.Datasync); err != nil {\n		return err\n	}\n	f.unsynced", new: "	f.unsynced", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a sync of the whole store does not count for what was only being written", file: "fs/blockfile/file.go",
		old: "	defer d.add()\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a checkpoint frees what was committed before it began, and no more", file: "fs/volume/background.go",
		old: "return v.journal.Release(through)", new: "_ = through\n	return v.journal.Release(v.journal.Position())", pkg: volumePkg, run: all,
	},
	{
		rule: "a checkpoint brings everything home before it frees the room", file: "fs/volume/background.go",
		old: "		if err := e.file.Settle(); err != nil {\n			return err\n		}\n", new: "		_ = e\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "blocks that went home directly are durable before their entries are committed", file: "fs/blockfile/direct.go",
		old: "	if err := f.syncBack(f.back.Datasync); err != nil {\n		return err\n	}\n	numbers", new: "	numbers", pkg: volumePkg, run: crashes,
	},
	{
		rule: "the intent is durable before the first block that goes home directly", file: "fs/blockfile/direct.go",
		old: "	if err := f.env.Journal.Wait(f.ticket); err != nil {\n		return false, err\n	}\n	if len(holes)", new: "	if len(holes)", pkg: volumePkg, run: crashes,
	},
	{
		rule: "name and header are durable before a block goes home directly", file: "fs/blockfile/direct.go",
		old: "	if err := f.SyncName(); err != nil {\n		return false, err\n	}\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "no block goes home directly while a record is needed that may take it away", file: "fs/blockfile/direct.go",
		old: " || f.env.Journal.Freed() < f.cutTicket {", new: " {", pkg: volumePkg, run: crashes,
	},
	{
		rule: "only what lies past the committed end or in a hole goes home directly", file: "fs/blockfile/direct.go",
		old: " && page.Entry(int(b%format.GroupBlocks)).Hole()", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "an intent lists the holes that a large write goes into", file: "fs/blockfile/direct.go",
		old: "(!inside || f.listed(first, n))", new: "true", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "the first intent lists holes, too", file: "fs/blockfile/direct.go",
		old: "	if inside {\n		end :=", new: "	if false {\n		end :=", pkg: volumePkg, run: crashes,
	},
	{
		rule: "recovery makes no hole of a block that went home later", file: "fs/recovery/recovery.go",
		old: "case !b.AtHome && !lands(g.Number, b.Index):", new: "case !b.AtHome:", pkg: volumePkg, run: crashes,
	},
	{
		rule: "recovery gives a hole its zeros that a write may have gone into", file: "fs/recovery/recovery.go",
		old: "	if err := punch(back, holes); err != nil {\n		return 0, err\n	}\n", new: "	_ = punch\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "what a large write into a hole that failed has left is owed", file: "fs/blockfile/overdue.go",
		old: "f.owe(func() error { return PunchHome(f.back, format.BlockOffset(first), n*format.BlockSize) }, cause)", new: "_ = cause", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a truncate or punch is in the journal before it is done at home", file: "fs/blockfile/shrink.go",
		old: "	if err := f.env.Journal.Wait(f.ticket); err != nil {\n		return true, err\n	}\n", new: "", pkg: volumePkg, run: crashes,
	},
	{
		rule: "cached tag pages are dropped when a file loses blocks", file: "fs/blockfile/shrink.go",
		old: "	f.forgetPages()\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a file is settled before it is renamed", file: "fs/volume/tree.go",
		old: "	end, err := beginRename(entries)\n	if err != nil {\n		return err\n	}\n	defer end()\n	if err := v.names", new: "	if err := v.names", pkg: volumePkg, run: all,
	},
	{
		rule: "no record is made of a file while it is renamed", file: "fs/blockfile/commit.go",
		old: "	for f.renaming > 0 {\n		f.renamed.Wait()\n	}\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "nothing goes home directly while a file is renamed", file: "fs/blockfile/direct.go",
		old: "	if f.renaming > 0 {\n		return false, nil\n	}\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "an intent lists no more than has room on the disk", file: "fs/blockfile/direct.go",
		old: " && (b < first+n || f.room.has(b))", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a new name is made durable before a sync is acknowledged under it", file: "fs/blockfile/file.go",
		old: "	f.path = path\n	f.fresh.add()\n", new: "	f.path = path\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a sync of the backing file that failed is never taken for a success", file: "fs/blockfile/file.go",
		old: "		f.failed.CompareAndSwap(nil, &err)\n", new: "", pkg: volumePkg, run: faults,
	},
	{
		rule: "what a record takes away is owed until it is gone at home", file: "fs/blockfile/shrink.go",
		old: "		f.owe(atHome, err) // it is durable all the same\n", new: "		_ = err\n", pkg: volumePkg, run: faults,
	},
	{
		rule: "what a large write that failed has left at home is owed, too", file: "fs/blockfile/direct.go",
		old: "			f.oweRun(first, int64(n), err)\n", new: "", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "a file that owes something takes no change, and its holes are zeros", file: "fs/blockfile/overdue.go",
		old: "	if len(f.overdue) > 0 {\n		return f.cause", new: "	if len(f.overdue) > 1<<20 {\n		return f.cause", pkg: volumePkg, run: "TestOrder",
	},
	{
		rule: "room on the disk is taken when a write arrives", file: "fs/blockfile/write.go",
		old: "	if err := f.allocate(off, int64(len(p))); err != nil {\n		return 0, err\n	}\n", new: "", pkg: volumePkg, run: faults,
	},
	{
		rule: "a hole is zeros at home", file: "fs/blockfile/overdue.go", quick: true,
		old: "f.behind() == nil && !format.IsZero", new: "f.behind() != nil && !format.IsZero", pkg: volumePkg, run: tampering,
	},
	{
		rule: "a tag page is authentic", file: "fs/blockfile/tags.go",
		old: "	if err := f.provePage(group, p); err != nil {\n		return f.damage(\"tag page\", group, err)\n	}\n", new: "", pkg: volumePkg, run: tampering,
	},
	{
		rule: "the last tag page repeats the size", file: "fs/blockfile/tags.go",
		old: "p.Size() == want && p.Flags() == 0", new: "want != 1 && p.Flags() == 0", pkg: volumePkg, run: tampering,
	},
	{
		rule: "a block is bound to its place", file: "fs/blockfile/block.go",
		old: "format.AD(ad, f.env.Volume, f.id, number, format.KindBlock)", new: "format.AD(ad, f.env.Volume, f.id, 0, format.KindBlock)", pkg: volumePkg, run: all,
	},
	{
		rule: "a journal write is durable when it returns", file: "fs/journal/segments.go", quick: true,
		old: "os.O_RDWR | unix.O_DSYNC | unix.O_DIRECT", new: "os.O_RDWR | unix.O_DIRECT", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a torn frame is no frame", file: "fs/journal/frame.go",
		old: "	if crc32.Checksum(data, castagnoli) != h.sum {\n		return errFrame\n	}\n", new: "	_ = data\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a frame is bound to its journal and header", file: "fs/journal/frame.go",
		old: "	if err != nil {\n		return nil, errFrame\n	}\n	return decodeRecords(descr, data)", new: "	if err != nil {\n		descr = sealed[:len(sealed)-crypto.TagSize]\n	}\n	return decodeRecords(descr, data)", pkg: journalPkg, run: all,
	},
	{
		rule: "a missing frame is damage, not the end", file: "fs/journal/recover.go",
		old: "		if !ok || f.header.opening != newest.opening {\n			return nil,", new: "		if !ok {\n			break\n		}\n		if f.header.opening != newest.opening {\n			return nil,", pkg: volumePkg, run: tampering,
	},
	{
		rule: "frames of an earlier opening are not taken for this one's", file: "fs/journal/recover.go",
		old: "!ok || f.header.opening != newest.opening", new: "!ok", pkg: journalPkg, run: all,
	},
	{
		rule: "a frame's room is used again only after a frame that says so is durable", file: "fs/journal/journal.go",
		old: "j.live[0].number < h.tail {", new: "j.live[0].number <= h.number {", pkg: journalPkg, run: "TestRoom",
	},
	{
		rule: "recovery gives the file the size of its last record", file: "fs/recovery/recovery.go",
		old: "	if err := setSize(back, last.Size); err != nil {\n		return err\n	}\n", new: "", pkg: volumePkg, run: crashes,
	},
	{
		rule: "recovery repeats a cut before what came after it", file: "fs/recovery/recovery.go",
		old: "	if r.Cut != journal.NoCut {", new: "	if r.Cut == journal.NoCut && r.Cut < 0 {", pkg: volumePkg, run: crashes,
	},
	{
		rule: "recovery's work is durable before the journal is used again", file: "fs/recovery/recovery.go",
		old: "	return back.Sync()\n", new: "	return nil\n", pkg: volumePkg, run: crashes,
	},
	{
		rule: "a file's copy is durable before the file goes", file: "fs/convert/tree.go",
		old: "home() error { return syncAll(p.FS) }", new: "home() error { return nil }",
		pkg: convertPkg, run: conversions,
	},
	{
		rule: "files are on record as complete before the first of their names goes", file: "fs/convert/files.go",
		old: "save(c.st, doneName, list)", new: "save(c.st, doneName, []done{})", pkg: convertPkg, run: conversions,
	},
	{
		rule: "a copy is compared before the file goes", file: "fs/convert/copy.go",
		old: "if d != u.digest {", new: "if d != u.digest && false {", pkg: convertPkg, run: conversions,
	},
	{
		rule: "a file that changed meanwhile stays", file: "fs/convert/copy.go",
		old: "			return ErrChanged\n		}\n	}\n	return c.compareXattrs(u)", new: "		}\n	}\n	return c.compareXattrs(u)", pkg: convertPkg, run: conversions,
	},
	{
		rule: "copies that were not finished go before a conversion turns round", file: "fs/convert/files.go",
		old: "c.withVolume(c.discardCopies)", new: "c.withVolume(func(*volume.Volume) error { return c.finishDone() })", pkg: convertPkg, run: conversions,
	},
	{
		rule: "directories are as on record, not as the work left them", file: "fs/convert/files.go",
		old: "dress(c.to, dir, c.state.Dirs[dir], false)", new: "error(nil)", pkg: convertPkg, run: conversions,
	},
	{
		rule: "what is not finished is no volume", file: "fs/volume/info.go",
		old: "		return Info{}, ErrConverting\n", new: "", pkg: convertPkg, run: conversions,
	},
	{
		rule: "recovery writes only into the file with the record's ID", file: "fs/recovery/recovery.go",
		old: "	if err != nil || h.ID != id {", new: "	if err != nil || h.ID != id && false {", pkg: recoveryPkg, run: all,
	},
	{
		rule: "a restore claims its directory, durably, before it places anything", file: "fs/snapshot/restore.go",
		old: "	return false, r.dst.SyncDir(\".\")\n", new: "	return false, nil\n", pkg: snapshotPkg, run: "TestRestoreClaims",
	},
	{
		rule: "a partial snapshot is locked before others may clear it away", file: "fs/snapshot/collection.go",
		old: "	held, err := c.hold()\n	if err != nil {\n		return nil, err\n	}\n	defer held.Close()\n	p :=", new: "	var err error\n	p :=",
		pkg: snapshotPkg, run: "TestClearBeside",
	},
	{
		rule: "what was away from home is put over the copy", file: "fs/snapshot/create.go",
		old: "	if err := m.bringHome(ctx); err != nil {", new: "	if err := error(nil); err != nil {", pkg: snapshotPkg, run: "TestTracked/copied",
	},
	{
		rule: "blocks that a picture has are not used again", file: "fs/blockfile/writeback.go",
		old: "			if !f.lent {", new: "			if true {", pkg: volumePkg, run: "TestStill",
	},
	{
		rule: "what was answered is wiped", file: "fs/fuseloop/request.go",
		old: "	wipe(out[answerHeader:])\n", new: "", pkg: fuseloopPkg, run: "TestWiped",
	},
	{
		rule: "a request that brings less than it says reaches no handler", file: "fs/fuseloop/request.go",
		old: " || int64(in.Size) != int64(len(data))", new: "", pkg: fuseloopPkg, run: "TestMalformed",
	},
	{
		rule: "no child has the connection to the kernel", file: "fs/fuseloop/mount.go",
		old: "\"/dev/fuse\", unix.O_RDWR|unix.O_CLOEXEC", new: "\"/dev/fuse\", unix.O_RDWR", pkg: fuseloopPkg, run: "TestChildren",
	},
}
