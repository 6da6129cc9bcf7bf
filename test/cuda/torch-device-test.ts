import { MTAdam, openDevice, type DeviceBuffer, type ParameterDtype } from "../../lib";
import { openTorch, type TorchData, type TorchModel } from "../../lib/torch";
import { caught } from "../support/caught";
import { onCuda, testDevice } from "../support/device";
import { executor } from "../support/executor";
import { Models, python, withTorch } from "../support/torch";

// A model whose parameters lie in memory of a CUDA device that two processes share. PyTorch has no executor: a file stands for
// the device's memory there, and its path for the handle, which the executor's runtime maps.

const MODEL = `
import __main__
import mmap
import os

import torch
from torch import nn

torch.set_num_threads(1)


class FileMemory(__main__.HostMemory):
    def __init__(self, size, device):
        file = os.memfd_create("model")
        os.truncate(file, size)
        self.map = mmap.mmap(file, size)
        path = Model.path or f"/proc/{os.getpid()}/fd/{file}"
        self.handle = torch.frombuffer(bytearray(path.encode().ljust(64, b"\\0")), dtype=torch.uint8)


__main__.MEMORIES["cuda"] = FileMemory


class Model(nn.Module):
    terms = ["fit", "size"]
    path = None

    def __init__(self, path=None, dtype="float32"):
        super().__init__()
        Model.path = path
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 40)
        self.outer = nn.Linear(40, 1)
        self.to(getattr(torch, dtype))

    def losses(self, batch):
        y = self.outer(torch.tanh(self.inner(batch.to(self.inner.weight))))
        return {"fit": (y.sum() - 7).square(), "size": 100 * self.inner.weight.abs().sum()}

    def double(self):
        with torch.no_grad():
            return self.outer.weight.mul_(2)

    def die(self):
        os.kill(os.getpid(), 9)
`;

onCuda("a PyTorch model", () => {
  if (testDeviceKind !== "executor") {
    test.todo("must be opened with PyTorch for CUDA");
    return;
  }
  withTorch("in shared memory of a device", () => {
    const machine = executor();
    const models = new Models();
    const device = testDevice();
    const file = models.file(MODEL);
    const open = (args: (string | null)[] = []): Promise<TorchModel<DeviceBuffer<ParameterDtype>>> =>
      openTorch(file, { python, args, device });

    async function train(model: TorchModel<TorchData>): Promise<MTAdam> {
      const optimizer = new MTAdam(model.parameters, { terms: model.terms, lr: 0.01 });
      for (let step = 0; step < 20; ++step) {
        const batch = { data: Float32Array.of(step, 1, -1), shape: [1, 3] };
        optimizer.step(await model.gradients(batch));
      }
      return optimizer;
    }

    afterEach(() => machine.setExecution("eager"));

    test.each(["float32", "bfloat16"])(
      "has the parameters of one on the CPU, also if the device's work is late, until it is closed: %s",
      async (dtype) => {
        const args = [null, dtype];
        const onCpu = await openTorch<Float32Array | Uint16Array>(file, { python, args });
        (await train(onCpu)).dispose();
        machine.setExecution("lazy");
        const before = machine.live().deviceBytes;
        const model = await open(args);
        const shared = machine.live().deviceBytes - before;
        expect(shared).toBeGreaterThan(0);
        (await train(model)).dispose();
        expect(await model.call("double")).toEqual(await onCpu.call("double"));
        for (const [k, { data, ...description }] of model.parameters.entries()) {
          expect(data.device).toBe(device);
          expect({ ...description, data: await data.download() }).toEqual(onCpu.parameters[k]);
        }
        machine.setExecution("eager");
        device.buffer(1).dispose(); // runs the frees that are queued before it
        const opened = machine.live().deviceBytes;
        const closed = model.close();
        expect(model.parameters.map(({ data }) => data.disposed)).toEqual([true, true, true, true]);
        await Promise.all([closed, onCpu.close()]);
        expect(machine.live().deviceBytes).toBe(opened - shared);
        expect(await caught(() => model.gradients(null))).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
      },
    );

    test("takes the memory away when its process ends", async () => {
      const model = await open();
      const optimizer = await train(model);
      const gradients = await model.gradients({ data: new Float32Array(3), shape: [1, 3] });
      expect(await caught(() => model.call("die"))).toMatchObject({ code: "ERR_MTADAM_TORCH" });
      expect(await caught(() => optimizer.step(gradients))).toMatchObject({ code: "ERR_MTADAM_DISPOSED" });
      expect(await caught(() => model.call("double"))).toMatchObject({ code: "ERR_MTADAM_TORCH" });
      optimizer.dispose();
    });

    test("is refused if its handle cannot be opened", async () => {
      const before = machine.live().deviceBytes;
      expect(await caught(() => open(["/nowhere"]))).toMatchObject({
        code: "ERR_MTADAM_CUDA",
        operation: "cudaIpcOpenMemHandle",
      });
      expect(machine.live().deviceBytes).toBe(before);
    });

    test("is refused with another kind of device", async () => {
      for (const wrong of ["cuda", openDevice("cpu", { threads: 1 })]) {
        const error = await caught(() => openTorch(file, { python, device: wrong } as never));
        expect(error).toMatchObject({ code: "ERR_MTADAM_OPTION" });
      }
    });
  });
});
