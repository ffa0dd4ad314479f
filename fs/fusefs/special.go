package fusefs

// special is a FIFO, socket or device. The kernel opens and serves these by
// itself; only their attributes and names are ours.
type special struct{ node }
