import { MTAdam, type DeviceBuffer } from "../../lib";
import { onCuda, testDevice } from "../support/device";
import { executor } from "../support/executor";

onCuda("the calls of the runtime", () => {
  if (testDeviceKind !== "executor") {
    test.todo("need someone to count them");
    return;
  }
  const device = testDevice();

  test("a prepared step calls the runtime as often for many tensors as for one", () => {
    const calls = [1, 200].map((tensors) => {
      const buffers = (): DeviceBuffer[] => Array.from({ length: tensors }, () => device.buffer(2));
      const optimizer = new MTAdam(buffers(), { terms: 2 });
      const prepared = optimizer.prepare([buffers(), buffers()]);
      optimizer.step(prepared);
      optimizer.synchronizeSync();
      executor().setExecution("lazy");
      executor().resetCounters();
      optimizer.step(prepared);
      optimizer.step(prepared);
      const counters = executor().counters();
      executor().setExecution("eager");
      return counters;
    });
    expect(calls[1]).toEqual(calls[0]);
    expect(calls[0]!.launches).toBe(4);
    expect(calls[0]!.copies).toBe(0);
  });
});
