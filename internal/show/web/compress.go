package web

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"
)

// leastCompressed is the size in bytes from which an answer is: a smaller one fits a packet as it is.
const leastCompressed = 1400

// compressed are the kinds of answers that shrink. Streams are not among them: what is said on one is to be heard at once.
var compressed = []string{"text/html", "text/css", "text/javascript", "text/plain", "application/json", "application/problem+json"}

// Compressed has h's answers compressed for who takes that: a page becomes about a quarter, and links to islands are slow. No answer
// holds a secret beside what a stranger could choose, so its length betrays none.
func Compressed(h http.Handler) (http.Handler, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(leastCompressed), gzhttp.ContentTypes(compressed))
	if err != nil {
		return nil, err
	}
	return wrap(h), nil
}
