package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/metrics"
)

// option is one word of `mount -o`.
type option struct {
	name  string
	value string // what stands after "=", "" for an option without a value
	help  string // "" leaves it out of help
	take  func(c *daemon.Config, value string) error
}

// options are all words of `mount -o`, in the order of the help.
func options() []option {
	return []option{
		{"allow_other", "", "let users other than the one who mounts use the mount", func(c *daemon.Config, _ string) error {
			c.AllowOther = true
			return nil
		}},
		{"ro", "", "mount read-only", setReadOnly(true)},
		{"rw", "", "mount for reading and writing (the default)", setReadOnly(false)},
		{"suid", "", "let set-user-ID bits take effect (nosuid is the default)", kernelOption},
		{"nosuid", "", "", kernelOption},
		{"dev", "", "let device files take effect (nodev is the default)", kernelOption},
		{"nodev", "", "", kernelOption},
		{"noexec", "", "let no program be started from the mount (exec is the default)", kernelOption},
		{"exec", "", "", kernelOption},
		{"sync", "", "sync every write before it is answered", kernelOption},
		{"async", "", "", kernelOption},
		{"dirsync", "", "sync every change of a directory before it is answered", kernelOption},
		{"noatime", "", "", kernelOption},
		{"relatime", "", "", kernelOption},
		{"fsname", "NAME", "the source that the mount table shows (default akvfs)", func(c *daemon.Config, v string) error {
			c.FSName = v
			return checkFSName(v)
		}},
		{"key-timeout", "TIME", "how long one attempt to reach the key vault may take (default 30s)", duration(time.Second, func(c *daemon.Config) *time.Duration { return &c.KeyTimeout })},
		{"check-interval", "TIME", "how often the key is checked while mounted (default 15m)", duration(time.Second, func(c *daemon.Config) *time.Duration { return &c.CheckInterval })},
		{"grace", "TIME", "how long to go on serving while the key vault cannot be reached (default 24h)", duration(0, func(c *daemon.Config) *time.Duration { return &c.Grace })},
		{"aki-max-age", "TIME", "alert when a key was not rotated for so long (default 90d, 0 is never)", age(func(c *daemon.Config) *time.Duration { return &c.AKIMaxAge })},
		{"expiry-warning", "TIME", "alert so long before a key or the credentials for it expire (default 30d, 0 is never)", age(func(c *daemon.Config) *time.Duration { return &c.ExpiryWarning })},
		{"credential-expires", "DATE", "when the client secret expires, such as 2027-01-31, which Azure does not tell", setCredentialExpires},
		{"on-alert", "COMMAND", "as --on-alert, for a command without a comma", func(c *daemon.Config, v string) error {
			c.OnAlert = v
			return nil
		}},
		{"audit-log", "FILE", "where to write the audit log; none for none (default audit/VOLUME-ID.log in AKVFS_STATE_DIR)", setAuditLog},
		{"metrics", "ADDRESS", "where Prometheus metrics are: unix (a socket, the default), a loopback address such as 127.0.0.1:9478, or off", func(c *daemon.Config, v string) error {
			c.Metrics = v
			return metrics.CheckAddress(v)
		}},
		{"follow", "take|alert", "what to do about a newer version of an unpinned key (default take)", func(c *daemon.Config, v string) error {
			if c.Follow = daemon.Follow(v); c.Follow != daemon.FollowTake && c.Follow != daemon.FollowAlert {
				return fmt.Errorf("must be take or alert")
			}
			return nil
		}},
		{"master-key-period", "TIME", "after how long a new master key is made; 0 is never (default 2160h, 90 days)", duration(0, func(c *daemon.Config) *time.Duration { return &c.MasterKeyPeriod })},
		{"rewrap-rate", "N", "how many file keys a second a new master key takes over (default 500; 0 is no bound)", func(c *daemon.Config, v string) error {
			n, err := strconv.ParseUint(v, 10, 31)
			if err != nil {
				return fmt.Errorf("needs a number of files")
			}
			c.RewrapRate = int(n)
			return nil
		}},
		{"scrub", "TIME", "how often to read and prove everything; 0 is never (default 720h, 30 days)", duration(0, func(c *daemon.Config) *time.Duration { return &c.Scrub })},
		{"scrub-rate", "MIB", "how many MiB a second to read for that (default 16; 0 is no bound)", setScrubRate},
		{"sandbox", "on|off", "whether the daemon gives up system calls that it does not need (default on)", unlessOff(func(c *daemon.Config) *bool { return &c.NoSandbox })},
		{"commit", "TIME", "how long a write that nobody syncs may stay uncommitted (default 5s)", duration(10*time.Millisecond, func(c *daemon.Config) *time.Duration { return &c.CommitInterval })},
		{"journal-size", "SIZE", "give the journal this size before mounting, such as 64M or 1G (default: leave it)", setJournalSize},
		{"busy-poll", "TIME", "how long to look for the next request before sleeping over it; 0 is not at all (default 50µs)", setBusyPoll},
		{"awake", "on|off", "whether processors are kept from deep sleep while requests come thick and fast (default on)", unlessOff(func(c *daemon.Config) *bool { return &c.MaySleep })},
		{"uncached", "GLOB[:GLOB]", "files not to cache, as logs: quicker syncs, late times (default: none)", setUncached},
	}
}

// ignored are the options of fstab that are somebody else's: mount(8)'s, or
// systemd's, or a kernel default of ours.
var ignored = []string{
	"defaults", "auto", "noauto", "_netdev", "nofail", "user", "nouser", "users", "owner", "group",
	"atime", "diratime", "nodiratime", "norelatime",
	"strictatime", "nostrictatime", "lazytime", "nolazytime",
	"silent", "loud", "nomand", "noiversion",
}

// optionError says that `mount -o` was given something wrong.
type optionError struct {
	Option string
	Reason string
}

func (e *optionError) Error() string {
	return fmt.Sprintf("mount option %q %s", e.Option, e.Reason)
}

// applyOptions reads the words of `-o A,B=C` into a configuration, later ones
// over earlier ones. Errors are an *optionError.
func applyOptions(c *daemon.Config, text string) error {
	for _, word := range splitOptions(text) {
		if err := applyOption(c, word); err != nil {
			return err
		}
	}
	return nil
}

func splitOptions(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
}

func applyOption(c *daemon.Config, word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	for _, o := range options() {
		if o.name != name {
			continue
		}
		switch {
		case o.value == "" && hasValue:
			return &optionError{word, "takes no value"}
		case o.value != "" && value == "":
			return &optionError{word, fmt.Sprintf("needs a value: %s=%s", o.name, o.value)}
		case o.value == "":
			value = o.name
		}
		if err := o.take(c, value); err != nil {
			if _, ok := errors.AsType[*metrics.AddressError](err); ok {
				return err // it has a remedy of its own
			}
			return &optionError{word, err.Error()}
		}
		return nil
	}
	if isIgnored(name, hasValue) {
		return nil
	}
	if name == "remount" {
		return &optionError{word, "is not possible: unmount the volume, then mount it with the new options"}
	}
	return &optionError{word, "is unknown; known are " + strings.Join(optionNames(), ", ")}
}

func isOption(name string) bool {
	return slices.ContainsFunc(options(), func(o option) bool { return o.name == name })
}

// isIgnored: generic fstab options, comments, what is left to programs by
// the "x-" convention of mount(8), and the user that mount(8) notes.
func isIgnored(name string, hasValue bool) bool {
	if strings.HasPrefix(name, "x-") || strings.HasPrefix(name, "X-") || name == "comment" || name == "user" {
		return true
	}
	return !hasValue && slices.Contains(ignored, name)
}

// form is how an option is written.
func (o option) form() string {
	if o.value == "" {
		return o.name
	}
	return o.name + "=" + o.value
}

func optionNames() []string {
	var names []string
	for _, o := range options() {
		names = append(names, o.form())
	}
	return names
}

// optionHelp is a line for each option.
func optionHelp() string {
	var b strings.Builder
	for _, o := range options() {
		if o.help != "" {
			fmt.Fprintf(&b, "  %-24s %s\n", o.form(), o.help)
		}
	}
	return b.String()
}

func setReadOnly(to bool) func(*daemon.Config, string) error {
	return func(c *daemon.Config, _ string) error {
		c.ReadOnly = to
		return nil
	}
}

// unlessOff takes on and off for a field that says that something is off.
func unlessOff(field func(*daemon.Config) *bool) func(*daemon.Config, string) error {
	return func(c *daemon.Config, v string) error {
		if v != "on" && v != "off" {
			return fmt.Errorf("must be on or off")
		}
		*field(c) = v == "off"
		return nil
	}
}

func setJournalSize(c *daemon.Config, v string) error {
	var n size
	if err := n.Set(v); err != nil {
		return err
	}
	c.JournalSize = int64(n)
	return checkJournalSize(n)
}

func setScrubRate(c *daemon.Config, v string) error {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return fmt.Errorf("needs a number of MiB")
	}
	c.ScrubRate = int64(n) << 20
	return nil
}

func setBusyPoll(c *daemon.Config, v string) error {
	if err := duration(0, func(c *daemon.Config) *time.Duration { return &c.BusyPoll })(c, v); err != nil {
		return err
	}
	if c.BusyPoll > daemon.MaxBusyPoll {
		return fmt.Errorf("must be at most %v", daemon.MaxBusyPoll)
	}
	return nil
}

func setUncached(c *daemon.Config, v string) error {
	c.Uncached = nil
	if v == "none" {
		return nil
	}
	c.Uncached = strings.Split(v, ":")
	for _, p := range c.Uncached {
		if err := daemon.CheckUncached(p); err != nil {
			return err
		}
	}
	return nil
}

// kernelOption hands an option through to the mount itself, in place of its
// opposite.
func kernelOption(c *daemon.Config, name string) error {
	bare := func(s string) string { return strings.TrimPrefix(s, "no") }
	c.KernelOptions = slices.DeleteFunc(c.KernelOptions, func(s string) bool { return bare(s) == bare(name) })
	c.KernelOptions = append(c.KernelOptions, name)
	return nil
}

func duration(least time.Duration, field func(*daemon.Config) *time.Duration) func(*daemon.Config, string) error {
	return func(c *daemon.Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("needs a time such as 90s, 15m or 24h, not %q", v)
		}
		if d < least {
			return fmt.Errorf("must be at least %v", least)
		}
		*field(c) = d
		return nil
	}
}

// age reads a time that may be in days: 90d.
func age(field func(*daemon.Config) *time.Duration) func(*daemon.Config, string) error {
	return func(c *daemon.Config, v string) error {
		d, err := parseAge(v)
		if err != nil {
			return err
		}
		*field(c) = d
		return nil
	}
}

const day = 24 * time.Hour

func parseAge(v string) (time.Duration, error) {
	if digits, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("needs a number of days such as 90d, not %q", v)
		}
		return time.Duration(n) * day, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("needs a time such as 90d or 36h, not %q", v)
	}
	return d, nil
}

// setCredentialExpires takes the date's beginning, to be on the safe side of
// every time zone but a few.
func setCredentialExpires(c *daemon.Config, v string) error {
	t, err := time.Parse(time.DateOnly, v)
	if err != nil {
		return fmt.Errorf("needs a date such as 2027-01-31, not %q", v)
	}
	c.CredentialExpires = t
	return nil
}

// setAuditLog makes the path absolute: the daemon leaves this directory.
func setAuditLog(c *daemon.Config, v string) (err error) {
	if c.AuditLog = v; v != daemon.AuditNone {
		c.AuditLog, err = filepath.Abs(v)
	}
	return err
}

// checkFSName keeps a name out of the mount table that would look like two
// fields or two lines of it.
func checkFSName(name string) error {
	for _, r := range name {
		if r <= ' ' || r == 0x7f || r == '\\' {
			return fmt.Errorf("holds a character that the mount table cannot show")
		}
	}
	if len(name) > 255 {
		return fmt.Errorf("is longer than 255 bytes")
	}
	return nil
}
