// The requirements' first scenario for k6: 10 administrators, 100 portal users, and registrations that jump from 1 to 10 a second for
// three quarters of an hour. COMPRESS=60 plays it in a sixtieth of its time.
//
//   tidemark loadtest --k6 peak-farmer-registration-drive.js --k6-arg -e --k6-arg BASE=http://127.0.0.1:8400 --warm-up 5m
import http from "k6/http";
import { check, sleep } from "k6";
import { base, birthDate, get, known, letters, lookup, params, pick } from "./registry.js";

const compress = Number(__ENV.COMPRESS || 1);
const seconds = (minutes) => `${Math.max(Math.round((minutes * 60) / compress), 1)}s`;
const spike = (low, high) => [
  { duration: seconds(15), target: low },
  { duration: seconds(1), target: high },
  { duration: seconds(44), target: high },
  { duration: seconds(10), target: low },
  { duration: seconds(20), target: low },
];
const arrivals = (exec, low, high) => ({ executor: "ramping-arrival-rate", exec, startRate: low, timeUnit: "1s", stages: spike(low, high), preAllocatedVUs: high * 10, maxVUs: high * 50 });
const users = (exec, vus) => ({ executor: "constant-vus", exec, vus, duration: seconds(90) });

export const options = {
  scenarios: { register: arrivals("register", 1, 10), look_up: arrivals("lookUp", 2, 8), portal: users("portal", 100), admin: users("admin", 10) },
  thresholds: { "http_req_duration{kind:api}": ["p(95)<500"], "http_req_duration{kind:page}": ["p(95)<3000"], http_req_failed: ["rate<0.01"] },
};

export const setup = known;

const think = (from, to) => sleep(from + Math.random() * (to - from));

export function register(farmers) {
  const home = pick(farmers);
  const given = `Loadtest ${letters(8)}`;
  get(`/api/farmer/lookup?name=${encodeURIComponent(given)}&village=${encodeURIComponent(home.village)}`, "search first");
  const farmer = { given_name: given, family_name: home.family_name, birth_date: birthDate(), sex: pick(["female", "male"]), village: home.village, island: home.island };
  const r = http.post(`${base}/api/farmer`, JSON.stringify(farmer), params("register"));
  if (check(r, { register: (r) => r.status === 200 || r.status === 201 })) get(`/api/farmer/${r.json("uid")}`, "read back");
}

export function lookUp(farmers) {
  lookup(pick(farmers));
}

export function portal() {
  get("/", "home", "page");
  think(2, 6);
  get("/register", "form", "page");
  think(2, 6);
  get("/status", "status", "page");
  think(20, 60);
}

export function admin(farmers) {
  get("/admin/sign-in", "sign-in page", "page");
  think(1, 4);
  lookup(pick(farmers));
  think(20, 60);
}
