package main

import (
	"fmt"
	"image/color"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

type point = plotter.XY

// drawing is one plot: a curve for each file system.
type drawing struct {
	title, x, y string
	log         bool               // the vertical axis; the horizontal one is if it has ticks
	ticks       []int              // places on the horizontal axis, of which each is some times the last
	names       []string           // or their names, at 0, 1, 2 …
	curves      map[string][]point // by the file system's name
}

// palette is told apart by people who see colours differently, too.
var palette = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff}, color.RGBA{0x55, 0x55, 0x55, 0xff},
}

// save draws to an SVG file.
func (d drawing) save(path string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = d.title, d.x, d.y
	p.Legend.Top = true
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	d.axes(p)
	for i, name := range slices.Sorted(maps.Keys(d.curves)) {
		line, dots, err := plotter.NewLinePoints(plotter.XYs(d.curves[name]))
		if err != nil {
			return err
		}
		line.Color, line.Width = palette[i%len(palette)], vg.Points(1.5)
		dots.Color, dots.Shape = palette[i%len(palette)], draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(name, line, dots)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, path)
}

func (d drawing) axes(p *plot.Plot) {
	if d.log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	} else {
		p.Y.Min = 0
	}
	if d.names != nil {
		p.NominalX(d.names...)
		return
	}
	var marks []plot.Tick
	for _, n := range d.ticks {
		marks = append(marks, plot.Tick{Value: float64(n), Label: fmt.Sprint(n)})
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.ConstantTicks(marks)
}
