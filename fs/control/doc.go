// Package control is the wire between the command line and the daemon of a
// mounted volume: a Unix socket for each mounted volume, and a protocol of
// JSON lines over it.
//
// A connection carries one call. The client sends one Request line and then
// nothing; the server answers with any number of event lines (progress of
// long work) and one last line with a result or an error. A client that hangs
// up cancels its call. Every line says the protocol's version.
//
//	→ {"v":1,"method":"key.rotate","params":{"to":"https://…"}}
//	← {"v":1,"event":{"done":3,"total":10}}
//	← {"v":1,"result":{…}}   or   {"v":1,"error":{"code":"revoked","message":"…"}}
//
// Types: Request and Response are the lines, Error is a failure that crosses
// the wire, Server answers calls with a table of Methods, Call does one from
// the client's side, Dir is the directory in which the sockets of one user
// lie, Record describes one of them. A service of the host has a socket there
// that is no volume's and has no Record.
//
// Invariants:
//   - Nobody but its user writes in a Dir (0700), and each socket is that user's
//     alone (0600), unless the daemon lets other users call it: then everybody
//     may look into the Dir (0755) and connect (0666). In any case the server
//     asks the kernel who calls (SO_PEERCRED, SO_PEERGROUPS) before it reads a
//     byte, and decides by that. Other users take up only some of the calls, and
//     one of them only a few of those.
//   - A line is bounded, and what is not exactly the protocol is refused.
//   - A Record whose socket nobody answers is of a dead daemon.
//
// The package never interprets parameters and results, and knows neither volumes
// nor keys. A request may carry a secret, as parameters do that somebody typed:
// they are in no error and no log, and both sides zero the lines and parameters
// that they made of them; copies in buffers last until those are used again.
//
// Locks: Server.mu guards its set of connections; nothing is called with it
// held.
package control
