"use strict";

// The checks of an addon that is shipped. Each check returns a sentence per problem.

const { Buffer } = require("node:buffer");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { spawnSync } = require("node:child_process");
const { capability, shippedArchitectures } = require("../build/architectures");
const { root } = require("../build/setup");
const { architecturesIn } = require("./fat-binary");
const { aboveFloors, readElf } = require("./elf");

const LARGEST = 24 * 1024 * 1024;

/**
 * The oldest libraries that the addon must load with. libstdc++: that of GCC 8, which current versions of Node need as
 * well. glibc: that of RHEL 8 in the public workflow. A build on a newer system needs a newer glibc, so the default is
 * only 2.34, the last change in glibc that concerns every program with threads.
 */
const FLOORS = { GLIBC: "2.34", GLIBCXX: "3.4.25", CXXABI: "1.3.11" };

/** Libraries that every system with Node has. */
const USUAL = /^(lib(stdc\+\+|gcc_s|m|c|pthread|dl|rt)\.so\.\d+|ld-linux.*\.so\.\d+|libc\.musl-\w+\.so\.1)$/;

/** The functions that Node looks up in an addon. */
const EXPORTS = ["napi_register_module_v1", "node_api_module_get_api_version_v1"];

const size = (bytes) =>
  bytes.length < LARGEST ? [] : [`it must be smaller than ${LARGEST} bytes; it has ${bytes.length}`];

/**
 * Paths that exist only on the building machine: the checkout, the user's home, and files in the temporary folder (not
 * the folder itself, since the CUDA runtime uses it).
 */
function buildPlaces() {
  const places = [root, os.homedir(), `${os.tmpdir()}${path.sep}`, "/tmp/", "tmpxft_"];
  // A container's home may be the root folder, which is in every path.
  return [...new Set(places)].filter((place) => place.length > 1);
}

function paths(bytes, places = buildPlaces()) {
  return places
    .filter((place) => bytes.includes(Buffer.from(place)))
    .map((place) => `it must hold no path of the machine that built it; it holds "${place}"`);
}

function loading({ needed, searched }) {
  const unusual = needed.filter((name) => !USUAL.test(name));
  return [
    ...unusual.map((name) => `it must need no library that a system may lack; it needs ${name}`),
    ...searched.map((folders) => `it must look for libraries where the system does; it looks in ${folders}`),
  ];
}

function exported({ symbols }) {
  const names = symbols.filter((symbol) => !symbol.undefined).map(({ name }) => name);
  const others = names.filter((name) => !EXPORTS.includes(name));
  const hidden = EXPORTS.filter((name) => !names.includes(name));
  return [
    ...others.map((name) => `it must export nothing but what Node looks up; it exports ${name}`),
    ...hidden.map((name) => `it must export ${name}`),
  ];
}

function debugInformation({ sections }) {
  const left = sections.filter((name) => /^\.(z?debug_|symtab$)/.test(name));
  return left.length === 0 ? [] : [`it must be without debug information; it has ${left.join(", ")}`];
}

function isElf(bytes) {
  return bytes.subarray(0, 4).equals(Buffer.from("\x7fELF", "latin1"));
}

function elf(file, floors) {
  const found = readElf(file);
  return [
    ...aboveFloors(found.symbols, floors),
    ...loading(found),
    ...exported(found),
    ...debugInformation(found),
    // Otherwise the addon's sleeping threads would lose their code when the last Node environment that loaded it ends.
    ...(found.nodelete ? [] : ["it must be linked with -z nodelete"]),
  ];
}

/** The architectures that the addon reports; undefined if it cannot be loaded on this machine. */
function toldArchitectures(file) {
  const program = `console.log(JSON.stringify(require(${JSON.stringify(file)}).describeCuda().architectures ?? []))`;
  const { status, stdout } = spawnSync(process.execPath, ["-e", program], { encoding: "utf8" });
  return status === 0 ? JSON.parse(stdout) : undefined;
}

const listed = (names) => (names.length === 0 ? "none" : names.join(", "));

function architectures(bytes, told, expected) {
  const held = architecturesIn(bytes);
  const failures = [];
  if (held.join() !== expected.join()) {
    failures.push(`it must hold code for ${listed(expected)}; it holds code for ${listed(held)}`);
  }
  if (told === undefined) {
    failures.push("it must load here");
  } else if (told.join() !== held.join()) {
    failures.push(`it must tell what it holds, ${listed(held)}; it tells ${listed(told)}`);
  }
  return failures;
}

/**
 * @param {string} file an addon's absolute path
 * @param {import("./platforms").Platform} platform the addon's platform
 * @param {object} [options]
 * @param {{ [library: string]: string }} [options.floors] in place of `FLOORS`
 * @param {string[]} [options.expected] the architectures, if not all
 * @param {boolean} [options.loads] whether this machine can load it
 * @returns {string[]} a sentence per problem
 */
function check(
  file,
  platform,
  { floors = {}, expected = shippedArchitectures().map(capability), loads = true } = {},
) {
  const bytes = fs.readFileSync(file);
  const wanted = platform.cuda ? expected : [];
  return [
    ...size(bytes),
    ...paths(bytes),
    ...(isElf(bytes) ? elf(file, { ...FLOORS, ...floors }) : []),
    ...architectures(bytes, loads ? toldArchitectures(file) : architecturesIn(bytes), wanted),
  ];
}

module.exports = {
  FLOORS,
  architectures,
  check,
  debugInformation,
  exported,
  loading,
  paths,
  size,
};
