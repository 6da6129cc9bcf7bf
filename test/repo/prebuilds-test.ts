import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

// The checks that decide whether an addon may be shipped: each gets input to refuse and input to accept.

interface Symbol {
  name: string;
  undefined: boolean;
  library?: string;
  version?: string;
}

interface Platform {
  name: string;
  os: string;
  arch: string;
  libc?: string;
  cuda: boolean;
}

interface Modules {
  elf: {
    aboveFloors: (symbols: Symbol[], floors: Record<string, string>) => string[];
    parseDynamic: (text: string) => { needed: string[]; searched: string[]; nodelete: boolean };
    parseSymbols: (text: string) => Symbol[];
    readElf: (file: string) => { symbols: Symbol[]; nodelete: boolean; sections: string[] };
  };
  "fat-binary": { architecturesIn: (bytes: Buffer) => string[] };
  checks: {
    FLOORS: Record<string, string>;
    architectures: (bytes: Buffer, told: string[] | undefined, expected: string[]) => string[];
    check: (file: string, platform: Platform, options?: object) => string[];
    debugInformation: (elf: { sections: string[] }) => string[];
    exported: (elf: { symbols: Symbol[] }) => string[];
    loading: (elf: { needed: string[]; searched: string[] }) => string[];
    paths: (bytes: Buffer, places?: string[]) => string[];
    size: (bytes: { length: number }) => string[];
  };
  contents: {
    checkContents: (names: string[], prebuilds: string[]) => string[];
    checkManifest: (manifest: object) => string[];
  };
  platforms: {
    PLATFORMS: Platform[];
    fileOf: (platform: Platform) => string;
    here: () => Platform | undefined;
    table: (facts: Record<string, { built?: string; tested?: string }>) => string;
  };
}

function load<Name extends keyof Modules>(name: Name): Modules[Name] {
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- JavaScript without declarations
  return require(`../../scripts/release/${name}`) as Modules[Name];
}

const root = path.join(__dirname, "../..");

// As binutils 2.40 prints them.
const SYMBOLS = `
Symbol table '.dynsym' contains 9 entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND 
     1: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND pthread_create@GLIBC_2.34 (2)
     2: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND memcpy@GLIBC_2.14 (3)
     3: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND _ZSt20__throw_length_errorPKc@GLIBCXX_3.4 (4)
     4: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.30 (6)
     5: 0000000000000000     0 NOTYPE  WEAK   DEFAULT  UND __gmon_start__
     6: 0000000000000000     0 FUNC    GLOBAL DEFAULT  UND napi_create_double
     7: 00000000000408f0   123 FUNC    GLOBAL DEFAULT   12 napi_register_module_v1
     8: 000000000018da10     8 OBJECT  UNIQUE DEFAULT   15 _ZZNSt19_Sp_make_shared_tag5_S_tiEvE5__tag@@BASE_1.0
     9: 00000000000408e0     6 FUNC    GLOBAL DEFAULT [VARIANT_PCS]   12 node_api_module_get_api_version_v1
`;

describe("symbol versions", () => {
  const { aboveFloors, parseSymbols } = load("elf");

  test("are read with their library", () => {
    const symbols = parseSymbols(SYMBOLS);
    expect(symbols).toHaveLength(9);
    expect(symbols[0]).toEqual({
      name: "pthread_create",
      undefined: true,
      library: "GLIBC",
      version: "2.34",
    });
    expect(symbols[3]).toMatchObject({ library: "GLIBCXX", version: "3.4.30" });
    expect(symbols[4]).toMatchObject({ name: "__gmon_start__", undefined: true });
    expect(symbols.filter((symbol) => !symbol.undefined).map(({ name }) => name)).toEqual([
      "napi_register_module_v1",
      "_ZZNSt19_Sp_make_shared_tag5_S_tiEvE5__tag",
      "node_api_module_get_api_version_v1",
    ]);
  });

  test("above the floor are refused by name, and only those", () => {
    const symbols = parseSymbols(SYMBOLS);
    expect(aboveFloors(symbols, { GLIBC: "2.34", GLIBCXX: "3.4.30" })).toEqual([]);
    expect(aboveFloors(symbols, { GLIBC: "2.28", GLIBCXX: "3.4.25" })).toEqual([
      "pthread_create needs GLIBC_2.34, newer than 2.28",
      expect.stringContaining("condition_variable4wait"),
    ]);
  });
});

describe("what an addon asks for and shows", () => {
  const { debugInformation, exported, loading, paths, size } = load("checks");
  const { parseDynamic, parseSymbols } = load("elf");

  test("libraries that a system may lack are refused, and folders to look in", () => {
    const dynamic = parseDynamic(`
 0x0000000000000001 (NEEDED)             Shared library: [libstdc++.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [libgomp.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]
 0x000000000000001d (RUNPATH)            Library runpath: [/opt/cuda/lib64]
 0x000000006ffffffb (FLAGS_1)            Flags: NOW NODELETE
`);
    expect(dynamic.nodelete).toBe(true);
    expect(loading(dynamic)).toEqual([
      "it must need no library that a system may lack; it needs libgomp.so.1",
      "it must look for libraries where the system does; it looks in /opt/cuda/lib64",
    ]);
    expect(parseDynamic(" 0x000000006ffffffb (FLAGS_1)  Flags: NOW\n").nodelete).toBe(false);
  });

  test("what Node does not look up is refused, and so is what it would miss", () => {
    expect(exported({ symbols: parseSymbols(SYMBOLS) })).toEqual([
      expect.stringContaining("it exports _ZZNSt19_Sp_make_shared_tag"),
    ]);
    const registers = { name: "napi_register_module_v1", undefined: false };
    expect(exported({ symbols: [registers] })).toEqual(["it must export node_api_module_get_api_version_v1"]);
  });

  test("debug information is refused", () => {
    expect(debugInformation({ sections: [".text", ".gnu.hash", ".dynsym"] })).toEqual([]);
    expect(debugInformation({ sections: [".text", ".debug_info", ".symtab"] })).toEqual([
      "it must be without debug information; it has .debug_info, .symtab",
    ]);
  });

  test("a path of the machine that built it is refused", () => {
    const clean = Buffer.from("\x7fELF\0./native/addon/buffer.cpp\0/proc/self/status\0$/tmp\0", "latin1");
    expect(paths(clean)).toEqual([]);
    for (const planted of [path.join(root, "native", "addon"), `${os.tmpdir()}/build.cc`, "tmpxft_0001.c"]) {
      expect(paths(Buffer.concat([clean, Buffer.from(planted)]))).not.toEqual([]);
    }
    expect(paths(clean, ["/proc"])).toEqual([
      'it must hold no path of the machine that built it; it holds "/proc"',
    ]);
  });

  test("24 MiB are refused", () => {
    expect(size({ length: 24 * 1024 * 1024 - 1 })).toEqual([]);
    expect(size({ length: 24 * 1024 * 1024 })).toHaveLength(1);
  });
});

/** A fat binary, each of whose entries has 8 bytes of content. */
function fatBinary(...entries: [kind: number, architecture: number][]): Buffer {
  const bytes = Buffer.alloc(16 + entries.length * 72);
  bytes.writeUInt32LE(0xba55ed50, 0);
  bytes.writeUInt16LE(1, 4);
  bytes.writeUInt16LE(16, 6);
  bytes.writeBigUInt64LE(BigInt(entries.length * 72), 8);
  entries.forEach(([kind, architecture], k) => {
    const at = 16 + k * 72;
    bytes.writeUInt16LE(kind, at);
    bytes.writeUInt32LE(64, at + 4);
    bytes.writeBigUInt64LE(8n, at + 8);
    bytes.writeUInt32LE(architecture, at + 28);
  });
  return bytes;
}

describe("architectures", () => {
  const { architecturesIn } = load("fat-binary");
  const { architectures } = load("checks");

  test("are read from every fat binary in a file", () => {
    const padding = Buffer.from("\x50\xed not one \x50\xed\x55", "latin1");
    const first = fatBinary([2, 75], [2, 120], [1, 120]);
    const second = fatBinary([2, 90], [2, 75]);
    expect(architecturesIn(Buffer.concat([padding, first, padding, second]))).toEqual([
      "7.5",
      "9.0",
      "12.0",
      "12.0+PTX",
    ]);
    expect(architecturesIn(padding)).toEqual([]);
  });

  test("of a file that ends too early are those that it has", () => {
    expect(architecturesIn(fatBinary([2, 75], [2, 90]).subarray(0, 16 + 72 + 20))).toEqual(["7.5"]);
  });

  test("that are missing are refused, and an addon that tells of others", () => {
    const bytes = fatBinary([2, 75], [2, 90]);
    expect(architectures(bytes, ["7.5", "9.0"], ["7.5", "9.0"])).toEqual([]);
    expect(architectures(bytes, ["7.5", "9.0"], ["7.5", "9.0", "12.0"])).toEqual([
      "it must hold code for 7.5, 9.0, 12.0; it holds code for 7.5, 9.0",
    ]);
    expect(architectures(bytes, ["7.5"], ["7.5", "9.0"])).toEqual([
      "it must tell what it holds, 7.5, 9.0; it tells 7.5",
    ]);
    expect(architectures(bytes, undefined, ["7.5", "9.0"])).toEqual(["it must load here"]);
    expect(architectures(Buffer.alloc(8), [], [])).toEqual([]);
  });
});

describe("the package", () => {
  const { checkContents, checkManifest } = load("contents");
  const dist = ["dist", "dist/distributed", "dist/jax", "dist/tfjs", "dist/torch"].flatMap((folder) =>
    ["js", "mjs", "d.ts", "d.mts"].map((extension) => `${folder}/index.${extension}`),
  );
  const sources = [
    "native/addon/buffer.cpp",
    "scripts/build/native.js",
    "lib/torch/host.py",
    "dist/monitor/page/main.js",
    "docs/start.md",
    "docs/step.svg",
  ];
  const names = ["package.json", "README.md", "LICENSE", "CHANGELOG.md", ...dist, ...sources];

  test("that lacks a file is refused", () => {
    expect(checkContents(names, [])).toEqual([]);
    expect(checkContents(names.slice(1), ["prebuilds/linux-x64/mtadam.glibc.node"])).toEqual([
      "it must have package.json",
      "it must have prebuilds/linux-x64/mtadam.glibc.node",
    ]);
  });

  test("with tests, build files or files of the repository alone is refused", () => {
    for (const name of [
      "binding.gyp",
      "test/golden-test.ts",
      "native/test/loops_test.cpp",
      "build/debug/linux-x64/mtadam.glibc.debug",
      ".github/workflows/test.yml",
      "mtadam-0.1.0.tgz",
      "docs/gpu/2026-11-28-nvidia-h200.md",
      "docs/balancing/mnist.json",
    ]) {
      expect(checkContents([...names, name], [])).toEqual([`it must be without ${name}`]);
    }
  });

  test("that runs something when it is installed is refused", () => {
    const good = { gypfile: false, scripts: { build: "tsc" }, dependencies: { "node-gyp-build": "4.8.4" } };
    expect(checkManifest(good)).toEqual([]);
    expect(checkManifest({ ...good, scripts: { install: "node-gyp-build" } })).toHaveLength(1);
    expect(checkManifest({ ...good, gypfile: true })).toHaveLength(1);
    expect(checkManifest({ ...good, dependencies: { "node-gyp-build": "^4.8.4" } })).toHaveLength(1);
    expect(checkManifest({ ...good, optionalDependencies: {} })).toHaveLength(1);
    const peer = { peerDependencies: { tf: "^4.0.0" } };
    expect(checkManifest({ ...good, ...peer })).toEqual(["the peer tf must be optional"]);
    const optional = { ...peer, peerDependenciesMeta: { tf: { optional: true } } };
    expect(checkManifest({ ...good, ...optional })).toEqual([]);
    const ours = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as object;
    expect(checkManifest(ours)).toEqual([]);
  });
});

describe("platforms", () => {
  const { PLATFORMS, fileOf, table } = load("platforms");

  test("have the places in which node-gyp-build looks", () => {
    expect(PLATFORMS.map(fileOf)).toEqual([
      "linux-x64/mtadam.glibc.node",
      "linux-x64/mtadam.musl.node",
      "linux-arm64/mtadam.glibc.node",
      "darwin-arm64/mtadam.node",
      "darwin-x64/mtadam.node",
      "win32-x64/mtadam.node",
    ]);
  });

  test('that a run did not include are "not run" in the table', () => {
    const lines = table({ "linux-x64 (glibc)": { built: "here" } }).split("\n");
    expect(lines).toHaveLength(1 + PLATFORMS.length);
    expect(lines[1]).toMatch(/^linux-x64 \(glibc\) +CPU, CUDA +here +not run$/);
    expect(lines[6]).toMatch(/^win32-x64 +CPU +not run +not run$/);
    expect(() => table({ "sparc-x64": {} })).toThrow('"sparc-x64" is no platform.');
  });

  test("are all in the documentation", () => {
    const text = readFileSync(path.join(root, "docs", "install.md"), "utf8");
    for (const { name } of PLATFORMS) expect(text).toContain(`| ${name} `);
  });
});

// On a library from the system's compiler: tests that the parts fit together and that readelf prints the expected
// format.
const canCompile = process.platform === "linux" && spawnSync("c++", ["--version"]).status === 0;
(canCompile ? describe : describe.skip)("a shared object", () => {
  const { check } = load("checks");
  const { here } = load("platforms");
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), "mtadam-prebuilds-"));
  });

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  const EXPORTS = `extern "C" void napi_register_module_v1() {} extern "C" void node_api_module_get_api_version_v1() {}`;

  function compile(source: string, ...options: string[]): string {
    const file = path.join(folder, "library.node");
    writeFileSync(path.join(folder, "library.cc"), source);
    const common = ["-shared", "-fPIC", "-O1", "-fvisibility=hidden", "-s", "-Wl,-z,nodelete"];
    execFileSync("c++", [...common, ...options, "-o", file, "library.cc"], { cwd: folder });
    return file;
  }

  const visible = EXPORTS.replaceAll("void n", '__attribute__((visibility("default"))) void n');
  const options = { floors: { GLIBC: "2.17" }, expected: [], loads: false };

  test("in order is accepted", () => {
    expect(check(compile(visible), { ...here()!, cuda: false }, options)).toEqual([]);
  });

  test("that breaks every rule is refused for each", () => {
    // glibc 2.34 moved pthread_create; pow changed in 2.29.
    const source = `#include <cmath>
      ${visible}
      extern const char* const kPlace = __FILE__;
      __attribute__((visibility("default"))) double power(double x, double y) { return std::pow(x, y) + kPlace[0]; }`;
    const file = compile(
      source.replace("__FILE__", JSON.stringify(path.join(root, "a.cc"))),
      "-Wl,-rpath,/opt/lib",
      "-Wl,-z,noseparate-code",
    );
    const failures = check(file, { ...here()!, cuda: true }, { ...options, expected: ["9.0"] });
    const isPlace = (failure: string): boolean => failure.includes("no path of the machine");
    expect(failures.filter(isPlace)).toContainEqual(expect.stringContaining(`"${root}"`));
    expect(failures.filter((failure) => !isPlace(failure))).toEqual([
      expect.stringMatching(/^pow needs GLIBC_2\.29/),
      "it must look for libraries where the system does; it looks in /opt/lib",
      expect.stringContaining("it exports _Z5powerdd"),
      "it must hold code for 9.0; it holds code for none",
    ]);
  });

  test("that may be unloaded is refused", () => {
    const cleared = path.join(folder, "cleared.node");
    writeFileSync(path.join(folder, "cleared.cc"), visible);
    execFileSync("c++", ["-shared", "-fPIC", "-s", "-o", cleared, "cleared.cc"], { cwd: folder });
    expect(check(cleared, { ...here()!, cuda: false }, options)).toEqual([
      "it must be linked with -z nodelete",
    ]);
  });
});
