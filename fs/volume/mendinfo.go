package volume

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/akvfs/akvfs/fs/journal"
	"github.com/akvfs/akvfs/fs/store"
)

// InfoSources are where FindInfo may look beside the volume itself.
type InfoSources struct {
	ID      uuid.UUID // the keyring's, which is authentic
	Created time.Time // the same
	// Copies are documents from elsewhere, such as a snapshot's: any may be wrong.
	Copies [][]byte
	// Cluster is what the operator says the volume is called, the one thing that
	// nothing else tells of. nil: nobody has said.
	Cluster *string
}

// InfoLostError says why a damaged volume.json cannot be made up for.
type InfoLostError struct{ Reason string }

func (e *InfoLostError) Error() string { return "the volume's description is lost: " + e.Reason }

var (
	errNoEvidence = &InfoLostError{"nothing that is authentic shows whether its names are encrypted or plain"}
	errNoCluster  = &InfoLostError{"no copy of it is left, and somebody has to say what the cluster is called"}
)

// FindInfo finds out what a damaged or missing volume.json says, and how that
// is known. A document counts only with its MAC: the damaged one with at most
// one byte put right, the kept copy, or one of src.Copies. Failing these it is
// made anew from what else is authentic: the keyring has the ID, entries of the
// tree or records of the journal, which nobody makes without the volume's keys,
// show how names lie. Nothing is written. Errors are an *InfoLostError, the
// keys' or the store's.
func FindInfo(st store.FS, keys Keys, src InfoSources) (info Info, how string, err error) {
	damaged, err := readOwn(st, InfoFile)
	if err != nil {
		return Info{}, "", err
	}
	kept, err := readOwn(st, infoKept)
	if err != nil {
		return Info{}, "", err
	}
	for _, from := range append([][]byte{damaged, kept}, src.Copies...) {
		info, ok, err := authentic(from, keys, src.ID)
		if err != nil || ok {
			return info, "a copy of it is authentic", err
		}
	}
	if info, ok, err := corrected(damaged, keys, src.ID); err != nil || ok {
		return info, "one byte of it was wrong", err
	}
	if info.Names, err = provenNames(st, src.ID, keys); err != nil {
		return Info{}, "", err
	}
	if src.Cluster == nil {
		return Info{}, "", errNoCluster
	}
	info.Format, info.ID, info.Cluster, info.Features = FormatVersion, src.ID, *src.Cluster, []string{}
	info.Created = src.Created.UTC().Truncate(time.Second)
	info.MAC, err = info.mac(keys)
	return info, "it is made anew: names are proven to be " + info.Names, err
}

// infoKept is the copy of volume.json.
const infoKept = InfoFile + ".prev"

// readOwn is a metadata file's content, nil where there is none of a size to
// be looked at.
func readOwn(st store.FS, name string) ([]byte, error) {
	data, err := Metadata(st).ReadFile(name)
	if err == nil && len(data) > maxInfoBytes || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EFBIG) {
		return nil, nil
	}
	return data, err
}

// authentic reads a document that may be this volume's, in any layout.
func authentic(data []byte, keys Keys, id uuid.UUID) (Info, bool, error) {
	info, err := parseInfo(data)
	if err != nil || info.ID != id {
		return Info{}, false, nil
	}
	want, err := info.mac(keys)
	return info, err == nil && hmac.Equal(want, info.MAC), err
}

// maxCorrected bounds the documents that corrected looks at, in bytes: what
// akvfs writes is shorter, and the search grows with the square.
const maxCorrected = 1 << 10

// corrected tries every other value of each byte. That a document with a right
// MAC comes of it by chance does not happen.
func corrected(damaged []byte, keys Keys, id uuid.UUID) (Info, bool, error) {
	if len(damaged) > maxCorrected {
		return Info{}, false, nil
	}
	try := bytes.Clone(damaged)
	for i, was := range damaged {
		for b := range byte('~' + 1) {
			if b < ' ' && b != '\n' {
				continue // akvfs writes no other
			}
			try[i] = b
			info, ok, err := authentic(try, keys, id)
			if err != nil || ok {
				return info, ok, err
			}
		}
		try[i] = was
	}
	return Info{}, false, nil
}

// provenNames tells how names lie, by what only the volume's keys can have
// made: an entry of the tree that opens as an encrypted name, or the path of a
// record in a frame of the journal, of whatever age.
func provenNames(st store.FS, id uuid.UUID, keys Keys) (string, error) {
	n, err := newNames(st, Info{Names: NamesEncrypted}, keys, false)
	if err != nil {
		return "", err
	}
	defer n.drop()
	entries, err := st.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if _, ok, err := n.plain(".", e.Name); err == nil && ok {
			return NamesEncrypted, nil
		}
	}
	paths, err := journalPaths(st, id, keys)
	for _, p := range paths {
		for _, element := range strings.Split(p, "/") {
			switch _, err := n.cipher.Decrypt(element); {
			case strings.HasPrefix(element, LongMark) || element == "" || element == ".":
			case err == nil:
				return NamesEncrypted, nil
			default:
				return NamesPlain, nil
			}
		}
	}
	if err == nil {
		err = errNoEvidence
	}
	return "", err
}

// journalPaths are the paths in all authentic records of the journal.
func journalPaths(st store.FS, id uuid.UUID, keys Keys) (paths []string, err error) {
	cfg, err := journalConfig(id, keys, nil)
	if err != nil {
		return nil, err
	}
	defer cfg.Cipher.Destroy()
	past, err := journal.Read(st, JournalDir, cfg)
	if err != nil {
		return nil, err
	}
	for i := range past.Records {
		paths = append(paths, past.Records[i].Path)
	}
	return paths, nil
}

// WriteInfo puts a description with its MAC, of FindInfo, in the place of a
// damaged one, and its copy beside it.
func WriteInfo(st store.FS, info Info) error {
	data, err := info.encode()
	if err != nil {
		return err
	}
	m := Metadata(st)
	return errors.Join(m.write(infoKept, data), m.write(InfoFile, data))
}

// Document is the description as volume.json has it.
func (i Info) Document() ([]byte, error) { return i.encode() }

// CheckKeptInfo holds the copy of volume.json against one that is well. A
// volume may have none: it gets one when it is opened for writing. Errors are
// an *IntegrityError or the store's.
func CheckKeptInfo(st store.FS, info Info) error {
	kept, err := Metadata(st).ReadFile(infoKept)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil && !errors.Is(err, syscall.EFBIG) {
		return err
	}
	if want, err := info.encode(); err != nil || !bytes.Equal(want, kept) {
		return errors.Join(err, &IntegrityError{Path: path.Join(MetaDir, infoKept), What: "volume description", Number: -1, Err: errors.New("it is another than " + InfoFile)})
	}
	return nil
}

// keepInfo gives a volume that has no copy of its description one. Without it
// the volume is as good, until the description is damaged.
func (v *Volume) keepInfo() {
	_, err := v.st.Stat(path.Join(MetaDir, infoKept))
	if !errors.Is(err, syscall.ENOENT) {
		return
	}
	data, err := v.info.encode()
	if err == nil {
		err = Metadata(v.st).write(infoKept, data)
	}
	if err != nil {
		v.log.Warn(fmt.Sprintf("%s could not be made", infoKept), "error", err)
	}
}
