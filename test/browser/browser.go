// Package browser drives a real headless Chromium for tests: it opens pages, fills in forms, clicks and types as a person
// does, and takes screenshots. Only tests import it.
//
// It speaks the DevTools protocol over a pair of pipes (--remote-debugging-pipe): no port, no library. Chromium has a
// profile of its own in a temporary folder, and ends with the test.
package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidemark/test/servers"
)

// ages is how long a test waits for what should take no time: as long as a loaded machine may need.
const ages = time.Minute

// flags: no sandbox, for tests run as root in containers; and nothing that calls home.
var flags = []string{
	"--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-default-browser-check",
	"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--lang=en-GB",
}

// Browser is a running Chromium.
type Browser struct {
	t    testing.TB
	in   io.WriteCloser
	mu   sync.Mutex // of what follows, and of writing to in
	last int
	wait map[int]chan answer
	tabs map[string]*Page // by session
	gone chan struct{}    // closed when nothing more is read
}

type answer struct {
	result json.RawMessage
	err    error
}

// message is one of the protocol, either way.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// Start starts Chromium and ends it with the test. Where it is not installed the test skips; in CI it fails.
func Start(t testing.TB) *Browser {
	t.Helper()
	program := servers.Need(t, "chromium")
	profile := t.TempDir()
	fromUs, toIt, err1 := os.Pipe()
	fromIt, toUs, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, append(flags, "--user-data-dir="+profile, "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // its descriptors 3 and 4
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	_, _ = fromUs.Close(), toUs.Close()
	b := &Browser{t: t, in: toIt, wait: map[int]chan answer{}, tabs: map[string]*Page{}, gone: make(chan struct{})}
	go b.read(fromIt)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, _ = b.ask(ctx, "", "Browser.close", nil) // if it does not, it is killed
		cancel()
		_ = toIt.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = fromIt.Close()
		<-b.gone
		if t.Failed() {
			t.Logf("chromium said:\n%s", log.String())
		}
	})
	return b
}

// read hands out answers and events until Chromium ends.
func (b *Browser) read(from io.Reader) {
	defer close(b.gone)
	in := bufio.NewReader(from)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if m.ID != 0 {
			a := answer{result: m.Result}
			if m.Error != nil {
				a.err = errors.New(m.Error.Message)
			}
			if c := b.wait[m.ID]; c != nil {
				c <- a // it has room for one
				delete(b.wait, m.ID)
			}
		} else if p := b.tabs[m.Session]; p != nil {
			p.event(m.Method, m.Params)
		}
		b.mu.Unlock()
	}
}

// ask sends a command and waits for its answer.
func (b *Browser) ask(ctx context.Context, session, method string, params any) (json.RawMessage, error) {
	c := make(chan answer, 1)
	b.mu.Lock()
	b.last++
	text, err := json.Marshal(message{ID: b.last, Session: session, Method: method, Params: params})
	if err == nil {
		b.wait[b.last] = c
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a := <-c:
		if a.err != nil {
			return nil, fmt.Errorf("%s: %w", method, a.err)
		}
		return a.result, nil
	case <-b.gone:
		return nil, fmt.Errorf("%s: chromium has ended", method)
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: no answer: %w", method, ctx.Err())
	}
}

// Page is one tab.
type Page struct {
	b       *Browser
	session string
	loaded  chan struct{} // of the last load event, has room for one

	mu       sync.Mutex
	problems []string
}

// Open opens a new tab, with its own cookies, as large as a desktop's.
func (b *Browser) Open() *Page {
	b.t.Helper()
	var browserContext struct {
		ID string `json:"browserContextId"`
	}
	b.must("", "Target.createBrowserContext", nil, &browserContext)
	var target struct {
		ID string `json:"targetId"`
	}
	b.must("", "Target.createTarget", object{"url": "about:blank", "browserContextId": browserContext.ID}, &target)
	var session struct {
		ID string `json:"sessionId"`
	}
	b.must("", "Target.attachToTarget", object{"targetId": target.ID, "flatten": true}, &session)
	p := &Page{b: b, session: session.ID, loaded: make(chan struct{}, 1)}
	b.mu.Lock()
	b.tabs[session.ID] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page.enable", "Runtime.enable", "Log.enable", "DOM.enable"} {
		b.must(p.session, domain, nil, nil)
	}
	p.Size(1280, 800)
	return p
}

type object map[string]any

func (b *Browser) must(session, method string, params, into any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), ages)
	defer cancel()
	result, err := b.ask(ctx, session, method, params)
	if err != nil {
		b.t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(result, into); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	}
}

// event is called with each event of the page.
func (p *Page) event(method string, params any) {
	switch method {
	case "Page.loadEventFired":
		select {
		case p.loaded <- struct{}{}:
		default:
		}
	case "Log.entryAdded", "Runtime.exceptionThrown":
		text, _ := json.Marshal(params)
		p.mu.Lock()
		p.problems = append(p.problems, string(text))
		p.mu.Unlock()
	}
}

// Problems are what the browser has complained of: scripts that failed, what the content security policy has stopped,
// what could not be loaded.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.problems...)
}

func (p *Page) must(method string, params, into any) {
	p.b.t.Helper()
	p.b.must(p.session, method, params, into)
}

// during does something that loads a page, and waits until it is there.
func (p *Page) during(do func()) {
	p.b.t.Helper()
	select {
	case <-p.loaded: // of a load before
	default:
	}
	do()
	select {
	case <-p.loaded:
	case <-p.b.gone:
		p.b.t.Fatal("chromium has ended")
	case <-time.After(ages):
		p.b.t.Fatal("no page was loaded")
	}
}

// Go opens an address.
func (p *Page) Go(url string) {
	p.b.t.Helper()
	p.during(func() { p.must("Page.navigate", object{"url": url}, nil) })
}

// Eval runs an expression in the page and reads its value into into, which may be nil.
func (p *Page) Eval(expression string, into any) {
	p.b.t.Helper()
	var out struct {
		Result    struct{ Value json.RawMessage } `json:"result"`
		Exception *struct {
			Exception struct{ Description string } `json:"exception"`
		} `json:"exceptionDetails"`
	}
	p.must("Runtime.evaluate", object{"expression": expression, "returnByValue": true, "awaitPromise": true}, &out)
	if out.Exception != nil {
		p.b.t.Fatalf("%s: %s", expression, out.Exception.Exception.Description)
	}
	if into != nil {
		if err := json.Unmarshal(out.Result.Value, into); err != nil {
			p.b.t.Fatalf("%s gives %s: %v", expression, out.Result.Value, err)
		}
	}
}

// the is the JavaScript for the one element of a CSS selector.
func the(selector string) string {
	text, _ := json.Marshal(selector) // a string
	return fmt.Sprintf("(e => { if (!e) throw new Error('there is no ' + %[1]s); return e })(document.querySelector(%[1]s))", text)
}

// Text is the visible text of an element.
func (p *Page) Text(selector string) (text string) {
	p.b.t.Helper()
	p.Eval(the(selector)+".innerText", &text)
	return text
}

// Path is the address of the page without its host.
func (p *Page) Path() (path string) {
	p.b.t.Helper()
	p.Eval("location.pathname + location.search", &path)
	return path
}

// Has says whether the page has an element.
func (p *Page) Has(selector string) (has bool) {
	p.b.t.Helper()
	text, _ := json.Marshal(selector) // a string
	p.Eval("document.querySelector("+string(text)+") !== null", &has)
	return has
}

// Fill gives a field its value: it is typed into text, chosen in a select, set in a date.
func (p *Page) Fill(selector, value string) {
	p.b.t.Helper()
	text, _ := json.Marshal(value) // a string
	var typed bool
	p.Eval(fmt.Sprintf(`(e => {
		e.focus()
		if (e.matches('select, [type=date]')) { e.value = %s; e.dispatchEvent(new Event('change', {bubbles: true})); return false }
		e.select(); return true
	})(%s)`, text, the(selector)), &typed)
	if typed {
		p.must("Input.insertText", object{"text": value}, nil)
	}
	var is string
	if p.Eval(the(selector)+".value", &is); is != value {
		p.b.t.Fatalf("%s holds %q instead of %q", selector, is, value)
	}
}

// Choose puts a file into a file field.
func (p *Page) Choose(selector, path string) {
	p.b.t.Helper()
	var doc struct {
		Root struct{ NodeID int } `json:"root"`
	}
	p.must("DOM.getDocument", nil, &doc)
	var node struct{ NodeID int }
	p.must("DOM.querySelector", object{"nodeId": doc.Root.NodeID, "selector": selector}, &node)
	p.must("DOM.setFileInputFiles", object{"nodeId": node.NodeID, "files": []string{path}}, nil)
}

// Point moves the mouse to the middle of an element.
func (p *Page) Point(selector string) {
	p.b.t.Helper()
	x, y := p.middle(selector)
	p.must("Input.dispatchMouseEvent", object{"type": "mouseMoved", "x": x, "y": y}, nil)
}

// middle brings an element into the window, and is the place of its middle there.
func (p *Page) middle(selector string) (x, y float64) {
	p.b.t.Helper()
	var at struct{ X, Y float64 }
	p.Eval("(e => { e.scrollIntoView({block: 'center', behavior: 'instant'}); const r = e.getClientRects()[0]; return {X: r.x + r.width / 2, Y: r.y + r.height / 2} })("+the(selector)+")", &at)
	return at.X, at.Y
}

// Click clicks on the middle of an element with the mouse, as a person would: what lies over it gets the click.
func (p *Page) Click(selector string) {
	p.b.t.Helper()
	x, y := p.middle(selector)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.must("Input.dispatchMouseEvent", object{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}, nil)
	}
}

// Follow clicks on what leads to another page, and waits until that is there.
func (p *Page) Follow(selector string) {
	p.b.t.Helper()
	p.during(func() { p.Click(selector) })
}

// Press presses keys one after the other, by their DOM names: Tab, Enter, Space or a letter.
func (p *Page) Press(keys ...string) {
	p.b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, "Space": 32, "ArrowLeft": 37, "ArrowRight": 39}
	texts := map[string]string{"Enter": "\r", "Space": " "}
	for _, key := range keys {
		event := object{"type": "keyDown", "key": strings.ReplaceAll(key, "Space", " "), "code": key, "windowsVirtualKeyCode": codes[key], "text": texts[key]}
		p.must("Input.dispatchKeyEvent", event, nil)
		event["type"] = "keyUp"
		delete(event, "text")
		p.must("Input.dispatchKeyEvent", event, nil)
	}
}

// PressFollow presses keys, the last of which leads to another page.
func (p *Page) PressFollow(keys ...string) {
	p.b.t.Helper()
	p.during(func() { p.Press(keys...) })
}

// Loaded waits until the page has loaded itself again.
func (p *Page) Loaded() {
	p.b.t.Helper()
	p.during(func() {})
}

// Size makes the window as wide and high as a device. Below 600 it is a phone.
func (p *Page) Size(width, height int) {
	p.b.t.Helper()
	p.must("Emulation.setDeviceMetricsOverride", object{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Dark makes the page believe that its reader prefers dark colours, or light ones.
func (p *Page) Dark(dark bool) {
	p.b.t.Helper()
	p.must("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": map[bool]string{true: "dark", false: "light"}[dark]}}}, nil)
}

// Overflow is how many pixels the page is wider than the window.
func (p *Page) Overflow() (pixels int) {
	p.b.t.Helper()
	p.Eval("document.documentElement.scrollWidth - document.documentElement.clientWidth", &pixels)
	return pixels
}

// Screenshot takes a picture of the whole page, in PNG.
func (p *Page) Screenshot() []byte { return p.picture(true) }

// Viewport takes a picture of what is seen in the window, in PNG.
func (p *Page) Viewport() []byte { return p.picture(false) }

func (p *Page) picture(whole bool) []byte {
	p.b.t.Helper()
	params := object{"format": "png", "captureBeyondViewport": whole}
	if whole {
		var page struct {
			Size struct{ Width, Height float64 } `json:"cssContentSize"`
		}
		p.must("Page.getLayoutMetrics", nil, &page)
		params["clip"] = object{"x": 0, "y": 0, "width": page.Size.Width, "height": page.Size.Height, "scale": 1}
	}
	var shot struct{ Data []byte }
	p.must("Page.captureScreenshot", params, &shot)
	return shot.Data
}
