// Package fuseloop carries requests from the kernel's FUSE device to a
// fuse.RawFileSystem and the answers back, for one mount, from mount(2) to the
// end. It takes the place of go-fuse's Server, whose types and file system
// interface it keeps, and go-fuse's ProtocolServer still reads and makes all
// messages but those that are many or carry what must be wiped: READ, WRITE,
// FSYNC and SETXATTR.
//
// What it does that go-fuse's loop does not:
//   - An FSYNC can be answered by whoever makes the data durable (Postpone), so
//     that no goroutine waits for a commit and none has to be woken by one.
//   - An answer of a few pages is written without telling Go's scheduler, no
//     more threads wait for requests than there are processors, and one looks
//     for the next request before it sleeps (lookout).
//   - What a request has brought and its answer has taken along is zeroed before
//     the next request is waited for, whatever it was, together with the
//     registers that copied it (crypto.Secretly).
//
// Types: Loop is one mount: New, Mount, Serve (in a goroutine of its own),
// Ready, then Unmount, or the mount is ended from outside. Inside, reader is a
// goroutine that takes requests, buffers are what those lie in, and postponed is
// a request that is answered after its handler.
//
// Threads: a reader reads a request and serves it itself. Whenever the last one
// that waits has got a request, it starts another one first: a handler may thus
// wait for requests that the kernel makes meanwhile, such as the write-back that
// a notification asks for. One that is done and finds enough others waiting
// ends.
//
// Invariants:
//   - At least one reader waits, or is on its way to, as long as the mount lives.
//     The exception are FORGETs, which the kernel sends as fast as they are
//     taken: with 256 of them under way, one more starts no reader.
//   - A request is answered once, or never if the kernel wants none. A handler
//     that panics answers EIO; a postponed request whose handler fails is
//     answered with that. What is not as the protocol has it reaches no handler.
//   - A reader that waits holds zeros, and so does every buffer that is not in
//     use, but for the headers of messages. A request that is served without
//     data to write holds no large buffer.
//   - Serve returns when the kernel has ended the connection (unmounted,
//     aborted), every handler has returned and every postponed request has been
//     answered. Only then is the descriptor closed, so that its number is
//     never another file's while somebody may write to it, and OnUnmount called.
//   - The descriptor is not inherited by programs that this process starts: such
//     a one would keep a dead daemon's mount waiting for answers.
//
// INTERRUPT is answered with ENOSYS, once, after which the kernel sends no more:
// nothing here can be interrupted (locks are kept by the kernel itself), and a
// caller that is killed goes on waiting for its answer, as on a disk.
//
// It never looks at files, names or keys. Locks: Loop.closing is held shared by
// a notification, which may take as long as the kernel writes back, and
// exclusively to close. There is no other.
package fuseloop
