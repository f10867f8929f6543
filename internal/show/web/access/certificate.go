package access

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Pair is a certificate and its key, read anew when their files have changed: a renewal needs no reload.
type Pair struct {
	certificate, key string
	log              func(string)

	mu     sync.Mutex
	looked time.Time
	seen   string // the files as they were last read
	it     *tls.Certificate
}

// LoadPair reads a certificate and its key. The error says what to do.
func LoadPair(certificate, key string, log func(string)) (*Pair, error) {
	p := &Pair{certificate: certificate, key: key, log: log}
	p.seen, p.looked = p.state(), time.Now()
	var err error
	p.it, err = p.read()
	return p, err
}

// expiring is how long before its end a certificate is pointed out.
const expiring = 14 * 24 * time.Hour

func (p *Pair) read() (*tls.Certificate, error) {
	certificate, err := os.ReadFile(p.certificate)
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w (tls.certificate names its file, in PEM)", err)
	}
	key, err := os.ReadFile(p.key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate's key: %w (tls.key names its file, which the daemon's user has to be able to read)", err)
	}
	if st, err := os.Stat(p.key); err == nil && st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("everybody may use %s, which is a private key: say 'chmod 640 %s', with the daemon's group", p.key, p.key)
	}
	it, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("use %s with the key %s: %w (the certificate's file begins with the server's own, and the key belongs to that)", p.certificate, p.key, err)
	}
	if it.Leaf == nil {
		if it.Leaf, err = x509.ParseCertificate(it.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read %s: %w", p.certificate, err)
		}
	}
	switch left := time.Until(it.Leaf.NotAfter); {
	case left <= 0:
		p.log(fmt.Sprintf("the dashboard: the certificate %s ended on %s: renew it", p.certificate, it.Leaf.NotAfter.Format(dateForm)))
	case left < expiring:
		p.log(fmt.Sprintf("the dashboard: the certificate %s ends on %s: renew it", p.certificate, it.Leaf.NotAfter.Format(dateForm)))
	}
	return &it, nil
}

// state changes when one of the files does.
func (p *Pair) state() string {
	s := ""
	for _, path := range []string{p.certificate, p.key} {
		if st, err := os.Stat(path); err == nil {
			s += fmt.Sprint(st.ModTime().UnixNano(), st.Size(), st.Mode(), " ")
		}
	}
	return s
}

// Certificate is for tls.Config.GetCertificate. It looks at the files at most once a second; what cannot be used leaves the one before
// in force, and the log says why.
func (p *Pair) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.looked) >= time.Second {
		p.looked = now
		if seen := p.state(); seen != p.seen {
			p.seen = seen
			it, err := p.read()
			if err != nil {
				p.log("the dashboard: the certificate before stays: " + err.Error())
			} else {
				p.it = it
			}
		}
	}
	return p.it, nil
}
