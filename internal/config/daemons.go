package config

import (
	"fmt"
	"net/url"
)

// Daemon is another daemon, whose fleets the overview shows beside this one's.
type Daemon struct {
	URL       string `yaml:"url,required" example:"https://tidemark.mof.example:8460"` // where its dashboard is
	TokenFile string `yaml:"token_file"`                                               // holds a viewer's token, made there by 'tidemark token add'
	CAFile    string `yaml:"ca_file"`                                                  // who vouches for its certificate, in PEM; default: those of the system
}

// mostDaemons is how many one overview can show.
const mostDaemons = 50

// daemons checks the others: what they say, and the token that is shown to them, goes by TLS where it leaves the machine.
func (d *decoder) daemons(dir string, s *spec) {
	if len(s.Daemons) > mostDaemons && d.ok("daemons") {
		d.fail("daemons", fmt.Sprintf("has %d entries, and may have %d", len(s.Daemons), mostDaemons), "show the rest in the overview of another daemon")
	}
	if len(s.Daemons) > 0 && d.ok("daemons", "listen") && !d.written("listen") {
		d.warn("daemons", "there is no dashboard to show them", "write listen: 127.0.0.1:8460")
	}
	seen := map[string]int{}
	for i := range s.Daemons {
		o, path := &s.Daemons[i], fmt.Sprintf("daemons.%d", i)
		at := path + ".url"
		u, err := url.Parse(o.URL)
		switch {
		case !d.ok(at):
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
			d.fail(at, quote(at, o.URL)+" is no address of a dashboard", "write https://tidemark.mof.example:8460")
		case u.Scheme == "http" && u.Hostname() != "localhost" && !loopback(u.Hostname()):
			d.fail(at, quote(at, o.URL)+" is not by TLS, and the token would be sent in clear", "write https://, or bring it here by 'ssh -L 8461:127.0.0.1:8460 HOST' and write http://127.0.0.1:8461")
		case u.Scheme == "http" && o.CAFile != "":
			d.fail(path+".ca_file", "vouches for no certificate: url is not by TLS", "write https:// in url, or delete ca_file")
		default:
			o.URL = u.Scheme + "://" + u.Host
			if before, ok := seen[o.URL]; ok {
				d.fail(at, quote(at, o.URL)+fmt.Sprintf(" stands in entry %d too", before+1), "delete one of them")
			}
			seen[o.URL] = i
		}
		for _, file := range []*string{&o.TokenFile, &o.CAFile} {
			if *file != "" {
				*file = absolute(dir, *file)
			}
		}
	}
}
