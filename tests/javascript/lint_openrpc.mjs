// Reads an OpenRPC document with other people's tools; prints a line for each fault, and exits 1 when there is one.
import { readFileSync } from "node:fs";
import { MethodCallValidator, parseOpenRPCDocument } from "@open-rpc/schema-utils-js";
import ajv from "ajv/dist/2020.js";

const text = readFileSync(process.argv[2], "utf8");
const faults = new Set();
const say = (fault) => faults.add(String(fault));

const document = JSON.parse(text);
for (const method of document.methods) {
  for (const part of [...method.params, method.result]) {
    const strict = new ajv.Ajv2020({ strict: true, allErrors: true, logger: { log: say, warn: say, error: say } });
    strict.addVocabulary(["components"]); // where the references lead
    try {
      strict.compile({ ...part.schema, components: document.components });
    } catch (fault) {
      say(`${method.name} ${part.name}: ${fault.message}`);
    }
  }
}

try {
  // It checks against the meta-schema, and resolves every reference.
  const parsed = await parseOpenRPCDocument(text);
  const validator = new MethodCallValidator(parsed);
  for (const method of parsed.methods) {
    for (const example of method.examples ?? []) {
      const params = Object.fromEntries(example.params.map(({ name, value }) => [name, value]));
      const refused = validator.validate(method.name, params);
      for (const fault of Array.isArray(refused) ? refused : refused ? [refused] : []) {
        say(`${method.name} ${example.name}: ${fault.message}`);
      }
    }
  }
} catch (fault) {
  say(fault.message);
}

for (const fault of faults) console.log(fault);
process.exitCode = faults.size ? 1 : 0;
