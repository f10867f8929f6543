package webhook

import (
	"net/url"
	"strings"
	"time"

	"tidemark/internal/config"
	"tidemark/internal/tell"
	"tidemark/internal/tell/post"
)

// Config is what an operator writes under `notify: {webhook: ...}` and `notify: {slack: ...}`.
type Config struct {
	URL        string        `yaml:"url,required" example:"https://ops.moa.example/tidemark"` // a secret, where the receiver knows us by it
	Format     string        `yaml:"-"`                                                       // json or slack: what the block is called
	Secret     string        `yaml:"secret"`                                                  // ${NAME}: the key that json messages are signed with
	SecretFile string        `yaml:"secret_file"`
	CAFile     string        `yaml:"ca_file"` // further certificate authorities, PEM
	Timeout    time.Duration `yaml:"timeout"` // for one request

	tell.Delivery `yaml:",inline"`
}

// The formats.
const (
	JSON  = "json"
	Slack = "slack" // also Mattermost, Rocket.Chat, Zulip and whatever else takes {"text": ...}
)

// DefaultConfig is what holds where the operator wrote nothing.
func DefaultConfig() Config {
	return Config{Format: JSON, Timeout: 30 * time.Second, Delivery: tell.DefaultDelivery()}
}

// DefaultSlack is the same for a chat.
func DefaultSlack() Config {
	c := DefaultConfig()
	c.Format = Slack
	return c
}

// Validate returns every problem at once, as config.FieldErrors.
func (c *Config) Validate() error {
	var errs config.FieldErrors
	post.CheckURL(&errs, "url", c.URL, "https://ops.moa.example/tidemark")
	signed := c.Secret != "" || c.SecretFile != ""
	switch {
	case c.Secret != "" && c.SecretFile != "":
		errs.Add("secret_file", "stands beside secret", "delete one of them")
	case signed && c.Format == Slack:
		errs.Add("secret", "is of no use: a chat does not check signatures, it knows us by the address", "delete it, or write webhook in place of slack")
	case !signed && c.Format == JSON && strings.HasPrefix(c.URL, "http://"):
		errs.Add("secret", "is missing: over http:// anybody could send such messages", "add secret: ${WEBHOOK_SECRET}, or secret_file, or write https://")
	case c.Secret != "" && len(c.Secret) < 16:
		errs.Add("secret", "has fewer than 16 characters, so it can be guessed", "write one made by: openssl rand -hex 32")
	}
	tell.CheckTimeout(&errs, c.Timeout)
	c.Check(&errs)
	return errs.Err()
}

// Addresses are those whom the channel tells.
func (c *Config) Addresses() []string { return []string{c.name()} }

// name is that of the channel: the address itself may be a secret.
func (c *Config) name() string {
	kind := "webhook"
	if c.Format == Slack {
		kind = "slack"
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return kind
	}
	return kind + " " + u.Host
}
