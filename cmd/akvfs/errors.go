package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/akvfs/akvfs/fs/audit"
	"github.com/akvfs/akvfs/fs/cluster"
	"github.com/akvfs/akvfs/fs/control"
	"github.com/akvfs/akvfs/fs/convert"
	"github.com/akvfs/akvfs/fs/daemon"
	"github.com/akvfs/akvfs/fs/fsck"
	"github.com/akvfs/akvfs/fs/fusefs"
	"github.com/akvfs/akvfs/fs/highwater"
	"github.com/akvfs/akvfs/fs/host"
	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/metrics"
	"github.com/akvfs/akvfs/fs/snapshot"
	"github.com/akvfs/akvfs/fs/store"
	"github.com/akvfs/akvfs/fs/volume"
	"github.com/akvfs/akvfs/keymgr"
	"github.com/akvfs/akvfs/keymgr/confdir"
	"github.com/akvfs/akvfs/keymgr/project"
)

// Exit codes. They are part of the command line's contract with scripts.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitUnreachable  = 10
	exitRevoked      = 11
	exitCredentials  = 12
	exitNotVolume    = 13
	exitIntegrity    = 14
	exitInUse        = 15
	exitNotPermitted = 16
)

// usageError says that the command line itself is wrong.
type usageError struct {
	Command string // the command's path, for the hint
	Err     error
}

func (e *usageError) Error() string { return e.Err.Error() }
func (e *usageError) Unwrap() error { return e.Err }

// failure is a row of the table: a kind of error, the exit code that it gets,
// and the sentence that says what to do about it.
type failure struct {
	name   string
	is     func(error) bool
	code   int
	remedy string
}

// failures are looked through in order; the first that fits decides.
var failures = []failure{
	{"interrupted", is(context.Canceled), exitFailed, ""},
	{"not permitted by the daemon", wire(control.CodeDenied), exitNotPermitted, "Run the command as root or as the user who mounted the volume, or have a role in the project granted: akvfs project update NAME --owner USER (or --viewer). docs/OPERATIONS.md (Roles) tells what each may do."},
	{"older daemon", wire(control.CodeNoMethod, control.CodeVersion), exitFailed, "Unmount and mount the volume again, so that its daemon is of the same version as this command."},
	{"bad request", wire(control.CodeBadRequest), exitUsage, ""},
	{"daemon overloaded", wire(control.CodeOverload), exitFailed, "Try again in a moment."},
	{"daemon gone", anyOf(as[*control.GoneError](), wire(control.CodeEnding)), exitFailed, "See the daemon's log. If it was killed, mount the volume again: that cleans up and recovers what was committed."},
	{"run directory not safe", as[*control.UnsafeDirError](), exitNotPermitted, "Make the directory yours (chmod 0700), or point AKVFS_RUN_DIR to one that is."},

	{"audit log not writable", anyOf(as[*audit.Error](), wire(daemon.CodeAudit)), exitFailed, "What cannot be put on record is not done. See that the audit log's directory exists, is writable and has room, or name another file: -o audit-log=FILE, or none. umount and SIGTERM end a mount in any case."},
	{"audit log in the volume", anyOf(problem(daemon.RoleAuditLog, daemon.ProblemInsideBacking), problem(daemon.RoleAuditLog, daemon.ProblemInsideMount)), exitUsage, "The audit log tells of the volume's end and cannot lie in it. Name a file elsewhere: -o audit-log=FILE."},
	{"metrics address", as[*metrics.AddressError](), exitUsage, "Metrics tell much about a host and have no password: serve them on a loopback address (127.0.0.1:9478 or [::1]:9478), on the Unix socket (metrics=unix) or not at all (metrics=off), and put a proxy that asks who is there in front for others."},
	{"mount option", anyOf(as[*optionError](), as[*fusefs.OptionError]()), exitUsage, "See `akvfs help mount` for the options."},
	{"usage", as[*usageError](), exitUsage, ""}, // report adds where to find help
	{"no such volume", as[*daemon.NotFoundError](), exitFailed, "`akvfs status` lists the mounted volumes."},
	{"backing directory missing", problem(daemon.RoleBacking, daemon.ProblemMissing), exitUsage, "Make the directory first, or correct the path."},
	{"mount point missing", problem(daemon.RoleMountpoint, daemon.ProblemMissing), exitUsage, "Make the directory first: mkdir MOUNTPOINT."},
	{"volume path missing", problem(daemon.RoleVolume, daemon.ProblemMissing), exitUsage, "Name a backing directory, a mount point or a volume's ID; `akvfs status` lists the mounted volumes."},
	{"not a directory", problem("", daemon.ProblemNotDirectory), exitUsage, "Name a directory."},
	{"backing directory not empty", problem(daemon.RoleBacking, daemon.ProblemNotEmpty), exitUsage, "A new volume needs an empty directory. To encrypt the files that are there: akvfs convert encrypt DIR --key-id AKI."},
	{"mount point not empty", problem(daemon.RoleMountpoint, daemon.ProblemNotEmpty), exitUsage, "The mount would hide what is in there. Empty it or use another directory; only the backing directory itself may be covered by its own mount."},
	{"mount point in backing directory", problem("", daemon.ProblemInsideBacking), exitUsage, "Choose a mount point beside the backing directory, or the backing directory itself."},
	{"backing directory in mount point", problem("", daemon.ProblemInsideMount), exitUsage, "Choose a mount point beside the backing directory, or the backing directory itself."},
	{"in another volume", problem("", daemon.ProblemInsideVolume), exitUsage, "Choose a directory outside of any akvfs mount: its content would be encrypted twice."},
	{"symbolic link", problem("", daemon.ProblemSymlink), exitUsage, "Name the directory itself."},
	{"volume there already", problem("", daemon.ProblemIsVolume), exitUsage, "Mount it: akvfs mount BACKING MOUNTPOINT. `akvfs status BACKING` tells which key it needs."},

	{"volume in use", anyOf(as[*daemon.InUseError](), as[*control.InUseError](), is(volume.ErrInUse)), exitInUse, "Unmount it there first: akvfs unmount MOUNTPOINT."},
	{"mount point taken", as[*daemon.MountpointTakenError](), exitInUse, "Unmount it as the user who mounted it, with the same AKVFS_RUN_DIR."},
	{"mount busy", anyOf(as[*daemon.BusyError](), wire(daemon.CodeBusy)), exitInUse, "Stop the programs that use the mount, such as mongod, and try again. Until then everything stays as it is."},
	{"mount lingers", anyOf(as[*daemon.LingeringError](), wire(daemon.CodeLingering)), exitInUse, "Stop the container or service that was started while the volume was mounted."},
	{"unmounted unfinished", anyOf(as[*daemon.UnfinishedError](), wire(daemon.CodeUnfinished)), exitFailed, "What was acknowledged by fsync is in the journal, and the next mount brings it home; what was not synced may be lost. Look at the daemon's log, and at the disk, before that."},
	{"not mounted", as[*daemon.NotMountedError](), exitFailed, "`akvfs status` lists the mounted volumes."},

	{"volume locked", anyOf(as[*daemon.LockedError](), wire(daemon.CodeLocked)), exitFailed, "`akvfs status VOLUME` says why. A volume that was locked for its key unlocks by itself when the key is back; one that was locked by hand, with `akvfs unlock VOLUME`."},
	{"key is ambiguous", anyOf(as[*daemon.AmbiguousKeyError](), wire(daemon.CodeAmbiguousKey)), exitUsage, "Name the key to rotate: --from AKI."},
	{"mounted read-only", anyOf(as[*daemon.ReadOnlyError](), wire(daemon.CodeReadOnly)), exitFailed, "Mount the volume for reading and writing first."},
	{"key there already", anyOf(is(keymgr.ErrKeyPresent), wire(daemon.CodeKeyPresent)), exitUsage, "`akvfs key list VOLUME` shows the keys. To take a newer version, rotate that key; to leave another key, remove it."},
	{"key not there", anyOf(is(keymgr.ErrUnknownKey), wire(daemon.CodeUnknownKey)), exitUsage, "`akvfs key list VOLUME` shows the keys."},
	{"last key", anyOf(is(keymgr.ErrLastKey), wire(daemon.CodeLastKey)), exitUsage, "Nothing would open the volume any more. Add another key first, or rotate to it: akvfs key rotate VOLUME --to AKI."},
	{"keyring changed", is(keymgr.ErrConflict), exitFailed, "Somebody else changed the keys of the volume meanwhile. Look at `akvfs key list VOLUME` and try again."},

	{"key store missing", keyCode("FileNotFound"), exitUnreachable, "Correct the path, or make a key store: akvfs dev-key create PATH. Without the file that it was made under, a volume does not open: restore that from a backup."},
	{"key store unsafe", keyCode("UnsafeFile"), exitUsage, "Make the file its user's alone (chmod 0600 PATH), and name the file itself and no link to it."},
	{"key store there already", keyCode("KeyExists"), exitUsage, "Choose another path, or use the one that is there: `akvfs dev-key show PATH`."},
	{"rolled back", as[*highwater.RollbackError](), exitIntegrity, "Somebody or something has put back an older state of the volume. If it was you, with a backup, a snapshot of the disk, keyring.json.prev or akvfs fsck --repair, mount it with --accept-rollback, once. If not, somebody had the disk: what was written since is missing, and keys that were taken away may open it again."},

	{"key revoked", anyOf(keyClass(keymgr.Revoked), wire(daemon.CodeRevoked)), exitRevoked, "The volume opens only with this key. In the vault, see that this version of the key exists, is enabled and within its dates, and that this host's identity may get it, and wrap and unwrap (or encrypt and decrypt) with it; a deleted key can be recovered while the vault retains it."},
	{"credentials refused", anyOf(keyClass(keymgr.Credentials), wire(daemon.CodeCredentials)), exitCredentials, "Check the tenant ID, the client ID and the secret or certificate (AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH), and whether it has expired."},
	{"vault unreachable", anyOf(keyClass(keymgr.Unreachable), wire(daemon.CodeUnreachable)), exitUnreachable, "Check the network, DNS, proxy and firewall (the vault's own, too) between this host and the vault, then try again; --key-timeout gives it more time."},
	{"key of other material", anyOf(keyClass(keymgr.Mismatch), wire(daemon.CodeIntegrity)), exitIntegrity, "The key answers, but it is not the key that this volume was encrypted under, or the keyring was edited. Restore the original key, or .akvfs/keyring.json from a backup."},
	{"key not usable", anyOf(keyClass(keymgr.Invalid), wire(daemon.CodeInvalidKey)), exitUsage, "A key identifier is https://VAULT.vault.azure.net/keys/NAME[/VERSION] with an RSA key of at least 2048 bits, or file:///PATH for the embedded key store."},
	{"keyring exists", is(keymgr.ErrKeyringExists), exitUsage, "Mount the volume that is there, or choose another directory."},

	{"snapshot for writing", as[*daemon.SnapshotError](), exitUsage, "Mount it with --read-only, or make a volume of it: akvfs snapshot restore VOLUME NAME DIR."},
	{"frozen already", anyOf(as[*daemon.FrozenError](), wire(daemon.CodeFrozen)), exitInUse, "Wait for the other one, or end it: akvfs thaw VOLUME."},
	{"not frozen", anyOf(as[*daemon.ThawedError](), wire(daemon.CodeNotFrozen)), exitFailed, "Freeze it again, with a longer --timeout if it thawed by itself, and take the snapshot of the disk anew; or keep this one, and let the mount recover it."},
	{"snapshot there already", anyOf(as[*snapshot.ExistsError](), wire(daemon.CodeSnapshotExists)), exitUsage, "Choose another name, or delete that one first: akvfs snapshot delete VOLUME NAME."},
	{"snapshot name", as[*snapshot.NameError](), exitUsage, "Choose another name, or leave it out: it is then the date and time."},
	{"no such snapshot", as[*host.NoSnapshotError](), exitFailed, "`akvfs snapshot list VOLUME` shows them."},
	{"volume too busy", anyOf(as[*snapshot.BusyError](), wire(daemon.CodeSnapshotBusy)), exitFailed, "Try again when less is written, give it more time (--max-hold), or keep snapshots on the volume's own XFS or btrfs, where nothing needs to be copied."},
	{"snapshots in the volume", anyOf(as[*daemon.OverlapError](), wire(daemon.CodeSnapshotInside)), exitUsage, "Choose a directory beside it."},
	{"restore not empty", as[*snapshot.NotEmptyError](), exitUsage, "A snapshot is restored to a new or an empty directory, and never over anything."},
	{"salvage not empty", as[*fsck.NotEmptyError](), exitUsage, "Name a directory that is missing or empty: --salvage DIR."},
	{"not a snapshot", is(snapshot.ErrNotSnapshot), exitNotVolume, "Name a snapshot that `akvfs snapshot list VOLUME` shows. If it is damaged, restore another one."},
	{"newer snapshot", as[*snapshot.NewerError](), exitNotVolume, "It was made by a later version of akvfs. Use that version, or upgrade."},
	{"snapshot damaged", anyOf(as[*damagedError](), as[*snapshot.DamageError]()), exitIntegrity, "Restore another snapshot. What is not named here can still be read: akvfs export."},
	{"stream damaged", as[*snapshot.StreamError](), exitIntegrity, "Export the snapshot again, or send the file again: nothing was imported."},
	{"stream of another volume", as[*snapshot.OtherVolumeError](), exitUsage, "Name that volume, or a directory to import it to."},
	{"base missing", as[*snapshot.BaseError](), exitFailed, "Import the stream of that snapshot first, to the same directory; or export this one without --base."},
	{"export there already", as[*snapshot.FileExistsError](), exitUsage, "Choose another name, or remove that file first."},
	{"export under way", as[*snapshot.FileInUseError](), exitInUse, "Wait for the other akvfs snapshot export, or interrupt it: the next one goes on where it stopped."},
	{"conversion not finished", anyOf(is(volume.ErrConverting), is(convert.ErrUnfinished)), exitNotVolume, "Finish it with `akvfs convert encrypt DIR`, or go back to plain files with `akvfs convert decrypt DIR`. Nothing is lost."},
	{"conversion under way", is(convert.ErrInUse), exitInUse, "Wait for the other akvfs convert, or interrupt it: the next one goes on where it stopped."},
	{"conversion's state damaged", is(convert.ErrState), exitIntegrity, "Each file is in the directory in full, or in .akvfs-convert/volume of it. Restore .akvfs-convert/state.json, or ask before anything is deleted."},
	{"encrypted already", is(convert.ErrVolume), exitUsage, "Mount it: akvfs mount DIR DIR."},
	{"nothing to decrypt", is(convert.ErrNothing), exitNotVolume, "Name the backing directory of a volume that is not mounted."},
	{"cannot be converted", as[*convert.ProblemsError](), exitFailed, "Nothing was changed. `akvfs convert encrypt DIR --dry-run` lists all that is in the way."},
	{"no room to convert", as[*convert.SpaceError](), exitFailed, "Free some space on the file system: the largest file must fit beside itself. The same command then goes on."},
	{"copy reads back differently", is(convert.ErrReadBack), exitIntegrity, "The disk or the memory of this host is failing. These files are as they were; all others are converted."},
	{"files not converted", as[*convert.FilesError](), exitFailed, "These files are as they were, all others are converted. Mend what is wrong with them and run the same command again."},

	{"restoration interrupted", is(volume.ErrRestoring), exitNotVolume, "Run the same `akvfs snapshot restore` again: it goes on where it stopped."},
	{"not this user's", as[*notOwnError](), exitNotPermitted, "Run the command as root."},
	{"not served", as[*notServedError](), exitNotPermitted, "Run the command as root, or have root start the host's service, which does it for users with a role: systemctl enable --now akvfs-host.socket."},
	{"service there already", as[*control.TakenError](), exitInUse, "One is enough: it answers for all projects. `systemctl status akvfs-host` tells of it."},
	{"changed meanwhile", as[*host.StaleError](), exitInUse, "Look at it again (akvfs project show NAME), and repeat the command."},
	{"volume not told", as[*host.NoVolumeError](), exitNotVolume, "Run the command as root, and name the directory of the snapshots."},
	{"no such project", noEntry("project"), exitFailed, "Configure it first: akvfs project configure NAME --key-id AKI. `akvfs help project configure` tells the rest; `akvfs project list` shows what there is."},
	{"no such cluster", noEntry("cluster"), exitFailed, "`akvfs cluster list` shows what there is. To make one: akvfs cluster enable NAME --project P --data DIR."},
	{"bad name", as[*confdir.NameError](), exitUsage, "A name is of 1 to 63 letters (a to z), digits, periods, hyphens and underscores, and begins with a letter or a digit."},
	{"being changed", as[*confdir.BusyError](), exitInUse, "Wait until that command has ended, and try again."},
	{"unsafe file", as[*confdir.UnsafeError](), exitNotPermitted, "Give it to root (chown root), and to nobody else: chmod 0600 for a file, 0700 for a directory, and no symbolic link."},
	{"project there already", as[*project.ExistsError](), exitUsage, "Change it: akvfs project update NAME. `akvfs project show NAME` shows it."},
	{"configuration wrong", as[*project.InvalidError](), exitUsage, "Nothing was changed. Correct the field; `akvfs help project configure` explains the flags, docs/OPERATIONS.md the file."},
	{"credential not usable", as[*project.CredentialError](), exitCredentials, "See that the secret or certificate is where the project says. A systemd credential is there only in the service that loads it: LoadCredential=NAME:FILE."},
	{"cluster's record damaged", as[*cluster.RecordError](), exitFailed, "Correct the file; docs/OPERATIONS.md has its form. The volume itself is not touched by it."},
	{"cluster half done", as[*cluster.StateError](), exitNotVolume, "Go on with `akvfs cluster enable NAME --project P --data DIR` (as it was begun), or go back to plain files with `akvfs cluster disable NAME`. Nothing is lost."},
	{"cluster enabled already", as[*cluster.EnabledError](), exitUsage, "Mount it: akvfs cluster mount NAME."},
	{"cluster is another", as[*cluster.OtherError](), exitUsage, "Name the cluster as it is on record, which `akvfs cluster show NAME` tells, or choose another name."},
	{"directory of another cluster", as[*cluster.CollisionError](), exitUsage, "Choose another directory; `akvfs cluster list` shows those that are taken."},
	{"volume of another key", as[*cluster.ForeignKeyError](), exitUsage, "Rotate the volume to the project's key first, with the credentials for both: akvfs key rotate BACKING --to AKI."},
	{"project in use", as[*cluster.ProjectInUseError](), exitInUse, "Disable the clusters first: akvfs cluster disable NAME. Do not disable or delete the key in the vault before: the clusters, and the snapshots named, open with nothing else."},
	{"data directory missing", problem(daemon.RoleData, daemon.ProblemMissing), exitUsage, "Name the database's data directory as its configuration has it (storage.dbPath)."},
	{"on another file system", problem("", daemon.ProblemOtherDisk), exitUsage, "Leave out --backing, and the files are encrypted where they are; or choose a backing directory on the same file system."},
	{"file system of its own", problem(daemon.RoleData, daemon.ProblemMounted), exitUsage, "Leave out --backing: the mount then covers the encrypted files."},
	{"data directory not empty", problem(daemon.RoleData, daemon.ProblemNotEmpty), exitUsage, "Somebody has put files where the cluster's data belongs. Look at them, move them away, and run the command again."},

	{"creation interrupted", is(volume.ErrIncomplete), exitNotVolume, "Its creation was interrupted and it holds no data. Run `akvfs init` on it again."},
	{"not a volume", is(volume.ErrNotVolume), exitNotVolume, "Name the backing directory of a volume, or make one: akvfs init BACKING --key-id AKI."},
	{"newer format", anyOf(as[*volume.NewerFormatError](), as[*keymgr.NewerFormatError](), is(journal.ErrNewerFormat)), exitNotVolume, "It was made by a later version of akvfs. Use that version, or upgrade."},
	{"keyring missing", is(keymgr.ErrNoKeyring), exitIntegrity, "Without its keyring a volume cannot be opened. Restore .akvfs/keyring.json from a backup; .akvfs/keyring.json.prev may hold the one before."},
	{"keyring damaged", as[*keymgr.IntegrityError](), exitIntegrity, "The keyring is damaged, edited or of another volume. Restore .akvfs/keyring.json from a backup; .akvfs/keyring.json.prev may hold the one before."},
	{"journal damaged", as[*journal.CorruptError](), exitIntegrity, "What was committed last cannot be recovered as it is; `akvfs fsck VOLUME --salvage DIR` copies out what can be read. Restore the volume from a snapshot or a replica; where there is none, `akvfs fsck VOLUME --repair --accept-loss` gives up what cannot be had, and lists it."},
	{"volume damaged", as[*volume.IntegrityError](), exitIntegrity, "The backing directory was changed from outside, or its disk is failing. Restore what is named from a backup."},

	{"kernel too old", is(store.ErrNoOpenat2), exitFailed, "akvfs needs Linux 5.8 or later, and a sandbox around it must allow openat2."},
	{"no FUSE", allOf(as[*fusefs.MountError](), anyOf(is(syscall.ENOENT), is(syscall.ENODEV))), exitFailed, "Load FUSE (modprobe fuse), or give the container --device /dev/fuse."},
	{"not permitted", is(fs.ErrPermission), exitNotPermitted, "Run the command as root, or as the owner of the directories."},
	{"read-only file system", is(syscall.EROFS), exitFailed, "Make the file system writable, or mount the volume with --read-only."},
	{"mount refused", as[*fusefs.MountError](), exitFailed, "A user other than root needs fusermount3 (package fuse3) and, for allow_other, the line user_allow_other in /etc/fuse.conf."},
	{"disk full", anyOf(is(syscall.ENOSPC), is(syscall.EDQUOT)), exitFailed, "Free some space, or raise the quota; a new volume needs room for its journal."},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[T error]() func(error) bool {
	return func(err error) bool {
		var target T
		return errors.As(err, &target)
	}
}

func anyOf(all ...func(error) bool) func(error) bool {
	return func(err error) bool {
		for _, one := range all {
			if one(err) {
				return true
			}
		}
		return false
	}
}

func allOf(all ...func(error) bool) func(error) bool {
	return func(err error) bool {
		for _, one := range all {
			if !one(err) {
				return false
			}
		}
		return true
	}
}

func keyClass(class keymgr.Class) func(error) bool {
	return func(err error) bool {
		var key *keymgr.KeyError
		return errors.As(err, &key) && key.Class == class
	}
}

// keyCode fits a failure of a key by its code.
func keyCode(code string) func(error) bool {
	return func(err error) bool {
		var key *keymgr.KeyError
		return errors.As(err, &key) && key.Code == code
	}
}

// wire fits errors that a daemon reported with one of the codes.
func wire(codes ...string) func(error) bool {
	return func(err error) bool {
		var reported *control.Error
		if !errors.As(err, &reported) {
			return false
		}
		for _, code := range codes {
			if reported.Code == code {
				return true
			}
		}
		return false
	}
}

// noEntry fits a configuration that is not there.
func noEntry(noun string) func(error) bool {
	return func(err error) bool {
		var none *confdir.NoEntryError
		return errors.As(err, &none) && none.Noun == noun
	}
}

// problem fits a PathError; role "" is any.
func problem(role daemon.Role, what daemon.Problem) func(error) bool {
	return func(err error) bool {
		var path *daemon.PathError
		return errors.As(err, &path) && path.Problem == what && (role == "" || path.Role == role)
	}
}

// wireCode is by what the host's service names a kind of error to the command,
// which then says what it says of its own.
func (f failure) wireCode() string {
	return "host." + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return '-'
	}, strings.ToLower(f.name))
}

// errorCode names an error for the host's service.
func errorCode(err error) string {
	for _, f := range failures {
		if f.is(err) {
			return f.wireCode()
		}
	}
	return control.CodeFailed
}

// diagnose gives an error its exit code and remedy.
func diagnose(err error) (code int, remedy string) {
	if err == nil {
		return exitOK, ""
	}
	for _, f := range failures {
		if f.is(err) || wire(f.wireCode())(err) {
			remedy = f.remedy
			var usage *usageError
			if errors.As(err, &usage) && remedy == "" {
				remedy = fmt.Sprintf("See `%s --help`.", usage.Command)
			}
			return f.code, remedy
		}
	}
	return exitFailed, ""
}

// fsckStatus is what fsck(8) has for an exit code of this table. Codes that it
// knows nothing of stay.
func fsckStatus(code int) int {
	switch code {
	case exitFailed, exitNotPermitted:
		return fsckFailed
	case exitUsage:
		return fsckUsage
	case exitIntegrity:
		return fsckUncorrected
	}
	return code
}

// report prints an error with its remedy and returns the exit code.
func report(w io.Writer, err error) int {
	code, remedy := diagnose(err)
	if err == nil {
		return code
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted; nothing was changed"
	}
	fmt.Fprintf(w, "akvfs: %s\n", text)
	if remedy != "" {
		fmt.Fprintf(w, "%s\n", remedy)
	}
	return code
}
