// Package akv is the provider for keys of Azure Key Vault and Managed HSM. It
// wraps and unwraps master keys in the vault, and sorts whatever goes wrong
// into the classes of keymgr. It decides what a failure means, never what to
// do about it: retrying for minutes, locking and grace are the caller's.
//
//	Open, New   make a Provider for an identifier; ask the vault nothing
//	Remembering Open for a process whose environment forgets its secrets
//	Provider    keymgr.Provider over azkeys and azidentity
//	ParseID     takes identifiers apart, and refuses what is none
//	Config      credentials, private clouds, trust
//	AnswerError what the vault or the directory answered: facts, no text
//
// # A call
//
// Every call has one budget (Config.Timeout), which covers the requests to the
// vault, the tokens that they need, all retries and the pauses in between; a
// context's earlier end holds as well, and is obeyed at once even where a
// library is not listening. Before the vault may wrap or unwrap, the key's
// attributes are read ("get"), since a vault unwraps with keys that are
// expired or not yet valid, and may wrap with disabled ones; akvfs must not.
// So the identity needs get, and wrapKey with unwrapKey or encrypt with
// decrypt. Dates are compared with the vault's own clock, from the Date of its
// answer: a wrong clock of this host locks nothing. The key identifier in each
// answer must be the one that was asked for.
//
// # What a failure means
//
//	Revoked      disabled, expired, not yet valid, deleted, not found; 403 of
//	             any kind but the network rules
//	Credentials  the directory refuses who we are, or the vault the token, also
//	             one fetched anew: a cached token is never the only evidence;
//	             or there are no credentials to be had
//	Unreachable  no answer, or one that says nothing about the key: DNS, TLS,
//	             time-out, 408, 429, 5xx; what bears no code of Azure's, since
//	             then a proxy or another server is speaking; and the vault's
//	             network rules (ForbiddenByFirewall, ForbiddenByConnection)
//	Invalid      identifier, key type, size or operation that cannot serve
//	Mismatch     ciphertext, algorithm or answer that is not this key's
//
// Network rules count as unreachable because they judge the path, not the key:
// an address that changed must not lock a database at once, and treating them
// so gives nobody anything that unplugging the cable would not.
//
// # What it never does
//
// It never weakens TLS (1.2 or later, verified, no switch against it), follows
// no redirect, since a request may carry a master key, and puts neither the
// text of an answer nor a token, secret or key into an error or the log.
//
// # Where master keys pass
//
// No library sees one. azkeys is given zeros to send, and an answer without a
// value; the courier, below its pipeline, puts the key into the request and
// takes it out of the answer, on a connection that is used once, by one
// goroutine, within crypto.Secretly. So all that the key has passed through is
// out of use before the call returns, and the next collection erases it. The
// connection takes the proxies that net/http would (HTTP, HTTPS, SOCKS). What
// is left to zero at once is what Unwrap returns, by its caller.
//
// # Locks
//
// Provider.mu guards the session (credential and client) and is held while one
// is made, never over a request. trace.mu guards what one call has seen. The
// two are never held together.
package akv
