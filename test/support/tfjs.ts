import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-backend-wasm";
import * as layers from "@tensorflow/tfjs-layers";
import { io } from "@tensorflow/tfjs-core";

export { layers, tf };

/** Runs tests on each backend. After each test, no tensor may be left over. */
export function onBackends(body: (backend: string) => void): void {
  describe.each(["cpu", "wasm"])("on the %s backend", (backend) => {
    let before = 0;

    beforeAll(async () => {
      jest.spyOn(console, "warn").mockImplementation(); // the advice to install another backend
      expect(await tf.setBackend(backend)).toBe(true);
    });

    beforeEach(() => {
      before = tf.memory().numTensors;
    });

    afterEach(() => {
      tf.disposeVariables();
      expect(tf.memory().numTensors).toBe(before);
    });

    body(backend);
  });
}

/** Numbers that are the same in every run. */
export function waves(length: number, phase: number): Float32Array {
  return Float32Array.from({ length }, (_, k) => Math.sin(k + phase));
}

/** A variable of these values. Variables are disposed of after each test. */
export function variableOf<R extends tf.Rank>(values: Float32Array, shape: tf.ShapeMap[R], trainable = true) {
  return tf.tidy(() => tf.variable(tf.tensor<R>(values, shape), trainable));
}

/** A trainable variable of numbers that are the same in every run. */
export function variable<R extends tf.Rank>(shape: tf.ShapeMap[R], phase = 0): tf.Variable<R> {
  return variableOf<R>(waves(tf.util.sizeFromShape(shape), phase), shape);
}

/** Saves a model with its optimizer in memory, and loads it. */
export async function saveAndLoad(model: layers.LayersModel): Promise<layers.LayersModel> {
  let saved: io.ModelArtifacts | undefined;
  await model.save(
    io.withSaveHandler((artifacts) => {
      saved = artifacts;
      return Promise.resolve({ modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" } });
    }),
    { includeOptimizer: true },
  );
  // As a file would have it.
  const text = JSON.stringify({ ...saved!, weightData: undefined });
  return layers.loadLayersModel(
    io.fromMemory({ ...(JSON.parse(text) as io.ModelArtifacts), weightData: saved!.weightData! }),
  );
}
