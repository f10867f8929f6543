package test

import (
	"bufio"
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tidemark/test/browser"
)

// mostPicture is how large a picture of the README may be.
const mostPicture = 150 << 10

// The README's pictures, of the demo while the tide is high: 'make screenshots' says where they go.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("TIDEMARK_SCREENSHOTS")
	if dir == "" {
		t.Skip("makes the README's pictures, for 'make screenshots'")
	}
	p := browser.Start(t).Open()
	demo := exec.CommandContext(t.Context(), program("tidemark"), "demo")
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	base, taken, said := "", 0, ""
	for lines := bufio.NewScanner(out); lines.Scan(); { // to the end, so that the demo is not held up
		said += lines.Text() + "\n"
		if strings.HasPrefix(lines.Text(), "Watch it") {
			base = address.FindString(lines.Text())
		}
		if base == "" || taken > 0 || !strings.Contains(lines.Text(), " ebb ") {
			continue
		}
		for _, shot := range []struct {
			name, path    string
			width, height int
			dark          bool
		}{{"dashboard-fleet.png", "/fleets/registry", 1200, 1000, false}, {"dashboard-phone.png", "/", 390, 720, true}} {
			p.Size(shot.width, shot.height)
			p.Dark(shot.dark)
			p.Go(base + shot.path)
			picture := small(t, p.Viewport())
			if len(picture) > mostPicture {
				t.Errorf("%s has %d bytes, and may have %d", shot.name, len(picture), mostPicture)
			}
			if err := os.WriteFile(filepath.Join(dir, shot.name), picture, 0o644); err != nil { //nolint:gosec // it is committed
				t.Fatal(err)
			}
			taken++
		}
	}
	if err := demo.Wait(); err != nil || taken != 2 {
		t.Fatalf("%d pictures; the demo: %v\n%s", taken, err, said)
	}
	if problems := p.Problems(); len(problems) > 0 {
		t.Errorf("the browser says %v", problems)
	}
}

// small writes a picture with its 256 most frequent colours: pages have few.
func small(t *testing.T, b []byte) []byte {
	t.Helper()
	from, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[color.RGBA]int{}
	for y := range from.Bounds().Dy() {
		for x := range from.Bounds().Dx() {
			counts[color.RGBAModel.Convert(from.At(x, y)).(color.RGBA)]++
		}
	}
	var palette color.Palette
	for c := range counts {
		palette = append(palette, c)
	}
	slices.SortFunc(palette, func(a, b color.Color) int {
		x, y := a.(color.RGBA), b.(color.RGBA)
		return cmp.Or(counts[y]-counts[x], int(x.R)-int(y.R), int(x.G)-int(y.G), int(x.B)-int(y.B))
	})
	palette = palette[:min(len(palette), 256)]
	nearest := map[color.Color]uint8{}
	to := image.NewPaletted(from.Bounds(), palette)
	for y := range from.Bounds().Dy() {
		for x := range from.Bounds().Dx() {
			c := color.RGBAModel.Convert(from.At(x, y))
			i, ok := nearest[c]
			if !ok {
				i = uint8(palette.Index(c)) //nolint:gosec // of 256
				nearest[c] = i
			}
			to.SetColorIndex(x, y, i)
		}
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
