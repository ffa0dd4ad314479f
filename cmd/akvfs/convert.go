package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

func newConvert(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert",
		Short: "Encrypt a data directory in place, or decrypt it back",
		Long: `Encrypt the files of an existing data directory in place, or decrypt a volume
back into plain files, with the database stopped.

It goes file by file: each is copied, made durable, read back and compared, and
only then its old form is removed. So there must be free space for the largest
file, and an end at any point, of the process or of the power, loses nothing:
run the same command again and it goes on, or the opposite one and it goes
back. Until it is done the directory is root's alone and does not mount.`,
		Example: "  akvfs convert encrypt /var/lib/mongodb --key-id https://acme.vault.azure.net/keys/mongo\n  akvfs convert decrypt /var/lib/mongodb",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("no command was given")}
		},
	}
	cmd.AddCommand(newConvertEncrypt(a), newConvertDecrypt(a), newConvertStatus(a))
	return cmd
}

// convertFlags are those of both ways.
type convertFlags struct{ dryRun, json, trim bool }

func (f *convertFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would happen and how long it would take, measured with a sample of the files")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

func newConvertEncrypt(a *app) *cobra.Command {
	var f convertFlags
	cfg := daemon.CreateConfig{Openers: openers(), Now: time.Now}
	journalSize := size(journal.DefaultSize)
	cmd := &cobra.Command{
		Use:   "encrypt DIR --key-id AKI",
		Short: "Make a directory's plain files an encrypted volume in the same place",
		Long: `Make the files in DIR a volume under the key AKI, in the same place. Stop the
database first. When it is done, mount the volume over itself:
akvfs mount DIR DIR.

Owners, modes, access control lists, times, extended attributes, hard links,
holes, symbolic links and special files stay what they are.

The blocks that held plaintext are free afterwards, not overwritten. On an SSD
use --fstrim, or fstrim(8) later; docs/SECURITY.md says what that does not do.

A conversion that was not finished is continued; it needs no --key-id.`,
		Example: `  akvfs convert encrypt /var/lib/mongodb --key-id https://acme.vault.azure.net/keys/mongo --dry-run
  akvfs convert encrypt /var/lib/mongodb --key-id https://acme.vault.azure.net/keys/mongo --cluster rs0`,
		Args:              args("DIR"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			cfg.Backing, cfg.JournalSize, cfg.StateDir = given[0], int64(journalSize), a.stateDir()
			check := cfg
			if cfg.KeyID == "" && (f.dryRun || unfinished(given[0])) {
				check.KeyID = "-" // the volume knows its own, or none is needed
			}
			if err := checkInit(cmd, check); err != nil {
				return err
			}
			return a.convert(cmd.Context(), f, daemon.InPlace{CreateConfig: cfg}, convert.Encrypting)
		},
	}
	addCreateFlags(cmd, &cfg, &journalSize)
	f.add(cmd)
	cmd.Flags().BoolVar(&f.trim, "fstrim", false, "have the device drop all free blocks of the file system afterwards")
	return cmd
}

func newConvertDecrypt(a *app) *cobra.Command {
	var f convertFlags
	cfg := daemon.CreateConfig{Openers: openers(), Now: time.Now}
	cmd := &cobra.Command{
		Use:   "decrypt DIR",
		Short: "Make a volume plain files again, in the same place",
		Long: `Make the volume in the backing directory DIR plain files again, in the same
place, with the same care. Unmount it first. The wrapped keys are removed with
the last file. Snapshots elsewhere still need the key in the vault.

An encryption that was not finished is taken back.`,
		Example:           "  akvfs convert decrypt /var/lib/mongodb --dry-run\n  akvfs convert decrypt /var/lib/mongodb",
		Args:              args("DIR"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			if cfg.KeyTimeout <= 0 {
				return &usageError{cmd.CommandPath(), errors.New("--key-timeout must be more than 0")}
			}
			cfg.Backing, cfg.StateDir = given[0], a.stateDir()
			return a.convert(cmd.Context(), f, daemon.InPlace{CreateConfig: cfg}, convert.Decrypting)
		},
	}
	cmd.Flags().DurationVar(&cfg.KeyTimeout, "key-timeout", daemon.DefaultKeyTimeout, "how long an attempt to reach the key vault may take")
	f.add(cmd)
	return cmd
}

func newConvertStatus(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "status DIR",
		Short:             "Say whether a conversion of a directory is unfinished",
		Example:           "  akvfs convert status /var/lib/mongodb",
		Args:              args("DIR"),
		ValidArgsFunction: directories,
		RunE: func(_ *cobra.Command, given []string) error {
			direction, err := directionOf(given[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(map[string]any{"unfinished": direction != "", "direction": direction})
			}
			if direction == "" {
				_, err = fmt.Fprintln(a.out, "No conversion is unfinished.")
				return err
			}
			_, err = fmt.Fprintf(a.out, "Unfinished: %s.\nGo on: akvfs convert encrypt %s\nGo back: akvfs convert decrypt %s\n", direction, given[0], given[0])
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func directionOf(dir string) (convert.Direction, error) {
	st, err := store.OpenDisk(dir)
	if err != nil {
		return "", err
	}
	defer st.Close()
	return convert.Unfinished(st)
}

func unfinished(dir string) bool {
	direction, err := directionOf(dir)
	return err == nil && direction != ""
}

// convert does or plans a conversion, with progress on a terminal.
func (a *app) convert(ctx context.Context, f convertFlags, p daemon.InPlace, d convert.Direction) error {
	if err := harden(crypto.HardenProcess); err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	if f.dryRun {
		plan, err := p.Plan(ctx, d)
		if err != nil {
			return err
		}
		if f.json {
			return a.printJSON(plan)
		}
		return printPlan(a.out, plan)
	}
	show, end := a.showConversion(f.json)
	p.Observe = show
	do := p.Encrypt
	if d == convert.Decrypting {
		do = p.Decrypt
	}
	r, err := do(ctx)
	end()
	if err != nil {
		return a.stopped(err, "each file is there in full, and the same command goes on")
	}
	if f.json {
		err = a.printJSON(r)
	} else {
		err = printConverted(a.out, p.Backing, r, f.trim)
	}
	if err == nil && f.trim {
		err = a.trim(p.Backing, f.json)
	}
	return err
}

// trim has the device drop what is free.
func (a *app) trim(dir string, quiet bool) error {
	err := convert.Trim(dir)
	if err != nil {
		return fmt.Errorf("everything is encrypted, but free blocks cannot be dropped: %w", err)
	}
	if !quiet {
		_, err = fmt.Fprintln(a.out, "The device was told to drop the free blocks.")
	}
	return err
}

// showConversion shows progress, on a terminal alone.
func (a *app) showConversion(quiet bool) (show func(convert.Progress), end func()) {
	if quiet || !isTerminal(a.err) {
		return nil, func() {}
	}
	var last time.Time
	show = func(p convert.Progress) {
		if time.Since(last) < 200*time.Millisecond {
			return
		}
		last = time.Now()
		fmt.Fprintf(a.err, "\r\033[K%s", progressText(p))
	}
	return show, func() { fmt.Fprint(a.err, "\r\033[K") }
}

func progressText(p convert.Progress) string {
	text := fmt.Sprintf("%d of %d files, %s of %s, %s/s", p.Files, p.TotalFiles, mib(p.Bytes), mib(p.TotalBytes), mib(int64(p.Rate())))
	if left := p.Left(); left > 0 {
		text += fmt.Sprintf(", %v left", left)
	}
	return text
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func printPlan(w io.Writer, p convert.Plan) error {
	_, err := fmt.Fprintf(w, "%d files in %d directories, %s.\n", p.Files, p.Dirs, mib(p.Bytes))
	if p.Largest != "" && err == nil {
		_, err = fmt.Fprintf(w, "The largest, %q, needs %s of free space; there are %s.\n", p.Largest, mib(p.Need), mib(p.Free))
	}
	if p.Seconds > 0 && err == nil {
		_, err = fmt.Fprintf(w, "About %v, measured with a sample at %s/s.\n",
			time.Duration(p.Seconds*float64(time.Second)).Round(time.Second/10), mib(int64(p.Rate)))
	}
	for _, problem := range p.Problems {
		if err == nil {
			_, err = fmt.Fprintf(w, "In the way: %q %s\n", problem.Path, problem.What)
		}
	}
	if len(p.Problems) == 0 && err == nil {
		_, err = fmt.Fprintln(w, "Nothing is in the way. Nothing was changed.")
	}
	return err
}

func printConverted(w io.Writer, dir string, r convert.Report, trim bool) error {
	done, next := "Encrypted", fmt.Sprintf("Mount it: akvfs mount %s %s", dir, dir)
	if !trim {
		next += "\nThe plaintext's blocks are free, not overwritten. On an SSD: fstrim the file system."
	}
	if r.Direction == convert.Decrypting {
		done, next = "Decrypted", "The volume and its wrapped keys are gone from here.\nSnapshots and backups of it still need its key: keep that in the vault for as long."
	}
	_, err := fmt.Fprintf(w, "%s %d files, %s, in %v (%s/s).\n%s\n", done, r.Files, mib(r.Bytes),
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Second/100), mib(int64(float64(r.Bytes)/r.Seconds)), next)
	return err
}
