{
  # CMake is the build (CMakeLists.txt). This file exists for tools that expect a gyp target, and only runs the script.
  "targets": [
    {
      "target_name": "mtadam",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(module_root_dir)/build/Release/mtadam.node"],
          "action": ["node", "<(module_root_dir)/scripts/build/native.js"]
        }
      ]
    }
  ]
}
