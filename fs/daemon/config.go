package daemon

import (
	"log/slog"
	"time"

	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/metrics"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Defaults of Config.
const (
	DefaultKeyTimeout    = 30 * time.Second
	DefaultCheckInterval = 15 * time.Minute
	DefaultGrace         = 24 * time.Hour
	DefaultAKIMaxAge     = 90 * 24 * time.Hour
	DefaultExpiryWarning = 30 * 24 * time.Hour
	// DefaultFSName is the source that the mount table shows.
	DefaultFSName = "akvfs"
	// DefaultMasterKeyPeriod is how old a master key gets.
	DefaultMasterKeyPeriod = 90 * 24 * time.Hour
	// DefaultRewrapRate leaves a disk to those who use it.
	DefaultRewrapRate = 500
	// DefaultScrub is how often everything is read and proven, and
	// DefaultScrubRate how fast, in bytes a second: 1 TiB in 18 hours.
	DefaultScrub     = 30 * 24 * time.Hour
	DefaultScrubRate = 16 << 20

	// DefaultBusyPoll is BusyPoll, and MaxBusyPoll its largest value: a longer
	// one would keep a processor from sleeping, and others from it.
	DefaultBusyPoll = 50 * time.Microsecond
	MaxBusyPoll     = time.Millisecond
)

// Config says what to mount and how. Start with NewConfig: a Grace of zero is
// no grace, and so with MasterKeyPeriod, RewrapRate, Scrub, ScrubRate and BusyPoll. Other zero values stand for their defaults.
type Config struct {
	Backing    string
	Mountpoint string
	RunDir     string           // where the control socket goes; see RunDir
	Openers    keymgr.Openers   // the key providers, by scheme
	Logger     *slog.Logger     // nil: nothing is logged
	Version    string           // this program's, for Status
	Now        func() time.Time // nil: time.Now
	// Uptime is a clock that nobody sets, from any start, and After tells when
	// a time is over on it. nil: the system's.
	Uptime func() time.Duration
	After  func(time.Duration) <-chan time.Time

	ReadOnly       bool
	AllowOther     bool
	FSName         string
	KernelOptions  []string // for the mount itself: suid, dev, noexec
	CommitInterval time.Duration
	JournalSize    int64 // bytes to give the journal; 0 leaves it
	// Uncached are patterns of files that the kernel is not to cache, which
	// makes a sync after each write cheaper. The kernel then shows an old time
	// of modification for as long as it remembers the file.
	Uncached []string

	// BusyPoll is how long the next request of the kernel is looked for before a
	// thread goes to sleep over it; 0: not at all.
	BusyPoll time.Duration
	// MaySleep lets processors sleep as deeply as they like while requests
	// follow each other closely; else they are kept awake then.
	MaySleep bool

	KeyTimeout    time.Duration // of one attempt to reach a vault, retries included
	CheckInterval time.Duration
	Grace         time.Duration

	// StateDir holds the audit log where AuditLog does not name its file, and
	// what was seen of the volume; see StateDir. Both empty, or AuditNone: no
	// audit log is kept.
	StateDir string
	AuditLog string
	Metrics  string // metrics.Off (also if empty), metrics.Unix or a loopback address
	OnAlert  string // a line for sh, run at each change of an alert; "": none

	AKIMaxAge     time.Duration // alert when a key was not rotated for so long; 0: never
	ExpiryWarning time.Duration // alert so long before a key or a credential expires; 0: never
	// CredentialExpires is when the operator says that the client secret or
	// certificate expires. If it is zero, CertificateExpiry is asked, if it is
	// not nil; a zero time is one that is not known.
	CredentialExpires time.Time
	CertificateExpiry func() (time.Time, error)
	Follow            Follow        // what to do about a newer version of a key; "" is FollowTake
	MasterKeyPeriod   time.Duration // after which a new master key is made; 0: never by itself
	RewrapRate        int           // file keys a second that are re-wrapped while nobody waits; 0: no bound

	Scrub     time.Duration // how often everything is read and proven; 0: never by itself
	ScrubRate int64         // bytes a second to read for that; 0: no bound
	// NoSandbox says that the process is not to enter package sandbox, which is
	// its own to do.
	NoSandbox bool
	// AcceptRollback takes a keyring or journal older than StateDir has it, and
	// has that one from then on.
	AcceptRollback bool

	noteInterval time.Duration // see there; tests shorten it
	// Roles says what others than root and this process's user may do. With it
	// everybody may connect to the control socket; nil lets nobody else in.
	Roles func(control.Peer) project.Role

	wrapStore func(store.FS) store.FS // for tests: stands before the backing directory
}

// processStart is read with the clock that nobody sets.
var processStart = time.Now()

// NewConfig is a configuration with every default in place, over which
// options can be laid.
func NewConfig() Config {
	return Config{
		Logger:        slog.New(slog.DiscardHandler),
		Now:           time.Now,
		FSName:        DefaultFSName,
		KeyTimeout:    DefaultKeyTimeout,
		CheckInterval: DefaultCheckInterval,
		Grace:         DefaultGrace,
		Metrics:       metrics.Off,
		AKIMaxAge:     DefaultAKIMaxAge,
		ExpiryWarning: DefaultExpiryWarning,

		Follow:          FollowTake,
		MasterKeyPeriod: DefaultMasterKeyPeriod,
		RewrapRate:      DefaultRewrapRate,
		Scrub:           DefaultScrub,
		ScrubRate:       DefaultScrubRate,
		BusyPoll:        DefaultBusyPoll,
	}
}

// complete fills in what must not be zero.
func (c Config) complete() Config {
	d := NewConfig()
	if c.Logger == nil {
		c.Logger = d.Logger
	}
	if c.Now == nil {
		c.Now = d.Now
	}
	if c.Uptime == nil {
		c.Uptime = func() time.Duration { return time.Since(processStart) }
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.noteInterval == 0 {
		c.noteInterval = noteInterval
	}
	if c.FSName == "" {
		c.FSName = d.FSName
	}
	if c.Metrics == "" {
		c.Metrics = d.Metrics
	}
	if c.KeyTimeout <= 0 {
		c.KeyTimeout = d.KeyTimeout
	}
	if c.CheckInterval <= 0 {
		c.CheckInterval = d.CheckInterval
	}
	return c
}
