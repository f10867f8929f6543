package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tidemark/internal/app"
	"tidemark/internal/config"
)

// fleetArg is the configuration, and the name of a fleet if one is given.
func (c *command) fleetArg(args []string) (cfg *config.Config, name string, err error) {
	if len(args) == 1 {
		name = args[0]
	}
	cfg, err = checked(c.configPath())
	return cfg, name, err
}

func (c *command) nginxSnippetCommand() *cobra.Command {
	var dir string
	cmd := c.jsonFlag(&cobra.Command{
		Use: "nginx-snippet [FLEET]", Short: "Write limits, caching and busy pages for an nginx in front of a fleet", Args: cobra.MaximumNArgs(1),
		Long: `Write what an nginx in front of a fleet needs to degrade in order, from the fleet's front: {nginx: ...}: limits by class
(limit_conn) and by client (limit_req), short caching of public pages, pages that tell visitors of the delay, the log format that
signals are read from, and time-outs. It changes nothing: include the two files, run 'nginx -t', and reload nginx.`,
		Example: "  tidemark nginx-snippet odoo-workers\n  tidemark nginx-snippet odoo-workers --dir /etc/nginx/tidemark",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, name, err := c.fleetArg(args)
			if err != nil {
				return err
			}
			s, err := app.NginxSnippet(cfg, name)
			switch {
			case err != nil:
				return err
			case dir == "":
				return c.show(s, func() { fmt.Fprintf(c.out, "%s\n%s", s.HTTP, s.Server) })
			}
			for file, text := range map[string]string{"http.conf": s.HTTP, "server.conf": s.Server} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					return fmt.Errorf("write the snippet: %w", err)
				}
			}
			fmt.Fprintf(c.out, "wrote %s and %s; include them, and run nginx -t\n", filepath.Join(dir, "http.conf"), filepath.Join(dir, "server.conf"))
			return nil
		},
	})
	cmd.Flags().StringVar(&dir, "dir", "", "write http.conf and server.conf into this `folder`")
	return cmd
}

func (c *command) haproxySnippetCommand() *cobra.Command {
	return c.jsonFlag(&cobra.Command{
		Use: "haproxy-snippet [FLEET]", Short: "Write the backend that an HAProxy in front of a fleet starts with", Args: cobra.MaximumNArgs(1),
		Long: `Write the backend of a fleet's balancer: {haproxy: ...}, with its queue, priorities and cookie, and as yet without servers. HAProxy
reads it beside its own file (-f haproxy.cfg -f tidemark.cfg); once the daemon runs it keeps the file up to date, so this is
for HAProxy's first start. 'haproxy -c -f haproxy.cfg -f tidemark.cfg' checks both.`,
		Example: "  tidemark haproxy-snippet registry > /etc/haproxy/tidemark.cfg",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, name, err := c.fleetArg(args)
			if err != nil {
				return err
			}
			b, err := app.HAProxySnippet(cfg, name)
			if err != nil {
				return err
			}
			return c.show(b, func() { fmt.Fprint(c.out, b.Text) })
		},
	})
}
