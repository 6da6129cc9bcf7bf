declare module "node-gyp-build/node-gyp-build.js" {
  namespace load {
    /**
     * The file of the addon below `directory`: build/Release first, which the environment variable PREBUILDS_ONLY leaves
     * out, then prebuilds. Throws where there is none.
     */
    function path(directory: string): string;
  }
  export = load;
}
