package format

// Replace puts a file key that is wrapped anew into the slot that is not in
// force, with the next sequence number, and gives that slot's sector and its
// offset in the file. Until the sector is written, and if it is torn, the
// other slot holds.
func (h *Header) Replace(master [16]byte, wrapped [WrappedKeySize]byte) (sector [sectorSize]byte, off int64) {
	i := 0
	if h.Slots[1].Sequence < h.Slots[0].Sequence {
		i = 1
	}
	current, _ := h.Current()
	h.Slots[i] = Slot{Sequence: current.Sequence + 1, MasterKey: master, Wrapped: wrapped}
	off = int64(1+i) * sectorSize
	return [sectorSize]byte(h.Encode()[off : off+sectorSize]), off
}
