// Keeps a page up to date: the server sends its sections as they change. Without this script the page can be read all the same.
"use strict";
(() => {
  const source = document.body.dataset.live;
  const bar = document.getElementById("link");
  const say = (text, bad) => { bar.textContent = text; bar.className = bad ? "bad" : "good"; bar.hidden = !text; };
  const clock = () => new Date().toLocaleTimeString("en-GB");

  // A section takes the place of the one before. What was opened stays open, and what had the focus keeps it: by its name, by that of
  // what it stands in, or by its place.
  const operable = "a[href], button, input, select, summary, [tabindex]";
  const put = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").body.firstElementChild;
    const old = fresh && document.getElementById(fresh.id);
    if (!old) return;
    const open = [...old.querySelectorAll("details[open][id]")].map((d) => d.id);
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    const named = focus && focus.closest("[id]"), name = named && named !== old ? named.id : "";
    const place = (name ? [...named.querySelectorAll(operable)] : [...old.querySelectorAll(operable)]).indexOf(focus);
    old.replaceWith(document.adoptNode(fresh));
    for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
    if (focus) {
      const at = (name && document.getElementById(name)) || fresh, e = place < 0 ? at : at.querySelectorAll(operable)[place];
      if (e) e.focus({ preventScroll: true });
    }
  };

  if (!source || !window.EventSource) return;
  let stream, lost = "", hello = document.body.dataset.hello, again = 0, stopped = false;
  const connect = () => {
    stream = new EventSource(source);
    stream.addEventListener("hello", (e) => {
      const [daemon, assets] = e.data.split(" ");
      if (hello.split(" ")[1] !== assets) { location.reload(); return; }
      if (hello.split(" ")[0] !== daemon) say("Tidemark was started anew; this page is up to date again since " + clock() + ".", false);
      else if (lost) say("Connected again at " + clock() + ".", false);
      hello = e.data;
      lost = "";
    });
    stream.addEventListener("section", (e) => put(e.data));
    stream.onerror = () => {
      stream.close();
      if (stopped) return;
      if (!lost) lost = clock();
      say("No connection to Tidemark since " + lost + ": this page shows what was the case then. Trying again.", true);
      // Whoever is signed out meanwhile is led to the sign-in, and back here.
      fetch(source, { method: "HEAD" }).then((r) => { if (r.status === 401 || r.status === 403) location.reload(); }, () => {});
      again = setTimeout(connect, 2000);
    };
  };
  addEventListener("pagehide", () => { stopped = true; clearTimeout(again); if (stream) stream.close(); });
  addEventListener("pageshow", (e) => { if (e.persisted) { stopped = false; connect(); } });
  connect();
})();
