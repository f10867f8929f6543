package seed

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"tidemark/registry"
)

// Plan is what to make up. The same Plan makes the same records, and its first farmers' are the first of any plan of more
// farmers.
type Plan struct {
	Seed        uint64
	Farmers     int
	Households  bool // most farmers have one, with members
	Plots       int  // of each farmer
	Submissions int  // of each farmer
}

// Records makes the records of a plan, parents before their children.
func Records(p Plan) iter.Seq[registry.Record] {
	return func(yield func(registry.Record) bool) {
		rng := rand.New(rand.NewPCG(p.Seed, 0x72656769737472)) // the farmers have their own: they are the same in every plan
		forms := Forms()
		for f := range Farmers(p.Seed, p.Farmers) {
			var family []registry.Record
			if p.Households && rng.IntN(10) > 0 {
				family = household(rng, &f)
				if !yield(family[0]) {
					return
				}
				family = family[1:]
			}
			if !yield(f) {
				return
			}
			for i := range p.Plots {
				family = append(family, plot(rng, &f, i))
			}
			for i := range p.Submissions {
				family = append(family, submission(rng, &f, forms[i%len(forms)], i))
			}
			for _, r := range family {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// of makes a record that came with a farmer.
func of(rng *rand.Rand, f *registry.Record, entity string, fields registry.Fields) registry.Record {
	return registry.Record{Entity: entity, UID: uid(rng), Version: 1, CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt, Fields: fields}
}

// household makes a farmer's household, and its members.
func household(rng *rand.Rand, f *registry.Record) []registry.Record {
	c := countryOf[f.Fields.Text("island")]
	home := of(rng, f, "household", registry.Fields{"name": f.Fields["family_name"], "village": f.Fields["village"], "island": f.Fields["island"]})
	f.Fields["household"] = home.UID
	born, err := time.Parse(time.DateOnly, f.Fields.Text("birth_date"))
	if err != nil {
		panic(err) // this package wrote it
	}
	all := []registry.Record{home}
	member := func(relation string, birth time.Time) {
		sex, names := "female", c.female
		if rng.IntN(2) == 0 {
			sex, names = "male", c.male
		}
		name := pick(rng, names)
		if birth.After(f.CreatedAt) {
			return
		}
		all = append(all, of(rng, f, "member", registry.Fields{
			"household": home.UID, "given_name": name, "family_name": f.Fields["family_name"], "birth_date": birth.Format(time.DateOnly), "sex": sex, "relation": relation,
		}))
	}
	if rng.IntN(10) < 7 {
		member("spouse", born.AddDate(rng.IntN(16)-8, 0, rng.IntN(365)))
	}
	for range rng.IntN(6) {
		member("child", born.AddDate(19+rng.IntN(22), 0, rng.IntN(365)))
	}
	if rng.IntN(10) == 0 {
		member("parent", born.AddDate(-19-rng.IntN(20), 0, -rng.IntN(365)))
	}
	home.Fields["size"] = float64(len(all)) // the farmer in the place of the household
	return all
}

var crops = []string{"taro", "cassava", "yam", "kumara", "banana", "coconut", "kava", "cocoa", "vanilla", "squash", "breadfruit", "cabbage"}

func plot(rng *rand.Rand, f *registry.Record, i int) registry.Record {
	size := float64(5+rng.IntN(295)) / 100
	fields := registry.Fields{
		"farmer": f.UID, "name": fmt.Sprint("Plot ", i+1), "size_ha": size, "tenure": registry.Tenures[0], "crop": pick(rng, crops),
		"shape": shape(rng, centres[f.Fields.Text("island")], size),
	}
	if rng.IntN(5) == 0 {
		fields["tenure"] = pick(rng, registry.Tenures)
	}
	return of(rng, f, "plot", fields)
}

// shape is a point near the middle of an island, or one time in five a square of the plot's size there.
func shape(rng *rand.Rand, centre [2]float64, hectares float64) registry.JSON {
	const spread = 0.04 // degrees
	lon, lat := centre[0]+spread*(rng.Float64()-0.5), centre[1]+spread*(rng.Float64()-0.5)
	if rng.IntN(5) > 0 {
		return registry.JSON(`{"type":"Point","coordinates":` + at(lon, lat) + `}`)
	}
	side := math.Sqrt(hectares) * 100 / 111_320 // metres in degrees
	first := at(lon, lat)
	return registry.JSON(`{"type":"Polygon","coordinates":[[` + first + "," + at(lon+side, lat) + "," + at(lon+side, lat+side) + "," + at(lon, lat+side) + "," + first + `]]}`)
}

// at writes coordinates to the metre, as JSON.
func at(lon, lat float64) string {
	number := func(n float64) string { return strconv.FormatFloat(math.Round(n*1e5)/1e5, 'f', -1, 64) }
	return "[" + number(lon) + "," + number(lat) + "]"
}

// Forms lists the forms that submissions answer, each version of them.
func Forms() []registry.Form {
	harvest := registry.Form{ID: "harvest", Version: 1, Title: "Last season's harvest", Questions: []registry.Question{
		{Name: "crop", Label: "Which crop did you sell most of?", Type: "choice", Choices: crops, Required: true},
		{Name: "kilograms", Label: "How many kilograms?", Type: "number", Max: 100_000, Required: true},
	}}
	second := harvest
	second.Version = 2
	second.Questions = append(harvest.Questions[:2:2], registry.Question{Name: "sold", Label: "Did you sell any?", Type: "yes_no", Required: true})
	needs := registry.Form{ID: "needs", Version: 1, Title: "What the farm needs", Questions: []registry.Question{
		{Name: "first", Label: "What is needed first?", Type: "choice", Choices: []string{"planting material", "tools", "water", "a road", "advice"}, Required: true},
		{Name: "cyclone", Label: "Did the last cyclone damage your crops?", Type: "yes_no"},
	}}
	return []registry.Form{second, needs, harvest}
}

func submission(rng *rand.Rand, f *registry.Record, form registry.Form, i int) registry.Record {
	answers := "{"
	questions := form.Questions
	order := map[string][]int{"harvest": {0, 1, 2}, "needs": {1, 0}}[form.ID] // JSON's members are stored in order
	for _, n := range order[:len(questions)] {
		q := questions[n]
		var value string
		switch q.Type {
		case "number":
			value = strconv.Itoa(rng.IntN(5000))
		case "yes_no":
			value = strconv.Quote([]string{"no", "yes"}[rng.IntN(2)])
		default:
			value = strconv.Quote(pick(rng, q.Choices))
		}
		if len(answers) > 1 {
			answers += ","
		}
		answers += strconv.Quote(q.Name) + ":" + value
	}
	r := of(rng, f, "submission", registry.Fields{"farmer": f.UID, "form": form.ID, "form_version": float64(form.Version), "answers": registry.JSON(answers + "}")})
	r.CreatedAt = r.CreatedAt.AddDate(0, 0, 30*(i+1))
	r.UpdatedAt = r.CreatedAt
	return r
}

// countryOf tells the country of an island.
var countryOf = func() map[string]*country {
	of := map[string]*country{}
	for i := range countries {
		for _, place := range countries[i].islands {
			of[place.name] = &countries[i]
		}
	}
	return of
}()

// centres are longitude and latitude of the middle of each island, in degrees.
var centres = map[string][2]float64{
	"Rarotonga": {-159.777, -21.236}, "Aitutaki": {-159.785, -18.857}, "Mangaia": {-157.91, -21.92}, "Atiu": {-158.12, -19.99}, "Mauke": {-157.34, -20.16},
	"Upolu": {-171.73, -13.92}, "Savaiʻi": {-172.52, -13.61}, "Manono": {-172.1, -13.84}, "Apolima": {-172.15, -13.82},
	"Tongatapu": {-175.2, -21.17}, "Vavaʻu": {-173.98, -18.63}, "Haʻapai": {-174.35, -19.8}, "ʻEua": {-174.93, -21.38}, "Niuatoputapu": {-173.75, -15.95},
	"Guadalcanal": {160.15, -9.6}, "Malaita": {161, -8.9}, "Makira": {161.85, -10.57}, "Santa Isabel": {159.1, -8}, "New Georgia": {157.5, -8.3},
	"Choiseul": {156.9, -7}, "Temotu": {165.9, -10.72}, "Rennell": {160.25, -11.63},
	"Efate": {168.38, -17.68}, "Espiritu Santo": {166.9, -15.3}, "Malekula": {167.5, -16.3}, "Tanna": {169.35, -19.5}, "Ambae": {167.83, -15.38},
	"Pentecost": {168.18, -15.75}, "Ambrym": {168.12, -16.25}, "Epi": {168.25, -16.72},
}
