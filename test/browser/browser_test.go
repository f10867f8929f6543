package browser

import (
	"bytes"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBrowser(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "script-src 'none'")
		fmt.Fprintf(w, `<!doctype html><title>x</title><meta name=viewport content="width=device-width"><p>%s %s</p><form><input name=a><select name=b><option>1<option>2</select><input type=date name=c><button>go</button></form>
			<script>document.title = "stopped"</script>`, r.Method, html.EscapeString(fmt.Sprint(r.URL.Query())))
	}))
	defer site.Close()
	b := Start(t)
	p := b.Open()
	p.Go(site.URL + "/page")
	if p.Path() != "/page" || !p.Has("form") || p.Has("table") {
		t.Errorf("at %s", p.Path())
	}
	p.Fill("[name=a]", "Māʻina <b>")
	p.Fill("[name=b]", "2")
	p.Fill("[name=c]", "2001-02-03")
	p.Follow("button")
	if got := p.Text("p"); got != "GET map[a:[Māʻina <b>] b:[2] c:[2001-02-03]]" {
		t.Error(got)
	}
	p.Eval("document.querySelector('button').focus()", nil)
	p.PressFollow("Enter")
	if got := p.Path(); got != "/page?a=&b=1&c=" {
		t.Error(got)
	}
	p.Size(390, 700)
	picture, err := png.Decode(bytes.NewReader(p.Screenshot()))
	if err != nil || picture.Bounds().Dx() != 390 || p.Overflow() != 0 {
		t.Error(picture.Bounds(), err)
	}
	if all := strings.Join(p.Problems(), "\n"); !strings.Contains(all, "Content Security Policy") {
		t.Errorf("the stopped script is not told of: %s", all)
	}
	if other := b.Open(); len(other.Problems()) > 0 {
		t.Error("a new page has the problems of another")
	}
}
