// Package blockfile is one encrypted file: plaintext above, the pages of
// package format below, and the order between them that a power cut cannot
// break.
//
// A write goes into dirty blocks in memory. A commit encrypts them, and
// submits ciphertext and tag-page changes to the journal as one record; once
// the record is durable, the write is. A writeback brings committed blocks
// and tag pages home, into the backing file, lazily and many at a time. The
// journal lets go of a record only after its blocks are durable at home.
//
//	WriteAt → dirty → Commit: journal record, flight → Writeback: home → Settle: fdatasync
//
// Invariants:
//   - Home changes only to what a durable record says, and never while the
//     file's name or header is not durable (fresh).
//     Blocks of a large write are the exception; see direct.go.
//   - Between BeginRename and EndRename no record is made: whoever commits waits.
//   - A header is written when the file gets its key, and one slot of it by a
//     re-wrap; nothing of it is kept in memory but the file's ID and key.
//   - A block is read from dirty, else from flight, else from home, and from
//     home only under its entry's tag; a hole is zeros at home too.
//   - A tag page in memory is either pinned (newer than home) or verified.
//   - What a record takes away is gone at home before the file takes another
//     change; see overdue.go.
//   - Plaintext past the end of the file, within the last block, is zeros.
//
// Locks, in order: File.home (held by whoever changes the backing file's
// content), then File.mu (everything else of a File), then File.name (held while a name
// is made durable), then the journal's own.
// Room in the journal is reserved before either is taken, since making room
// takes both. Reads share mu.
//
// The package knows no names but for messages and records, no directories and
// no FUSE.
package blockfile
