// Runs `longshore export`. Its exit code counts: it is 0 whatever is wrong with the cache, and not 0
// if longshore is used wrongly, or with LONGSHORE_STRICT.
"use strict";

const { spawnSync } = require("node:child_process");

const services = (process.env.STATE_services || "").split(" ").filter(Boolean);
const done = spawnSync("longshore", ["export", ...services], {
  cwd: process.env.STATE_directory || ".",
  stdio: "inherit",
});
if (done.error) {
  console.log(`::warning::longshore exported nothing: ${done.error.message}`);
} else if (done.signal) {
  console.log(`::warning::longshore exported nothing: it was ended by ${done.signal}`);
} else {
  process.exitCode = done.status;
}
