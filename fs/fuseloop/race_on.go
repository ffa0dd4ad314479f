//go:build race

package fuseloop

// raceDetector: it must see each answer, which is when a client goes on.
const raceDetector = true
