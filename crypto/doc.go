// Package crypto is everything that akvfs does with key bytes: it holds them,
// derives, wraps and destroys them, and encrypts blocks and names under them.
// It knows nothing of files, key vaults or formats, and imports nothing of
// akvfs.
//
//   - [Key]: 32 bytes in locked memory outside the Go heap.
//   - [BlockCipher]: XAES-256-GCM under one key, for blocks.
//   - [NonceSource]: the nonces for it, which never repeat.
//   - [NameCipher]: AES-SIV, for names.
//   - [WrapKey], [UnwrapKey]: a key under another key, with key commitment.
//   - [Key.Derive]: a key for one purpose from a key.
//   - [HardenProcess]: no core dumps, no tracing by other processes.
//   - [Secretly], [Scrub], [ErasesHeap], [OverwriteFree]: what is done about
//     copies of keys.
//
// # Invariants
//
// A key that was destroyed is never used: not as zeros, not as its old bytes.
// An operation on it fails with [ErrDestroyed], or panics with it where the
// signature has no error. An operation that was under way when the key was
// destroyed finishes with the real key.
//
// A ciphertext, wrapped key or name that is not exactly what was made under
// the same key (and associated data) is refused with [ErrAuth], and no byte
// of plaintext is handed out.
//
// The package never writes a key anywhere but into memory, and no error,
// log value or formatted value of it holds a key or plaintext.
//
// # Where key bytes live
//
// The 32 bytes of a [Key] are in pages of their own that are locked (never
// swapped), left out of core dumps and not inherited by a fork, between two
// guard pages that fault. They are zeroed by Destroy, or when the garbage
// collector finds a Key that was dropped without it.
//
// To encrypt, crypto/aes needs the expanded key, which starts with the key
// itself, and offers no place for it but the Go heap. So there, not in locked
// pages, are: for a [BlockCipher] the expanded XAES subkeys of the nonce
// prefixes in its cache (not of its key, whose expansion lives only while a
// subkey is derived), and for a [NameCipher] its AES-SIV key. The same goes
// for temporaries of HMAC and HKDF.
//
// With GOEXPERIMENT=runtimesecret on linux/amd64 and linux/arm64 all of these
// are made inside runtime/secret.Do: registers and stack are erased before the
// operation returns, and the heap when the garbage collector finds that
// nothing refers to it. [ErasesHeap] tells whether that is in force. Then,
// after Destroy and the next collection, the process has no copy of the key or
// its expansions. A test reads the whole memory of a process to see that.
//
// What does not hold:
//   - Built without that experiment, expanded keys stay in freed heap memory
//     until that is used again. ErasesHeap is false.
//   - The heap is not locked. On a host with unencrypted swap expanded keys
//     can reach it; a service should have MemorySwapMax=0.
//   - Seal and Open do not run inside secret.Do by themselves, which would
//     cost a tenth of a block and more. A signal that interrupts them, or a
//     preemption soon after, can store round keys of a subkey: on the signal's
//     stack, which [Scrub] overwrites, on a goroutine's or in the scheduler's
//     own memory, where they stay until something is stored over them. A
//     caller who seals or opens a request's blocks within one [Secretly]
//     leaves none.
//   - A NameCipher after [NameCipher.Brief] erases nothing of what it computes.
//   - Bytes that come from elsewhere, such as a key vault's answer, or that
//     were copied in a View, are the caller's to erase; [OverwriteFree] helps
//     where libraries have copied them.
//   - Root, and whoever holds CAP_SYS_PTRACE, can read keys while in use.
//   - A virtual machine that is resumed twice from one snapshot of its memory
//     under a hypervisor that does not tell Linux of it draws the same bytes in
//     both until Linux seeds its generator again, within a minute, and may use
//     nonces twice until then. See [NonceSource].
//
// # Locks
//
// BlockCipher.mu before arena.mu; none is held while a caller's function
// runs. A Key has no lock but a count of its users, so that Destroy never
// waits and views may nest. The block path takes no lock at all.
package crypto
