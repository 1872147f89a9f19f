// The contract as Node sees it: the official CloudEvents SDK reads every sample, and ajv in its strict mode decides about
// every body of rules.json as the page does. Run by schemas/tests/clients.rs, in the folder that has the packages.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";

const [here] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), "package.json"));
const { HTTP } = require("cloudevents");
const Ajv = require("ajv/dist/2020").default;
const formats = require("ajv-formats").default;

const load = (path) => JSON.parse(readFileSync(path, "utf8"));
const all = (folder) =>
  readdirSync(join(here, folder))
    .sort()
    .map((file) => [basename(file, ".json"), load(join(here, folder, file))]);

// The sample's body with the case's changes, which name their places by JSON pointers.
function changed(body, { set = {}, remove = [] }) {
  body = structuredClone(body);
  const at = (pointer) => {
    const way = pointer.slice(1).split("/");
    const last = way.pop();
    return [way.reduce((place, step) => place[step], body), last];
  };
  for (const [pointer, value] of Object.entries(set)) {
    const [place, last] = at(pointer);
    place[last] = value;
  }
  for (const pointer of remove) {
    const [place, last] = at(pointer);
    delete place[last];
  }
  return body;
}

// Of the NATS binding only the place of the content type differs from HTTP's binary mode.
function decode({ headers, body }) {
  const { "ce-datacontenttype": type, ...others } = headers;
  const event = HTTP.toEvent({
    headers: { ...others, "content-type": type },
    body: JSON.stringify(body),
  });
  assert.equal(event.validate(), true);
  assert.equal(event.id, headers["ce-id"]);
  assert.equal(event.source, headers["ce-source"]);
  assert.equal(event.type, headers["ce-type"]);
  assert.equal(event.dataschema, headers["ce-dataschema"]);
  assert.equal(Date.parse(event.time), Date.parse(headers["ce-time"]));
  assert.deepEqual(event.data, body);
}

const ajv = new Ajv({ strict: true, allErrors: true });
formats(ajv);
const validators = Object.fromEntries(
  all("json").map(([name, schema]) => [name, ajv.compile(schema)]),
);
const samples = Object.fromEntries(all("samples"));
for (const [name, sample] of Object.entries(samples)) {
  decode(sample);
  for (const validate of [validators[name], ajv.getSchema(sample.headers["ce-dataschema"])]) {
    assert.ok(validate(sample.body), `${name}: ${ajv.errorsText(validate.errors)}`);
  }
}
const cases = load(join(here, "rules.json"));
for (const one of cases) {
  const fits = validators[one.schema](changed(samples[one.schema].body, one));
  assert.equal(fits, one.fits, JSON.stringify(one));
}
const count = (object) => Object.keys(object).length;
console.log(`${count(validators)} schemas, ${count(samples)} samples, ${cases.length} bodies`);
