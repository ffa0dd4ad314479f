// Package journal is the write-ahead log of a volume: what it has accepted
// survives a power cut, at the price of one sequential write.
//
// A caller reserves room, submits a Record (what one file's commit changes)
// and waits for its Ticket. Records that wait at the same time share one
// frame, which is one O_DIRECT|O_DSYNC write into a preallocated segment:
// group commit. The first waiter writes for all; there is no thread between a
// caller and the disk. A caller that need not wait goes on (Then), and whoever
// writes the frame tells what was promised to it.
//
// The journal is a ring of frames over a few segment files. Frames are
// numbered without a gap for the life of the volume, authenticated under the
// volume's journal key, and carry the number of the oldest frame still
// needed, so that recovery finds a whole chain or says that it is damaged. A
// frame that the power cut tore is the last one and was acknowledged to no
// one.
//
// Invariants:
//   - At most one frame is being written at any time, so that only the newest
//     frame can be torn.
//   - Room is used again only after a frame that no longer needs it is durable.
//   - A ticket is acknowledged only after its frame and all before it are durable,
//     to those who wait and to those who went on alike, to each of these once.
//   - While somebody has gone on, somebody writes, or has been woken to.
//
// The journal never looks into files, and calls nobody back but those who went
// on. One mutex guards all of its state; it is never held across a call to the
// store or to those, and a caller may hold locks of its own while it submits or
// waits, but not while it reserves, because room may depend on those locks.
package journal
