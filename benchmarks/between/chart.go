// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"image/color"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The size of a figure and of the legend at its right.
const (
	figureWidth  = 12 * vg.Inch
	figureHeight = 5 * vg.Inch
	legendWidth  = 3.2 * vg.Inch
)

// palette has a colour for each contender; the library has the first one.
var palette = []color.RGBA{
	{0xc0, 0x1c, 0x28, 255}, {0xff, 0x7f, 0x0e, 255}, {0x33, 0x33, 0x33, 255}, {0x8c, 0x8c, 0x8c, 255},
	{0x1f, 0x77, 0xb4, 255}, {0x5f, 0xa8, 0xd3, 255}, {0x17, 0xbe, 0xcf, 255}, {0x2c, 0xa0, 0x2c, 255},
	{0x98, 0xdf, 0x8a, 255}, {0x94, 0x67, 0xbd, 255}, {0xe3, 0x77, 0xc2, 255}, {0x8c, 0x56, 0x4b, 255},
	{0xbc, 0xbd, 0x22, 255},
}

// drawThroughput draws the rate of each contender by the size of a message, with a core for each
// end if there were two.
func (c *comparison) drawThroughput(name string) error {
	p := newPlot("Throughput between two processes: "+strings.ToLower(c.placements()[0]), "MB/s")
	legend, err := c.lines(p, throughputColumns(), func(s sample) float64 { return s.MBPerSecond })
	if err != nil {
		return err
	}
	p.X.Label.Text = "size of a message"
	return save(name, []*plot.Plot{p}, legend)
}

// drawLatency draws the latency of each contender by load: at the left its median, at the right
// p99.
func (c *comparison) drawLatency(name string) error {
	median := newPlot("One-way latency, p50", "µs")
	if _, err := c.lines(median, latencyColumns(), func(s sample) float64 { return s.P50 }); err != nil {
		return err
	}
	tail := newPlot("One-way latency, p99", "µs")
	legend, err := c.lines(tail, latencyColumns(), func(s sample) float64 { return s.P99 })
	if err != nil {
		return err
	}
	for _, p := range []*plot.Plot{median, tail} {
		p.X.Label.Text = "load, share of the contender's own maximum"
		p.Y.Min = min(median.Y.Min, tail.Y.Min)
		p.Y.Max = max(median.Y.Max, tail.Y.Max)
	}
	return save(name, []*plot.Plot{median, tail}, legend)
}

func init() { plot.DefaultFont.Variant = "Sans" }

func newPlot(title, unit string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	p.Y.Label.Text = unit
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	p.Add(plotter.NewGrid())
	return p
}

// lines adds a line for each contender to p, with a point in each column that it has a result in.
func (c *comparison) lines(p *plot.Plot, columns []column, number func(sample) float64) (plot.Legend, error) {
	legend := plot.NewLegend()
	var titles []string
	for _, col := range columns {
		titles = append(titles, col.title)
	}
	p.NominalX(titles...)
	on := c.placements()
	var drawn []plot.Plotter
	for i, name := range c.contenders() {
		var points plotter.XYs
		for x, col := range columns {
			if r, ok := c.find(on[0], name, col); ok && number(r.Median) > 0 {
				points = append(points, plotter.XY{X: float64(x), Y: number(r.Median)})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return legend, err
		}
		line.Color, dots.Color = palette[i%len(palette)], palette[i%len(palette)]
		line.Width, dots.Shape = vg.Points(1.2), plotutil.Shape(i)
		if i == 0 {
			line.Width = vg.Points(3)
		}
		drawn = append(drawn, dots, line)
		legend.Add(name, line, dots)
	}
	slices.Reverse(drawn) // The library on top.
	p.Add(drawn...)
	return legend, nil
}

// save writes plots side by side and a legend to an SVG file.
func save(name string, plots []*plot.Plot, legend plot.Legend) error {
	canvas := vgsvg.New(figureWidth, figureHeight)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	width := (figureWidth - legendWidth) / vg.Length(len(plots))
	for i, p := range plots {
		left := width * vg.Length(i)
		p.Draw(draw.Crop(all, left+vg.Points(6), left+width-figureWidth-vg.Points(6), vg.Points(6), -vg.Points(6)))
	}
	legend.Top, legend.Left = true, true
	legend.Padding = vg.Points(3)
	legend.Draw(draw.Crop(all, figureWidth-legendWidth, 0, 0, -vg.Points(30)))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	family := []byte("font-family:Liberation Sans") // A browser need not have it.
	text := bytes.ReplaceAll(svg.Bytes(), family, append(family, ",Arial,Helvetica,sans-serif"...))
	return os.WriteFile(name, text, 0o644)
}
