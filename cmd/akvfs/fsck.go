package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/akvfs/akvfs/crypto"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/volume"
)

// Exit codes of `akvfs fsck`, bits as fsck(8) has them.
const (
	fsckCorrected   = 1
	fsckUncorrected = 4
	fsckFailed      = 8
	fsckUsage       = 16
	fsckCancelled   = 32
)

const fsckName = "fsck"

// fsckFlags are the words of the command line.
type fsckFlags struct {
	keyFlags
	noKey, repair bool
	acceptLoss    bool
	cluster       string
	clusterGiven  bool
	salvage, from string
	jobs          int
	rate          float64 // MiB a second
}

func newFsck(a *app) *cobra.Command {
	var f fsckFlags
	cmd := &cobra.Command{
		Use:   fsckName + " VOLUME",
		Short: "Check a volume, and repair what can be proven",
		Long: `Check VOLUME: every name, link target, extended attribute, header, tag page and
block, that holes are zeros, the keyring, the description and the journal. With
--no-key only what can be seen without the keys: structure, sizes, checksums,
names without files, what interrupted operations left.

A mounted volume is checked by its daemon while it is used (a scrub); a mount
does so by itself every 30 days (-o scrub=, scrub-rate=). --no-key, --repair and
--salvage take one that is not mounted. Nothing is written without --repair.

--repair brings the journal home, and repairs what can be proven to be right:
leftovers are removed, header slots made anew from their twins, the keyring put
back from keyring.json.prev if that is authentic, volume.json from a copy or from
what else is authentic (--cluster NAME, if nothing tells the cluster's name), tag
pages and blocks from what the journal still has of them. What is lost is listed,
by file and range, and stays an error to whoever reads it. A journal that is
damaged is left alone, as nobody knows all that it held: --accept-loss brings
home what can be proven of it, lists what was lost by file and range, and makes a
new one. --salvage copies what can be read of such files to DIR, with a list of
the missing ranges in FILE` + fsck.MissingSuffix + `.

Interrupted with Ctrl-C, the command says with which --from it goes on.

Exit status, with the bits of fsck(8): 0 nothing is wrong; 1 errors were
corrected; 4 errors are left; 32 interrupted; and sums of these. If it could not
check, one of: 8 failed (not permitted, disk full); 16 wrong usage; and as all
commands 10 key vault unreachable; 11 key revoked; 12 credentials refused; 13 not
an akvfs volume, or a newer format; 15 in use.`,
		Example: `  akvfs fsck /data/enc
  akvfs fsck /var/lib/mongodb --rate 50 --json
  akvfs fsck /data/enc --no-key
  akvfs fsck /data/enc --repair --salvage /restore
  akvfs fsck /data/enc --repair --accept-loss`,
		Args:              args("VOLUME"),
		ValidArgsFunction: directories,
		RunE: func(cmd *cobra.Command, given []string) error {
			f.clusterGiven = cmd.Flags().Changed("cluster")
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.fsck(ctx, given[0], f)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.noKey, "no-key", false, "use no keys, and leave out what needs them")
	flags.BoolVar(&f.repair, "repair", false, "repair what can be proven")
	flags.BoolVar(&f.acceptLoss, "accept-loss", false, "with --repair: give up what of a damaged journal cannot be brought home")
	flags.StringVar(&f.cluster, "cluster", "", "with --repair: the cluster's `NAME`, for a volume.json that has to be made anew")
	flags.StringVar(&f.salvage, "salvage", "", "copy what can be read of damaged files to `DIR`, which is missing or empty")
	flags.StringVar(&f.from, "from", "", "go on at `PATH`, as an interrupted check has said")
	flags.IntVar(&f.jobs, "jobs", 0, "how much to read at a time (default: one for each core)")
	flags.Float64Var(&f.rate, "rate", 0, "how many `MiB` a second to read at most (default: no bound)")
	f.addTimeout(cmd)
	f.addJSON(cmd)
	return cmd
}

// check refuses what no volume needs to be asked about.
func (f *fsckFlags) check(cmd *cobra.Command) error {
	var wrong error
	switch {
	case f.noKey && (f.repair || f.salvage != ""):
		wrong = errors.New("--repair and --salvage need the keys: leave out --no-key")
	case f.noKey && f.from != "":
		wrong = errors.New("--from is for a check with keys: leave out --no-key")
	case (f.acceptLoss || f.clusterGiven) && !f.repair:
		wrong = errors.New("--accept-loss and --cluster are for a repair: add --repair")
	case f.jobs < 0 || f.jobs > math.MaxInt16:
		wrong = fmt.Errorf("--jobs cannot be %d", f.jobs)
	case !(f.rate >= 0) || f.rate > math.MaxInt32:
		wrong = fmt.Errorf("--rate cannot be %s", strconv.FormatFloat(f.rate, 'g', -1, 64))
	default:
		if err := checkCluster(cmd, f.cluster); err != nil {
			return err
		}
		return f.keyFlags.check(cmd)
	}
	return &usageError{cmd.CommandPath(), wrong}
}

// request is what the flags ask for.
func (f *fsckFlags) request() (r daemon.FsckRequest, err error) {
	if err := r.From.UnmarshalText([]byte(f.from)); err != nil {
		return r, &usageError{"akvfs " + fsckName, fmt.Errorf("--from: %w", err)}
	}
	r.Jobs, r.Rate = f.jobs, int64(f.rate*(1<<20))
	r.NoKey, r.Repair, r.AcceptLoss = f.noKey, f.repair, f.acceptLoss
	if f.clusterGiven {
		r.Cluster = &f.cluster
	}
	if f.salvage != "" {
		r.Salvage = &fsck.Salvage{Dir: f.salvage}
		err = r.Salvage.Prepare()
	}
	return r, err
}

// fsck runs a check, and prints what it has found, however it ended.
func (a *app) fsck(ctx context.Context, name string, f fsckFlags) error {
	r, err := f.request()
	if err != nil {
		return err
	}
	if !f.noKey {
		if err := harden(crypto.HardenProcess); err != nil {
			return err
		}
	}
	bar := newProgress(a.err)
	var last volume.ScrubProgress
	r.Progress = func(p volume.ScrubProgress) {
		last = p
		bar.scrub(p)
	}
	c := &daemon.KeyClient{RunDir: a.runDir(), StateDir: a.stateDir(), Openers: openers(), KeyTimeout: f.timeout}
	report, err := c.Fsck(ctx, name, r)
	bar.end()
	checked := err == nil || errors.Is(err, context.Canceled)
	if report != nil && (checked || !report.Clean()) {
		if also := a.printFsck(name, f, report, r.Salvage); also != nil && err == nil {
			err = also
		}
	}
	return a.fsckEnd(name, report, last, err)
}

func (a *app) printFsck(name string, f fsckFlags, r *fsck.Report, s *fsck.Salvage) error {
	if f.json {
		full := struct {
			*fsck.Report
			Salvaged []fsck.Salvaged `json:"salvaged"`
		}{r, []fsck.Salvaged{}}
		if s != nil {
			full.Salvaged = append(full.Salvaged, s.Files...)
		}
		return a.printJSON(full)
	}
	for i := range r.Findings {
		fmt.Fprintln(a.out, r.Findings[i].String())
	}
	if r.Omitted > 0 {
		fmt.Fprintf(a.out, "and %d more\n", r.Omitted)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(a.out, "note: %s\n", note)
	}
	if r.Replayed > 0 {
		fmt.Fprintf(a.out, "%d records of the journal were brought home\n", r.Replayed)
	}
	if s != nil {
		for _, file := range s.Files {
			fmt.Fprintf(a.out, "salvaged: %s, %d bytes, %d ranges missing\n", file.File, file.Size, len(file.Missing))
		}
	}
	_, err := fmt.Fprintf(a.out, "%s: %s\n", name, r.Summary())
	return err
}

// fsckEnd is the exit status. What kept the check from its end is reported.
func (a *app) fsckEnd(name string, r *fsck.Report, last volume.ScrubProgress, err error) error {
	code := 0
	if r != nil && r.Count(fsck.Repaired) > 0 {
		code |= fsckCorrected
	}
	if r != nil && r.Count(fsck.Found)+r.Count(fsck.Left) > 0 {
		code |= fsckUncorrected
	}
	switch {
	case errors.Is(err, context.Canceled):
		a.fsckInterrupted(name, r, last)
		code |= fsckCancelled
	case err != nil:
		code = fsckStatus(report(a.err, err)) // no sum: 12 has a meaning of its own
	}
	return exitWith(code)
}

func (a *app) fsckInterrupted(name string, r *fsck.Report, last volume.ScrubProgress) {
	next := last.Next
	if r != nil && r.Next != "" {
		next = r.Next
	}
	text := "interrupted"
	if next != "" {
		text += fmt.Sprintf("; go on with: akvfs %s %s --from '%s'", fsckName, name, strings.ReplaceAll(next.String(), "'", "%27"))
	}
	fmt.Fprintf(a.err, "akvfs: %s\n", text)
}
