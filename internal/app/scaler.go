package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"tidemark/internal/act/keda"
	"tidemark/internal/act/kubernetes"
	"tidemark/internal/config"
	"tidemark/internal/show/web"
	"tidemark/internal/show/web/access"
)

// scaler is where KEDA asks, as it is configured.
type scaler struct {
	cfg      config.KEDA
	listener net.Listener
	server   *keda.Scaler
}

// openScaler returns the server of a configuration: the one that runs, if it was configured so before, or a new one. nil: none is
// configured.
func (a *App) openScaler(cfg config.KEDA) (*scaler, error) {
	if cfg.Listen == "" {
		return nil, nil
	}
	if a.scaler != nil && a.scaler.cfg == cfg {
		return a.scaler, nil
	}
	s := &scaler{cfg: cfg}
	secure, err := scalerTLS(cfg, a.opts.Log)
	if err != nil {
		return nil, fmt.Errorf("keda: %w", err)
	}
	s.server = keda.New(keda.Options{Fleet: a.fleetForKEDA, Leads: a.leads, TLS: secure})
	if a.scaler != nil && a.scaler.cfg.Listen == cfg.Listen {
		s.listener, err = sameSocket(a.scaler.listener)
	} else {
		s.listener, err = net.Listen("tcp", cfg.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("keda: %w; write another port in keda.listen if a program needs this one", err)
	}
	a.wg.Go(func() {
		if err := s.server.Serve(web.Limit(s.listener, keda.MostConnections)); err != nil {
			a.opts.Log("keda: " + err.Error())
		}
	})
	return s, nil
}

// scalerTLS is nil where KEDA asks in clear. Files that have changed hold for the connections to come.
func scalerTLS(cfg config.KEDA, log func(string)) (*tls.Config, error) {
	if cfg.TLS == (config.TLS{}) {
		return nil, nil
	}
	pair, err := access.LoadPair(cfg.TLS.Certificate, cfg.TLS.Key, log)
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, GetCertificate: pair.Certificate}
	if cfg.ClientCA == "" {
		return secure, nil
	}
	asked := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		text, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("read who vouches for KEDA: %w (client_ca_file names the file)", err)
		}
		c := secure.Clone()
		c.GetConfigForClient, c.ClientAuth, c.ClientCAs = nil, tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate in PEM (client_ca_file)", cfg.ClientCA)
		}
		return c, nil
	}
	if _, err := asked(nil); err != nil {
		return nil, err
	}
	secure.GetConfigForClient = asked
	return secure, nil
}

// close ends the server. Twice is harmless.
func (s *scaler) close() {
	if s != nil {
		s.server.Close()
	}
}

// leads returns nil while this daemon leads.
func (a *App) leads() error {
	if a.lead == nil {
		return nil
	}
	return a.lead.Held()
}

// follows keeps which fleets KEDA follows, for its questions.
func (a *App) follows() {
	fleets := map[string]*kubernetes.Followed{}
	for name, p := range a.parts {
		if f, ok := p.target.it.(*kubernetes.Followed); ok {
			fleets[name] = f
		}
	}
	a.followed.Store(&fleets)
}

func (a *App) fleetForKEDA(name string) keda.Fleet {
	if f := (*a.followed.Load())[name]; f != nil {
		return f
	}
	return nil
}
