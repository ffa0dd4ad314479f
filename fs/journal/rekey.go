package journal

import "github.com/akvfs/akvfs/crypto"

// Rekey has the journal seal its frames with another cipher under the same
// key, when a volume that was locked opens again. Between the end of the old
// cipher and Rekey nobody may submit, wait or release.
func (j *Journal) Rekey(c *crypto.BlockCipher) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cfg.Cipher = c
}
