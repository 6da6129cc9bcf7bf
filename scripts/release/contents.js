"use strict";

// The contents of the published package: required and forbidden files.

const path = require("node:path");
const { root } = require("../build/setup");
const { npm } = require("../build/npm");

/** Bytes of the packed file, with kernels for every architecture. */
const LARGEST = 12 * 1024 * 1024;

const NEEDED = [
  ...[
    "package.json",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "lib/torch/host.py",
    "dist/monitor/page/main.js",
    "docs/start.md",
    "docs/step.svg",
  ],
  ...["dist", "dist/distributed", "dist/jax", "dist/tfjs", "dist/torch"].flatMap((folder) =>
    ["js", "mjs", "d.ts", "d.mts"].map((extension) => `${folder}/index.${extension}`),
  ),
];

/** Tests, files that only the repository needs, and files that would make npm build or download on installation. */
const UNWANTED =
  /^build\/|(^|\/)(tests?|bench|node_modules|\.[^/]*)\/|(^|\/)binding\.gyp$|[-.]test[-.]|\.(debug|tgz)$|^docs\/(gpu\/|.*\.json$)/;

const AT_INSTALL = [
  "preinstall",
  "install",
  "postinstall",
  "prepare",
  "preprepare",
  "postprepare",
  "prepublish",
];

/**
 * @param {string} folder for the packed file
 * @returns {{ file: string, size: number, names: string[] }}
 */
function pack(folder) {
  const [{ filename, size, files }] = JSON.parse(
    npm(["pack", "--json", "--ignore-scripts", "--pack-destination", folder], { cwd: root }),
  );
  return { file: path.join(folder, filename), size, names: files.map(({ path: name }) => name) };
}

/**
 * @param {string[]} names the packed files
 * @param {string[]} prebuilds names that must be among them, besides what every package needs
 * @returns {string[]} a sentence per problem
 */
function checkContents(names, prebuilds) {
  const missing = [...NEEDED, ...prebuilds].filter((name) => !names.includes(name));
  const unwanted = names.filter((name) => UNWANTED.test(name));
  return [
    ...missing.map((name) => `it must have ${name}`),
    ...unwanted.map((name) => `it must be without ${name}`),
  ];
}

/** @returns {string[]} a sentence per problem of a package.json */
function checkManifest(manifest) {
  const {
    scripts = {},
    gypfile,
    dependencies = {},
    peerDependencies = {},
    peerDependenciesMeta = {},
  } = manifest;
  const failures = AT_INSTALL.filter((name) => name in scripts).map(
    (name) => `it must run nothing when it is installed; it has the script "${name}"`,
  );
  if (gypfile !== false) failures.push("`gypfile` must be false, else npm looks for something to build");
  for (const [name, version] of Object.entries(dependencies)) {
    if (!/^\d+\.\d+\.\d+$/.test(version)) failures.push(`${name} must have one version; got "${version}"`);
  }
  for (const name of Object.keys(peerDependencies)) {
    if (peerDependenciesMeta[name]?.optional !== true) failures.push(`the peer ${name} must be optional`);
  }
  for (const kind of ["optionalDependencies", "bundleDependencies"]) {
    if (kind in manifest) failures.push(`it must be without ${kind}`);
  }
  return failures;
}

module.exports = { LARGEST, checkContents, checkManifest, pack };
