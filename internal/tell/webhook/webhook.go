// Package webhook posts notices as JSON, signed, or as a chat's text. It owns the body and the signature; retries are tell's,
// and what an answer means is known to tell/post.
//
// A body is
//
//	{"id": "...", "instance": "...", "text": "...", "messages": [
//	  {"id": "...", "thread": "...", "kind": "raised", "time": "...", "notice": {"key": ..., "severity": ..., "title": ..., ...}}]}
//
// with one message, or several where a digest is due. Delivery is at least once: a message that comes again has the same id.
// kind is raised, reminder or resolved; thread is the id of the message that raised it.
//
// # How to verify
//
// The header Tidemark-Signature is "t=SECONDS,v1=HEX": SECONDS is the time of sending since 1970, and HEX the HMAC-SHA256, by the
// shared secret, of SECONDS, a full stop and the body as it came, byte for byte. A receiver
//
//  1. computes the same and compares in constant time;
//  2. refuses what is more than five minutes old or from the future: it was recorded and is played again;
//  3. remembers the ids of messages of the last ten minutes, and takes one that it has seen for done.
//
// Verify does 1 and 2. In Python 1 is
//
//	hmac.compare_digest(v1, hmac.new(secret, t.encode() + b"." + body, hashlib.sha256).hexdigest())
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tidemark/internal/tell"
	"tidemark/internal/tell/post"
)

// SignatureHeader is the header that Verify reads.
const SignatureHeader = "Tidemark-Signature"

// Tolerance is how far the sender's clock and the receiver's may be apart, the way included.
const Tolerance = 5 * time.Minute

// Sender posts to one address.
type Sender struct {
	cfg   Config
	place post.Place
	zone  *time.Location
}

// New makes a channel of a valid configuration. zone is the instance's, for the times in texts.
func New(cfg Config, zone *time.Location) (tell.Channel, error) {
	if err := cfg.Validate(); err != nil {
		return tell.Channel{}, err
	}
	if zone == nil {
		zone = time.UTC
	}
	s := &Sender{cfg: cfg, place: post.Place{URL: cfg.URL, CAFile: cfg.CAFile, Timeout: cfg.Timeout}, zone: zone}
	return tell.Channel{Name: cfg.name(), Sender: s, Delivery: cfg.Delivery}, nil
}

type payload struct {
	ID       string         `json:"id"`
	Instance string         `json:"instance"`
	Text     string         `json:"text"` // all of it for a person
	Messages []tell.Message `json:"messages"`
}

// Send posts the batch as one body.
func (s *Sender) Send(ctx context.Context, batch []tell.Message) error {
	letter := tell.Write(batch, s.zone)
	header := http.Header{"Content-Type": {"application/json"}}
	if s.cfg.Format == Slack {
		body, err := json.Marshal(map[string]string{"text": chat(letter)})
		if err != nil {
			return &tell.Refusal{Err: err}
		}
		return s.place.Do(ctx, http.MethodPost, header, body)
	}
	body, err := json.Marshal(payload{ID: tell.ID(batch), Instance: batch[0].Notice.Instance, Text: letter.Subject + "\n\n" + letter.Text, Messages: batch})
	if err != nil {
		return &tell.Refusal{Err: err}
	}
	secret, err := tell.Secret(s.cfg.Secret, s.cfg.SecretFile)
	if err != nil {
		return err
	}
	if secret != "" {
		header.Set(SignatureHeader, sign(body, secret, time.Now()))
	}
	return s.place.Do(ctx, http.MethodPost, header, body)
}

// chat writes what Slack calls mrkdwn: three characters must be escaped, and nothing is taken for a mention or a link.
func chat(l tell.Letter) string {
	text := "*" + strings.ReplaceAll(l.Subject, "*", "∗") + "*\n" + l.Text
	const most = 10_000 // runes: Slack cuts at 40,000 bytes, others before
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

func sign(body []byte, secret string, now time.Time) string {
	t := strconv.FormatInt(now.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac(t, body, secret))
}

func mac(t string, body []byte, secret string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(h, "%s.%s", t, body)
	return h.Sum(nil)
}

// Verify reports why a request must not be believed: its body was not signed with the secret, or not within Tolerance of now.
func Verify(signature string, body []byte, secret string, now time.Time) error {
	t, v1, ok := strings.Cut(signature, ",v1=")
	t, okT := strings.CutPrefix(t, "t=")
	sum, err := hex.DecodeString(v1)
	if !ok || !okT || err != nil {
		return errors.New("the signature is not of the form t=SECONDS,v1=HEX")
	}
	if !hmac.Equal(sum, mac(t, body, secret)) {
		return errors.New("the signature is not that of the body")
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil {
		return errors.New("the signature's time is no number")
	}
	if age := now.Sub(time.Unix(seconds, 0)); age.Abs() > Tolerance {
		return fmt.Errorf("the signature is %v old: it may be a recording", age)
	}
	return nil
}
