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
    ready();
    for (const id of open) { const d = document.getElementById(id); if (d) d.open = true; }
    if (focus) {
      const at = (name && document.getElementById(name)) || fresh, e = place < 0 ? at : at.querySelectorAll(operable)[place];
      if (e) e.focus({ preventScroll: true });
    }
  };

  // The charts of a timeline tell what is pointed at: all of them at the same time, and when that is beside the one that is pointed at.
  // The arrow keys move there too.
  const zone = document.body.dataset.zone, day = 86400;
  let at = -1, pointed = null;
  const ready = () => { for (const e of document.querySelectorAll("[data-charts]")) e.tabIndex = 0; show(); };
  const moment = (from, to, zone) => {
    const seconds = to - from, parts = { weekday: "short", day: "numeric", month: "short", year: "numeric", hour12: false };
    if (seconds < day) Object.assign(parts, { year: undefined, hour: "2-digit", minute: "2-digit" }, seconds < 60 ? { second: "2-digit" } : {});
    try { parts.timeZone = zone; const f = new Intl.DateTimeFormat("en-GB", parts); return f.formatRange ? f.formatRange(from * 1000, to * 1000) : f.format(from * 1000); }
    catch { return moment(from, to, "UTC") + " UTC"; } // a zone that the browser does not know
  };
  const show = () => {
    for (const e of document.querySelectorAll(".cross, .told")) e.remove();
    for (const figure of at < 0 ? [] : document.querySelectorAll("[data-charts] figure[data-columns]")) {
      const { from, to, columns } = figure.dataset, width = (to - from) / columns, svg = figure.querySelector("svg");
      const lines = [...figure.querySelectorAll("[data-values]")].map((e) => [e.dataset.name, e.dataset.values.split("|")[at]]);
      const words = lines.filter(([, value]) => value).map(([name, value]) => lines.length > 1 ? name + " " + value : value).join(", ") || "nothing measured";
      const told = document.createElement("output"), cross = document.createElementNS(svg.namespaceURI, "line");
      told.className = "told";
      told.textContent = words;
      if (figure.querySelector("b").textContent === pointed) {
        const begin = +from + at * width;
        told.textContent += " – " + moment(begin, begin + width, zone) + (zone === "UTC" ? "" : " (" + moment(begin, begin + width, "UTC") + " UTC)");
      }
      figure.querySelector("figcaption").append(told);
      cross.setAttribute("class", "cross");
      for (const x of ["x1", "x2"]) cross.setAttribute(x, 100 * (at + 0.5) / columns + "%");
      cross.setAttribute("y2", "100%");
      svg.append(cross);
    }
  };
  const point = (e) => {
    const figure = e.target.closest && e.target.closest("[data-charts] figure[data-columns]");
    const r = figure && figure.querySelector("svg").getBoundingClientRect(), columns = figure && +figure.dataset.columns;
    const place = figure ? Math.floor((e.clientX - r.left) / r.width * columns) : -1, next = place < columns ? place : -1;
    const name = figure && figure.querySelector("b").textContent;
    if (next === at && name === pointed) return;
    at = next;
    pointed = name;
    show();
  };
  for (const kind of ["pointermove", "pointerdown"]) addEventListener(kind, point, { passive: true });
  addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key], figure = step && e.target.matches("[data-charts]") && e.target.querySelector("figure[data-columns]");
    if (!figure) return;
    e.preventDefault();
    const columns = +figure.dataset.columns;
    at = at < 0 ? columns - 1 : Math.min(Math.max(at + step, 0), columns - 1);
    pointed = figure.querySelector("b").textContent;
    show();
  });
  ready();

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
