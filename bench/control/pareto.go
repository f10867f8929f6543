package main

import (
	"fmt"
	"math"
	"strings"
)

// pareto draws violations against cost: a panel for each size of fleet, a mark for each policy (means over the panel's cells). Best is at the lower left.
func pareto(rows []row) string {
	const width, height, left, top = 340, 300, 60, 40
	var sizes []float64
	for _, r := range rows {
		if len(sizes) == 0 || sizes[len(sizes)-1] < r.Workers {
			sizes = append(sizes, r.Workers)
		}
	}
	all := names(rows)
	var b strings.Builder
	total := len(sizes)*(width+left) + 220
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", total, height+90)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	x := func(cost float64) float64 { return min(max(math.Log(cost)/math.Log(3), 0), 1) * width }
	y := func(missed float64) float64 {
		return height - min(max(math.Log10(max(missed, 0.01)/0.01)/math.Log10(3000), 0), 1)*height // 0.01 % to 30 %
	}
	for k, size := range sizes {
		fmt.Fprintf(&b, `<g transform="translate(%d,%d)"><rect width="%d" height="%d" fill="none" stroke="#999"/><text x="0" y="-12" font-weight="bold">%g workers</text>`+"\n", k*(width+left)+left, top, width, height, size)
		for _, cost := range []float64{1, 1.05, 1.15, 1.5, 2, 3} {
			fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", x(cost), x(cost), height, x(cost), height+15, cost)
		}
		for _, missed := range []float64{0.01, 0.1, 1, 10} {
			stroke := "#eee"
			if missed == 100*budget {
				stroke = "#c33"
			}
			fmt.Fprintf(&b, `<line x1="0" x2="%d" y1="%.1f" y2="%.1f" stroke="%s"/><text x="-6" y="%.1f" text-anchor="end">%g %%</text>`+"\n", width, y(missed), y(missed), stroke, y(missed)+4, missed)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">worker-hours over the clairvoyant's</text>`+"\n", width/2, height+32)
		var here []row
		for _, r := range rows {
			if r.Workers == size {
				here = append(here, r)
			}
		}
		for i, name := range all {
			s := summarise(here, name)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="5" fill="%s"><title>%s: %.3f, %.3f %%</title></circle><text x="%.1f" y="%.1f" font-size="9">%d</text>`+"\n", x(s.cost), y(s.missed), hue(i), name, s.cost, s.missed, x(s.cost)+6, y(s.missed)+3, i+1)
		}
		fmt.Fprintln(&b, "</g>")
	}
	for i, name := range all {
		at := len(sizes)*(width+left) + 30
		fmt.Fprintf(&b, `<circle cx="%d" cy="%d" r="5" fill="%s"/><text x="%d" y="%d">%d %s</text>`+"\n", at, top+i*18, hue(i), at+10, top+i*18+4, i+1, name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func hue(i int) string { return fmt.Sprintf("hsl(%d,70%%,45%%)", i*137%360) }
