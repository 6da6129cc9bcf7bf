declare module "node-gyp-build" {
  /** Loads the addon below `directory`: build/Release first, then prebuilds. */
  function load(directory: string): unknown;
  export = load;
}
