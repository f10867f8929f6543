// The requirements' second scenario for k6: 50 enumerators who each bring 500 farmers, with two plots and an answered form, every ten minutes
// of an hour. RECORDS=25 brings fewer, COMPRESS=60 plays it in a sixtieth of its time. k6 does not imitate 3G: Tidemark's own scenario does.
//
//   tidemark loadtest --k6 concurrent-mobile-sync.js --k6-arg -e --k6-arg BASE=http://127.0.0.1:8400 --warm-up 3m
import http from "k6/http";
import { check, fail, group, sleep } from "k6";
import { base, birthDate, get, known, letters, lookup, params, pick, uuid } from "./registry.js";

const compress = Number(__ENV.COMPRESS || 1);
const records = Number(__ENV.RECORDS || 500);
const batch = 25; // farmers in a batch: a hundred changes
const duration = `${Math.max(Math.round(3600 / compress), 1)}s`;

export const options = {
  scenarios: {
    enumerators: { executor: "constant-vus", exec: "enumerator", vus: 50, duration, gracefulStop: "10m" },
    look_up: { executor: "constant-arrival-rate", exec: "lookUp", rate: 5, timeUnit: "1s", duration, preAllocatedVUs: 50, maxVUs: 250 },
  },
  thresholds: { "group_duration{group:::sync}": ["p(95)<120000"], http_req_failed: ["rate<0.01"] },
};

// setup registers a farmer whom all enumerators will edit, so that there are conflicts.
export function setup() {
  const farmers = known();
  const home = farmers[0];
  const shared = { given_name: `Loadtest ${letters(8)}`, family_name: home.family_name, birth_date: birthDate(), sex: "female", village: home.village, island: home.island };
  const r = http.post(`${base}/api/farmer`, JSON.stringify(shared), params("shared"));
  if (r.status !== 201) fail(`POST /api/farmer: ${r.status} ${r.body}`);
  return { farmers, shared: r.json("uid") };
}

function create(entity, client_uuid, fields) {
  return { op_id: uuid(), entity, client_uuid, op: "create", client_time: new Date().toISOString(), fields };
}

// farmer is a farmer with two plots and an answered form: four changes.
function farmer(home) {
  const uid = uuid();
  const own = create("farmer", uid, {
    given_name: `Loadtest ${letters(8)}`, family_name: home.family_name, birth_date: birthDate(), sex: pick(["female", "male"]), village: home.village, island: home.island,
  });
  const plot = (n) => create("plot", uuid(), { farmer: uid, name: `Plot ${n}`, size_ha: 1.25, tenure: "customary", crop: "taro", shape: { type: "Point", coordinates: [-159.75, -21.25] } });
  const form = create("submission", uuid(), { farmer: uid, form: "needs", form_version: 1, answers: { first: pick(["tools", "water", "advice"]) } });
  return [own, plot(1), plot(2), form];
}

let cursor; // of this enumerator's device, from one visit to the next

export function enumerator({ farmers, shared }) {
  const device = `k6-${__VU}`;
  const home = pick(farmers);
  // The group is the journey "sync", whose length the verdict holds to two minutes.
  group("sync", () => {
    let more = false;
    const push = (name, changes) => {
      const body = JSON.stringify({ protocol: 1, schema_version: 1, device_id: device, batch_id: uuid(), cursor, changes });
      const r = http.post(`${base}/api/mobile/sync`, body, Object.assign(params(name), { compression: "gzip", timeout: "3m" }));
      if (!check(r, { [name]: (r) => r.status === 200 && !r.body.includes('"outcome":"rejected"') })) return false;
      cursor = r.json("next_cursor");
      more = r.json("has_more");
      return true;
    };
    for (let sent = 0; sent < records; sent += batch) {
      const changes = [];
      for (let i = sent; i < Math.min(sent + batch, records); i++) changes.push(...farmer(home));
      if (!push("push", changes)) return;
    }
    const edit = { op_id: uuid(), entity: "farmer", client_uuid: shared, op: "update", base_version: 1, client_time: new Date().toISOString(), fields: { given_name: `Loadtest ${letters(8)}` } };
    if (!push("edit shared", [edit])) return;
    for (let page = 0; more && page < 5; page++) {
      const r = get(`/api/mobile/sync?cursor=${encodeURIComponent(cursor)}&device_id=${device}`, "pull");
      if (r.status !== 200) return;
      cursor = r.json("next_cursor");
      more = r.json("has_more");
    }
  });
  sleep((480 + Math.random() * 240) / compress);
}

export function lookUp({ farmers }) {
  lookup(pick(farmers));
}
