// Package convert turns a directory of plain files into an encrypted volume
// in the same place, and a volume back into plain files, file by file, and so
// that any end of the process or of the power leaves something that the next
// call goes on from.
//
// While a conversion is under way the directory looks like this, whichever
// way it goes:
//
//	DIR/                    root's alone: no database starts in it
//	  .akvfs-convert/
//	    state.json          direction, phase, attributes of the directories
//	    done.json           files that are complete on the new side
//	    volume/             the volume
//	  …                     the plain files, under their names
//
// Both sides are a tree: plain files through package store, encrypted ones
// through package volume. A file is copied from one to the other, made
// durable, read back through the engine and compared, noted in done.json, and
// only then removed from where it was. All names of a hard-linked file go
// together. Small files go in batches, which share the syncs.
//
// Invariants:
//   - A file that is on both sides and not in done.json counts where it came
//     from; the other is a copy that was not finished, and is made anew.
//   - done.json is durable before the first name in it is removed, and what it
//     lists is durable and compared before that.
//   - As long as .akvfs-convert is there, package volume opens no volume in
//     DIR (volume.ErrConverting).
//
// So at every moment each file is there in full, plain or encrypted, and it is
// known which. A conversion can be turned round half-way: it is the same state.
//
// What the package does not do: it knows no vault and no mount. It never
// erases: the blocks that held plaintext are free, not overwritten.
//
// A conversion is one goroutine; whoever calls sees to it that nobody else
// works in the directory (see Busy), and the lock on done.json that two
// conversions do not. Observers are called from that goroutine.
package convert
