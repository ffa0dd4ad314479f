// Package akvtest is a test cloud: key vaults, Managed HSMs, the directory that
// gives tokens for them, and a managed-identity endpoint, behind one real TLS
// listener with a certificate authority of its own. Clients are the real ones,
// over HTTPS, with names as in Azure; only the way to the address differs.
//
//	Start      a Server in this process
//	Main       the same as a program (cmd/akvtest), for tests of other programs
//	Vault      a vault and the life cycle of its keys
//	Directory  applications, their secrets and certificates, and tokens
//	Fault      an answer other than the right one, or none
//	Admin      drives a Server in another process
//
// # How clients come here
//
// In the same process by Server.Dial in place of the network's dialling. From
// another process by HTTPS_PROXY: the Server is a proxy too, which carries each
// name that it knows to its own listener and refuses all others, and
// SSL_CERT_FILE or AKVFS_CA_FILE names its authority. Server.Env has all of it.
//
// # What is real
//
// Requests and answers pass through Microsoft's own azkeys/fake, so that their
// form is that of the real client. RSA-OAEP-256 and A256KW are done with real
// keys. As at Azure, a first request is answered by a 401 with a challenge;
// tokens are checked; an expired or not yet valid key still unwraps; "get"
// tells about a disabled key; a deleted key can be recovered.
//
// It guards nothing: anybody who reaches the admin interface, which listens on
// loopback, may do everything. Every text that it sends holds Marker, so that
// tests can look for texts that ought not to have been repeated.
//
// # Locks
//
// Server.mu guards everything that tests change: vaults, keys, clients, tokens,
// faults. It is never held over cryptography's or the network's delays.
// spareRSA guards keys made in advance; the two are never held together.
package akvtest

// Marker is in the text of every error that the test cloud answers with.
const Marker = "text-of-the-answer"
