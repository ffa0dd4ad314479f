package snapshot

import (
	"context"
	"encoding/json"
	"io"
)

// StreamInfo describes a stream.
type StreamInfo struct {
	Name   string `json:"name"`
	Volume string `json:"volume"`
	Base   string `json:"base,omitempty"` // the snapshot that it is the difference from
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"` // of the stream
}

// VerifyStream reads a stream to its end and holds it against its sums. No keys
// are needed. Errors are a *StreamError, ctx's or the reader's.
func VerifyStream(ctx context.Context, r io.Reader, progress func(Progress)) (*StreamInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, header, err := receiveStream(ctx, r)
	if err != nil {
		return nil, err
	}
	info := &StreamInfo{Name: header.Name, Volume: header.Volume}
	if header.Base != nil {
		info.Base = header.Base.Name
	}
	noted := Progress{Phase: "stream"}
	for {
		kind, payload, err := in.next(ctx)
		if err != nil {
			return nil, err
		}
		info.Bytes, noted.Bytes = in.at, in.at
		switch kind {
		case sectionEnd:
			return info, nil
		case sectionFile:
			var f streamFile
			if json.Unmarshal(payload, &f) != nil {
				return nil, &StreamError{in.at, "it has a file that no snapshot has"}
			}
			noted.Files++
			info.Files = noted.Files
		}
		if progress != nil {
			progress(noted)
		}
	}
}
