package snapshot

import (
	"context"
	"io"
)

// received is a stream that one goroutine reads and checks while another one
// puts to use what has come. It ends with its context, though a reader may
// still wait for input then.
type received struct {
	sections chan receivedSection
	spare    chan *sectionBuffer
	used     *sectionBuffer // what the last next gave
	at       int64          // behind it
}

type receivedSection struct {
	buf     *sectionBuffer
	kind    byte
	payload []byte
	at      int64
	err     error
}

// receivedAhead is how many sections may wait for their use.
const receivedAhead = 4

// receiveStream begins to read a stream, until ctx ends.
func receiveStream(ctx context.Context, r io.Reader) (*received, *streamHeader, error) {
	c := &received{sections: make(chan receivedSection, receivedAhead), spare: make(chan *sectionBuffer, receivedAhead+1)}
	for range receivedAhead + 1 {
		c.spare <- new(sectionBuffer)
	}
	var header *streamHeader
	begun := make(chan error, 1)
	go func() {
		in, err := newStreamReader(r)
		if err == nil {
			header, err = in.header(new(sectionBuffer))
		}
		begun <- err
		if err == nil {
			c.read(ctx, in)
		}
	}()
	select {
	case err := <-begun:
		return c, header, err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func (c *received) read(ctx context.Context, in *streamReader) {
	for {
		var s receivedSection
		select {
		case s.buf = <-c.spare:
		case <-ctx.Done():
			return
		}
		s.kind, s.payload, s.err = in.next(s.buf)
		s.at = in.read
		select {
		case c.sections <- s:
		case <-ctx.Done():
			return
		}
		if s.err != nil || s.kind == sectionEnd {
			return
		}
	}
}

// next is the next section. The payload is valid until the next call.
func (c *received) next(ctx context.Context) (kind byte, payload []byte, err error) {
	if c.used != nil {
		c.spare <- c.used
		c.used = nil
	}
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	select {
	case s := <-c.sections:
		c.used, c.at = s.buf, s.at
		return s.kind, s.payload, s.err
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
}
