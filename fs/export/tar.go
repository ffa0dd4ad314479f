package export

import (
	"archive/tar"
	"context"
	"io"
	"io/fs"
)

// Tar writes the paths and all below them as a tar stream in PAX format. Holes
// are written as zeros, and sockets left out: tar knows neither.
func Tar(ctx context.Context, t Tree, paths []string, out io.Writer, o Observer) error {
	w := newWalker(t, o)
	tw := tar.NewWriter(out)
	if err := w.walk(ctx, paths, func(o *object) error { return w.tarObject(ctx, tw, o) }); err != nil {
		return err
	}
	return tw.Close()
}

func (w *walker) tarObject(ctx context.Context, tw *tar.Writer, o *object) error {
	if o.info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	header, err := w.tarHeader(o)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(header); err != nil || header.Typeflag != tar.TypeReg {
		return err
	}
	f, err := w.tree.Open(o.name)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that has grown since is cut; one that has shrunk is an error.
	_, err = io.Copy(tw, &watched{ctx: ctx, r: io.LimitReader(f, header.Size), w: w})
	return err
}

func (w *walker) tarHeader(o *object) (*tar.Header, error) {
	target := ""
	if o.info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = w.tree.ReadLink(o.name); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(o.info, target)
	if err != nil {
		return nil, err
	}
	header.Format = tar.FormatPAX
	header.Name, header.Uname, header.Gname = o.name, "", ""
	if o.info.IsDir() {
		header.Name += "/"
	}
	if o.same != "" {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, o.same, 0
		return header, nil
	}
	attrs, err := w.tree.Xattrs(o.name)
	if err != nil {
		return nil, err
	}
	for name, value := range attrs {
		if header.PAXRecords == nil {
			header.PAXRecords = map[string]string{}
		}
		header.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	return header, nil
}

// watched counts what is read, and ends with its context.
type watched struct {
	ctx context.Context
	r   io.Reader
	w   *walker
}

func (r *watched) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.w.counting(n)
	return n, err
}
