package alert

// Name is an alert's name.
type Name string

// Severity is how much haste an alert asks for.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // the mount does not serve, or soon will not, or data is damaged
	Warning  Severity = "warning"  // it will come to that if nobody acts
	Info     Severity = "info"     // something can be done when convenient
)

// The alerts that the daemon knows.
const (
	Locked             Name = "locked"
	GraceEnding        Name = "grace-ending"
	VaultUnreachable   Name = "vault-unreachable"
	KeyLost            Name = "key-lost"
	KeyNotRotated      Name = "key-not-rotated"
	KeyExpiring        Name = "key-expiring"
	CredentialExpiring Name = "credential-expiring"
	RotationAvailable  Name = "rotation-available"
	MasterKeyOld       Name = "master-key-old"
	RewrapFailed       Name = "rewrap-failed"
	Integrity          Name = "integrity"
	ScrubDamage        Name = "scrub-damage"
	StorageFailed      Name = "storage-failed"
	AuditFailed        Name = "audit-failed"
)

// Definition is what is known of an alert beforehand.
type Definition struct {
	Name     Name
	Severity Severity
	Meaning  string
}

var known = []Definition{
	{Locked, Critical, "The keys are gone, and every access answers ENOKEY"},
	{GraceEnding, Critical, "No key could be reached for most of the grace period; the volume locks at its end"},
	{VaultUnreachable, Warning, "A key vault does not answer"},
	{KeyLost, Warning, "One of several keys does not open the volume any more"},
	{KeyNotRotated, Warning, "A key has wrapped the master key for longer than aki-max-age"},
	{KeyExpiring, Warning, "A key's version expires within expiry-warning, or has expired"},
	{CredentialExpiring, Warning, "The client secret or certificate expires within expiry-warning, or has expired"},
	{RotationAvailable, Info, "The vault has a newer version of a key than the one in use"},
	{MasterKeyOld, Warning, "The active master key is older than its period"},
	{RewrapFailed, Warning, "File keys could not be wrapped under the new master key"},
	{Integrity, Critical, "The backing directory returned something that was never written there"},
	{ScrubDamage, Critical, "A scrub, or akvfs fsck, has found damage"},
	{StorageFailed, Critical, "The journal or the backing directory failed to write, or to sync"},
	{AuditFailed, Critical, "The audit log cannot be written; commands are refused"},
}

// Known lists all alerts.
func Known() []Definition { return append([]Definition(nil), known...) }

// severityOf is Warning for a name that is not in the table.
func severityOf(name Name) Severity {
	for _, d := range known {
		if d.Name == name {
			return d.Severity
		}
	}
	return Warning
}
