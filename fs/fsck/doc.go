// Package fsck finds what is damaged in a volume, and repairs what can be.
//
// Run checks a volume that nobody has open. Without keys it sees structure:
// the volume's own files, sizes, checksums, the shape of headers and tag pages,
// names without files and files without names. With keys, volume.Scrub proves
// everything on top of that, as it lies once the journal is brought home, in
// memory. Scrub checks a volume that is mounted.
//
// A Finding is one thing that is wrong; a Report lists them. Run repairs if it
// is asked to, and then looks again: a Finding is repaired when it is not found
// any more. What is copied out of damaged files is Salvage's.
//
// Invariants:
//   - Without Options.Repair nothing is written to the volume.
//   - A repair writes only what is proven by a key, or what the format has no
//     choice about. Content that is lost is told of, by file and range, and
//     stays an error to whoever reads it: it never becomes zeros.
//   - A repair may be cut off anywhere and begun again.
//   - A volume of a newer format is refused: it is never repaired by guess.
//
// The volume's lock is held from the first look to the last. Findings are
// collected under report.mu, which is held over no call.
package fsck
