package device

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tidemark/registry"
	"tidemark/registry/seed"
)

// Drive is a registration drive: an enumerator goes from house to house.
type Drive struct {
	Seed     uint64             // another seed, other farmers
	Villages []registry.Village // where: on the device's islands
	Form     registry.Form      // that each farmer answers
}

// Register makes n farmers with two plots and one submission each in the outbox: 4 n changes. A plot is a polygon as a
// walk around it records one, with twelve corners to the metre.
func (d *Device) Register(n int, drive Drive) {
	rng := rand.New(rand.NewPCG(drive.Seed, 0x6472697665))
	for person := range seed.Farmers(drive.Seed, n) {
		at := drive.Villages[rng.IntN(len(drive.Villages))]
		fields := map[string]any{}
		for name, value := range person.Fields {
			fields[name] = value
		}
		fields["village"], fields["island"], fields["status"] = at.Name, at.Island, "pending_verification"
		if fields["national_id"] != nil { // seed.Farmers has the same numbers whatever the seed
			fields["national_id"] = fmt.Sprintf("%s-%012d", at.Country, rng.Int64N(1e12))
		}
		farmer := d.Create("farmer", fields)
		for i, crop := range []string{"taro", "coconut"} {
			shape, hectares := walk(rng)
			d.Create("plot", map[string]any{
				"farmer": farmer, "name": fmt.Sprint("Plot ", i+1), "size_ha": hectares, "tenure": "customary", "crop": crop, "shape": shape,
			})
		}
		d.Create("submission", map[string]any{"farmer": farmer, "form": drive.Form.ID, "form_version": drive.Form.Version, "answers": answers(rng, drive.Form)})
	}
}

// walk is a polygon around a field, and its size in hectares.
func walk(rng *rand.Rand) (shape map[string]any, hectares float64) {
	const corners = 12
	round := func(v float64) float64 { return math.Round(v*1e5) / 1e5 } // a degree has 111 km: these are metres
	lon, lat := -159.8+rng.Float64()/10, -21.2+rng.Float64()/10
	ring := make([][2]float64, corners, corners+1)
	area := 0.0
	for i := range ring {
		angle, radius := 2*math.Pi*float64(i)/corners, 0.0003+0.0004*rng.Float64()
		ring[i] = [2]float64{round(lon + radius*math.Cos(angle)), round(lat + radius*math.Sin(angle))}
		area += radius * radius * 111_000 * 111_000 / 2 * math.Sin(2*math.Pi/corners)
	}
	return map[string]any{"type": "Polygon", "coordinates": [][][2]float64{append(ring, ring[0])}}, math.Round(area/100) / 100
}

// answers fills in a form.
func answers(rng *rand.Rand, form registry.Form) map[string]any {
	words := []string{"taro", "cassava", "kumara", "banana", "pawpaw", "nono", "vanilla", "breadfruit", "no irrigation", "two goats"}
	given := map[string]any{}
	for _, q := range form.Questions {
		switch q.Type {
		case "number":
			most := q.Max
			if most == 0 {
				most = 100
			}
			given[q.Name] = math.Round(rng.Float64()*most*10) / 10
		case "choice":
			given[q.Name] = q.Choices[rng.IntN(len(q.Choices))]
		case "yes_no":
			given[q.Name] = []string{"yes", "no"}[rng.IntN(2)]
		case "date":
			given[q.Name] = fmt.Sprintf("2026-%02d-%02d", 1+rng.IntN(6), 1+rng.IntN(28))
		default:
			given[q.Name] = words[rng.IntN(len(words))]
		}
	}
	return given
}
