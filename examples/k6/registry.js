// What both scenarios ask of the registry (registry serve), beside one another: docs/loadtest.md has the same journeys in Tidemark's own words.
import http from "k6/http";
import { check, fail } from "k6";

export const base = __ENV.BASE || "http://127.0.0.1:8400";
const token = __ENV.REGISTRY_TOKEN;

// params of a request: its step's name, and what it is held to (api or page).
export function params(name, kind) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  return { headers, tags: { name, kind: kind || "api" } };
}

// known is a page of the farmers who are registered; for setup().
export function known() {
  const r = http.get(`${base}/api/mobile/sync?device_id=k6-setup`, params("known"));
  if (r.status !== 200) fail(`GET /api/mobile/sync: ${r.status} ${r.body}`);
  const farmers = r.json("changes").filter((c) => c.entity === "farmer");
  if (farmers.length === 0) fail("the registry has no farmers: registry seed makes some");
  return farmers;
}

export function pick(list) {
  return list[Math.floor(Math.random() * list.length)];
}

export function letters(n) {
  let s = "";
  for (let i = 0; i < n; i++) s += String.fromCharCode(97 + Math.floor(Math.random() * 26));
  return s;
}

export function uuid() {
  return "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, () => Math.floor(Math.random() * 16).toString(16));
}

export function birthDate() {
  const two = (n) => String(n).padStart(2, "0");
  return `${1950 + Math.floor(Math.random() * 55)}-${two(1 + Math.floor(Math.random() * 12))}-${two(1 + Math.floor(Math.random() * 28))}`;
}

export function get(path, name, kind) {
  const r = http.get(`${base}${path}`, params(name, kind));
  check(r, { [name]: (r) => r.status === 200 });
  return r;
}

export function lookup(farmer) {
  get(`/api/farmer/lookup?name=${encodeURIComponent(farmer.given_name)}&village=${encodeURIComponent(farmer.village)}`, "by name");
}
