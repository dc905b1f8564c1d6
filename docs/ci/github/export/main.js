// Keeps for post.js what it needs: inputs may be other ones by then.
"use strict";

const { appendFileSync } = require("node:fs");

const words = (input) => (process.env[`INPUT_${input}`] || "").split(/\s+/).filter(Boolean).join(" ");
const directory = (process.env["INPUT_WORKING-DIRECTORY"] || ".").split("\n")[0].trim();
const onFailure = words("ON-FAILURE") === "true";

appendFileSync(process.env.GITHUB_STATE, `services=${words("SERVICES")}\ndirectory=${directory}\n`);
appendFileSync(process.env.GITHUB_ENV, `LONGSHORE_EXPORT_ON_FAILURE=${onFailure}\n`);
