package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
)

// maxJournal is the largest journal, in bytes.
const maxJournal = 16 << 30

func newInit(a *app) *cobra.Command {
	cfg := daemon.CreateConfig{Openers: openers(), Now: time.Now}
	journalSize := size(journal.DefaultSize)
	cmd := &cobra.Command{
		Use:   "init BACKING --key-id AKI",
		Short: "Make a new encrypted volume in an empty directory",
		Long: `Make a new encrypted volume in the empty directory BACKING, under the key AKI.

AKI is the identifier of a key in Azure Key Vault or a Managed HSM,
https://VAULT.vault.azure.net/keys/NAME[/VERSION], or file:///PATH of an
embedded key store (see ` + "`akvfs dev-key`" + `), which is not a vault.

The key is proven with a wrap and an unwrap before anything is written. If
init fails or is interrupted, the directory is as it was; if it is killed, the
next init cleans up.`,
		Example: `  akvfs init /data/enc --key-id https://acme.vault.azure.net/keys/mongo
  akvfs init /data/enc --key-id https://acme.vault.azure.net/keys/mongo --cluster rs0 --key-operation encrypt
  akvfs init /tmp/enc --key-id file:///tmp/key.json --names plain`,
		Args:              args("BACKING"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			cfg.Backing, cfg.JournalSize, cfg.StateDir = given[0], int64(journalSize), a.stateDir()
			if err := checkInit(cmd, cfg); err != nil {
				return err
			}
			if err := harden(crypto.HardenProcess); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			id, err := daemon.Create(ctx, cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "Volume %s is ready in %s.\nMount it: akvfs mount %s MOUNTPOINT\n", id, given[0], given[0])
			return err
		},
	}
	addCreateFlags(cmd, &cfg, &journalSize)
	return cmd
}

// addCreateFlags adds what is chosen for a new volume.
func addCreateFlags(cmd *cobra.Command, cfg *daemon.CreateConfig, journalSize *size) {
	flags := cmd.Flags()
	flags.StringVar(&cfg.KeyID, "key-id", "", "identifier of the `AKI`, the key that wraps the volume's master key (required)")
	flags.StringVar(&cfg.Cluster, "cluster", "", "`NAME` of the cluster whose data this is")
	flags.StringVar(&cfg.Names, "names", volume.NamesEncrypted, "how file names are stored: `encrypted|plain`")
	flags.StringVar(&cfg.KeyOperation, "key-operation", keymgr.OpWrap, "permission of the vault to use: `wrap|encrypt`")
	flags.Var(journalSize, "journal-size", "size of the journal; mount -o journal-size=SIZE changes it later")
	flags.DurationVar(&cfg.KeyTimeout, "key-timeout", daemon.DefaultKeyTimeout, "how long an attempt to reach the key vault may take")
}

func checkInit(cmd *cobra.Command, cfg daemon.CreateConfig) error {
	usage := func(format string, a ...any) error {
		return &usageError{cmd.CommandPath(), fmt.Errorf(format, a...)}
	}
	switch {
	case cfg.KeyID == "":
		return usage("--key-id is missing")
	case cfg.Names != volume.NamesEncrypted && cfg.Names != volume.NamesPlain:
		return usage("--names is %s or %s, not %q", volume.NamesEncrypted, volume.NamesPlain, cfg.Names)
	case cfg.KeyOperation != keymgr.OpWrap && cfg.KeyOperation != keymgr.OpEncrypt:
		return usage("--key-operation is %s or %s, not %q", keymgr.OpWrap, keymgr.OpEncrypt, cfg.KeyOperation)
	case checkJournalSize(size(cfg.JournalSize)) != nil:
		return usage("--journal-size %w", checkJournalSize(size(cfg.JournalSize)))
	case cfg.KeyTimeout <= 0:
		return usage("--key-timeout must be more than 0")
	}
	return checkCluster(cmd, cfg.Cluster)
}

func checkJournalSize(n size) error {
	low, high := size(journal.MinSize), size(maxJournal)
	if n < low || n > high {
		return fmt.Errorf("is between %s and %s", low.String(), high.String())
	}
	return nil
}

// checkCluster keeps control characters out of what terminals and logs show.
func checkCluster(cmd *cobra.Command, name string) error {
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return &usageError{cmd.CommandPath(), fmt.Errorf("--cluster holds a control character")}
		}
	}
	if len(name) > 255 {
		return &usageError{cmd.CommandPath(), fmt.Errorf("--cluster is longer than 255 bytes")}
	}
	return nil
}
