"use strict";

// jest's workers send a failed test's values to their parent as JSON, which has no BigInt: without this the message of
// the failure is lost. The tests run in a realm of their own, whose BigInt.prototype stays as it is.

const { TestEnvironment } = require("jest-environment-node");

Object.defineProperty(BigInt.prototype, "toJSON", {
  value() {
    return `${this}n`;
  },
  configurable: true,
});

module.exports = TestEnvironment;
