package main

import (
	"runtime"
	"runtime/debug"
)

// memoryLimit is from how many bytes on the daemon collects garbage eagerly.
// What it must hold at a time is bounded well below (docs/PERFORMANCE.md).
const memoryLimit = 192 << 20

// useProcessors fits Go's runtime to a program that mostly waits. A thread that
// comes back from the kernel, with a request or with what was read, should find
// a processor to go on with at once, and the runtime takes one from a thread
// that waits for a disk only after a while: so there are more of them than
// cores that the program may use.
func useProcessors() { runtime.GOMAXPROCS(max(4, 2*runtime.GOMAXPROCS(0))) }

// useMemory bounds the daemon's.
func useMemory() { debug.SetMemoryLimit(memoryLimit) }
