"""Holds a PyTorch model for a Node process, which trains it. process.ts starts it and speaks with it.

A message has a head of 12 bytes (the length of its JSON, uint32, and of its arrays, uint64, little-endian), the JSON,
and the arrays. wire.ts says how values are written. Each request is answered by one message: {"value": …} or
{"error": …}.

  open       file, args, memory   value: terms, and the parameters' names, shapes and dtypes; memory: a key of MEMORIES
  map        size, parameters,    the offsets of the parameters, and of each term's gradients; the file has been sized
             gradients            value: the handle of a CUDA device's memory
  gradients  batch, terms,        value: losses by term, and per term the indices of the parameters that it did not
             parameters, add      reach; null if the term is absent. add: to the gradients of earlier calls
  call       name, args           value: the result
  close                           no answer: the process ends

Through a pipe, Node sends the number of a request (uint64, little-endian) that it wants to interrupt.
"""

import ctypes
import importlib.util
import json
import math
import mmap
import os
import signal
import struct
import sys
import threading
import traceback
import types

CHANNEL, MEMORY, CONTROL = 3, 4, 5  # file descriptors
PR_SET_PDEATHSIG = 1
HEAD = struct.Struct("<IQ")
ALIGNMENT = 64  # bytes
IPC_BLOCK = 2**21  # bytes. A smaller allocation is part of a block, all of which CUDA shares with the other process
MAX_SAFE_INTEGER = 2**53 - 1
RESULT_DTYPES = ("float32", "float64", "int8", "uint8", "int16", "int32", "int64")  # those that wire.ts knows


class Refusal(Exception):
    """One sentence for the user, which needs no traceback."""


def end():
    """Ends this process at once, and those that the model has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)  # where `python` is a script, which leads the group


class Interruptible:
    """While the user's code runs, SIGINT raises KeyboardInterrupt if Node wants to interrupt this very request."""

    def __init__(self):
        self.running = False
        self.request = 0  # counts from 1, as in Node
        self.wanted = 0  # the request to interrupt
        signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, *_):
        if self.running and self.request == self.wanted:
            self.running = False
            raise KeyboardInterrupt

    def __enter__(self):
        self.running = True
        if self.request == self.wanted:  # it was interrupted before its code ran
            signal.raise_signal(signal.SIGINT)

    def __exit__(self, *_):
        self.running = False


def obey(interruptible):
    """Ends this process when Node ends, however that ends, and interrupts requests."""
    # For a thread of Node that ends, too: the one that started this process.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.set_inheritable(CONTROL, False)

    def watch():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the main thread
        with open(CONTROL, "rb", buffering=0) as control:
            while number := control.read(8):
                interruptible.wanted = int.from_bytes(number, "little")
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        end()

    # Also where `python` is a script that starts another process, or Node ended before prctl.
    threading.Thread(target=watch, daemon=True).start()


class Channel:
    def __init__(self):
        os.set_blocking(CHANNEL, True)
        os.set_inheritable(CHANNEL, False)
        self.file = open(CHANNEL, "r+b", buffering=0)

    def read(self, length):
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            count = self.file.readinto(view[done:])
            if not count:
                end()  # Node has ended
            done += count
        return data

    def receive(self):
        """The message, not yet decoded, and its arrays."""
        text, arrays = HEAD.unpack(self.read(HEAD.size))
        return json.loads(self.read(text)), self.read(arrays)

    def send(self, message):
        arrays = []
        text = json.dumps(encode(message, arrays), allow_nan=False).encode()
        size = sum(padded(len(array)) for array in arrays)
        self.write(HEAD.pack(len(text), size) + text)
        for array in arrays:
            self.write(array)
            self.write(bytes(padded(len(array)) - len(array)))

    def write(self, data):
        view = memoryview(data)
        while len(view) > 0:
            view = view[self.file.write(view) :]


def padded(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


def decode(value, arrays):
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" not in value:
        return {key: decode(item, arrays) for key, item in value.items()}
    kind, *parts = value["$"]
    if kind == "object":
        return {key: decode(item, arrays) for key, item in parts[0]}
    if kind == "number":
        return float(parts[0])
    if kind == "bigint":
        return int(parts[0])
    dtype, offset, length, shape = parts
    if length == 0:
        return torch.empty(shape or [0], dtype=getattr(torch, dtype))
    # One frombuffer for each: autograd counts the changes of all views of one tensor together.
    flat = torch.frombuffer(arrays, dtype=getattr(torch, dtype), count=length, offset=offset)
    return flat if shape is None else flat.view(shape)


def encode(value, arrays):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= MAX_SAFE_INTEGER else {"$": ["bigint", str(value)]}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$": ["number", number_name(value)]}
    if isinstance(value, (list, tuple)):
        return [encode(item, arrays) for item in value]
    if isinstance(value, dict):
        entries = [[str(key), encode(item, arrays)] for key, item in value.items()]
        return {"$": ["object", entries]} if "$" in value else dict(entries)
    if isinstance(value, torch.Tensor):
        return encode_tensor(value.detach(), arrays)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return encode(value.item(), arrays)  # a scalar of NumPy
    raise Refusal(
        "A result must consist of numbers, strings, booleans, None, tensors, lists and dicts; "
        f"got one of type {type(value).__name__}."
    )


def number_name(value):
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def dtype_name(tensor):
    return str(tensor.dtype).split(".")[-1]


def encode_tensor(tensor, arrays):
    if tensor.dim() == 0:
        return encode(tensor.item(), arrays)
    dtype = dtype_name(tensor)
    if dtype == "bool":
        tensor, dtype = tensor.to(torch.uint8), "uint8"
    elif dtype in ("float16", "bfloat16"):
        tensor, dtype = tensor.to(torch.float32), "float32"
    elif dtype.startswith("complex"):
        raise Refusal("A result must have no complex numbers.")
    if dtype not in RESULT_DTYPES:
        raise Refusal(f"A result must have tensors of bool, float16, bfloat16, {', '.join(RESULT_DTYPES)}; got {dtype}.")
    tensor = tensor.cpu().to_dense() if tensor.layout != torch.strided else tensor.cpu()
    offset = sum(padded(len(array)) for array in arrays)
    # Through a buffer rather than NumPy, which need not be installed.
    data = bytearray(tensor.numel() * tensor.element_size())
    if data:
        torch.frombuffer(data, dtype=tensor.dtype).view(tensor.shape).copy_(tensor)
    arrays.append(data)
    return {"$": ["tensor", dtype, offset, tensor.numel(), list(tensor.shape)]}


def described(error, file):
    """An exception of the user's code: its last place in the model's file, and the traceback below this file's frames."""
    frames = traceback.extract_tb(error.__traceback__)
    while frames and frames[0].filename == __file__:
        frames.pop(0)
    if isinstance(error, SyntaxError) and error.filename == file:
        line = error.lineno
    else:
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
    text = "".join(["Traceback (most recent call last):\n"] if frames else []) + "".join(
        traceback.format_list(frames) + traceback.format_exception_only(type(error), error)
    )
    message = str(error)
    return {"type": type(error).__name__, "message": message, "line": line, "traceback": text.rstrip()}


def check_apart(trained, others):
    """Tensors that overlap a trained parameter would no longer move with it, since it is moved."""
    ranges = []
    for tensors, is_trained in (trained, True), (others, False):
        for name, tensor in tensors:
            if tensor.numel() > 0 and tensor.layout == torch.strided:
                last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride()))
                begin = tensor.data_ptr()
                ranges.append((begin, begin + (last + 1) * tensor.element_size(), name, is_trained))
    reach = {True: (0, None), False: (0, None)}  # the largest end so far, and whose it is
    for begin, end, name, is_trained in sorted(ranges):
        for earlier_is_trained in (True, False) if is_trained else (True,):
            reached, earlier = reach[earlier_is_trained]
            if begin < reached:
                raise Refusal(
                    f"The parameters `{earlier}` and `{name}` must not share memory. "
                    "To tie them, use one torch.nn.Parameter in both places."
                    if is_trained and earlier_is_trained
                    else f"`{earlier}` and `{name}` must not share memory: one of them is not trained, "
                    "and would not change with the other."
                )
        reach[is_trained] = max(reach[is_trained], (end, name))


def keep_graphs():
    """Has torch.compile keep what the backward passes of several terms need."""
    try:
        import torch._functorch.config as config
    except ImportError:
        return  # PyTorch 1
    config.donated_buffer = False


class HostMemory:
    """The file that Node has made."""

    device_type = "cpu"
    handle = None

    def __init__(self, size, device):
        self.map = mmap.mmap(MEMORY, size)

    def flat(self, count, offset, dtype):
        return torch.frombuffer(self.map, dtype=dtype, count=count, offset=offset)

    def wait(self):
        pass


class CudaMemory:
    """An allocation of CUDA's runtime, whose handle Node opens. It lives as long as this process."""

    device_type = "cuda"

    def __init__(self, size, device):
        size = -(-size // IPC_BLOCK) * IPC_BLOCK
        self.device = device
        with torch.cuda.device(device):
            torch.cuda.synchronize()  # makes the device current, which PyTorch may put off
            runtime = self.runtime()
            address = ctypes.c_void_p()
            self.check(runtime, runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)))
            handle = bytearray(64)  # cudaIpcMemHandle_t
            place = (ctypes.c_char * len(handle)).from_buffer(handle)
            self.check(runtime, runtime.cudaIpcGetMemHandle(place, address))
        self.address = address.value
        self.handle = torch.frombuffer(handle, dtype=torch.uint8)

    def runtime(self):
        """The library that PyTorch has loaded."""
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "libcudart" in line}
        if not paths:
            raise Refusal("PyTorch must have CUDA's runtime as a shared library; got one without libcudart.")
        return ctypes.CDLL(paths.pop())

    def check(self, runtime, status):
        if status != 0:
            runtime.cudaGetErrorString.restype = ctypes.c_char_p
            raise Refusal(f"CUDA's memory cannot be shared: {runtime.cudaGetErrorString(status).decode()}.")

    def flat(self, count, offset, dtype):
        typestr = "<f4" if dtype == torch.float32 else "<i2"  # the interface has no bfloat16
        view = {"shape": (count,), "typestr": typestr, "data": (self.address + offset, False), "version": 3}
        return torch.as_tensor(types.SimpleNamespace(__cuda_array_interface__=view), device=self.device).view(dtype)

    def wait(self):
        torch.cuda.synchronize(self.device)


MEMORIES = {"cpu": HostMemory, "cuda": CudaMemory}


class Host:
    def __init__(self, interruptible):
        self.channel = Channel()
        self.interruptible = interruptible
        self.file = None
        self.model = None
        self.terms = []
        self.names = []
        self.parameters = []  # torch.nn.Parameter
        self.places = []  # the parameters' addresses in the memory
        self.kind = None  # one of MEMORIES
        self.memory = None
        self.shared = []  # the gradients, a list per term
        self.come = set()  # terms that the gradients have
        self.reached = []  # per term, the parameters that its gradients have
        self.commands = {"open": self.open, "map": self.map, "gradients": self.gradients, "call": self.call}

    def serve(self):
        while True:
            request, arrays = self.channel.receive()
            self.interruptible.request += 1
            command = request.pop("command")
            if command == "close":
                return
            try:
                if torch_error is not None:
                    raise Refusal(f"`python` must have PyTorch 1.10 or newer; got {sys.executable}: {torch_error}.")
                self.channel.send({"value": self.commands[command](**decode(request, arrays))})
            except Refusal as refusal:
                self.channel.send({"error": {"refusal": str(refusal)}})
            except KeyboardInterrupt:
                self.channel.send({"error": {"interrupted": True}})
            except SystemExit:
                raise
            except BaseException as error:
                self.channel.send({"error": described(error, self.file)})

    def open(self, file, args, memory):
        self.file = file
        sys.path[0] = os.path.dirname(file)  # as Python does for the file that it runs
        sys.argv = [file]
        name = os.path.splitext(os.path.basename(file))[0]
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None:
            raise Refusal(f"`file` must be a Python file, whose name ends in .py; got {os.path.basename(file)}.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # for pickle, in the workers of a DataLoader
        spec.loader.exec_module(module)
        if not callable(getattr(module, "Model", None)):
            raise Refusal(f"{os.path.basename(file)} must define a class `Model`.")
        self.kind = MEMORIES[memory]
        self.model = module.Model(**args) if isinstance(args, dict) else module.Model(*args)
        self.check_model()
        return {
            "terms": self.terms,
            "parameters": [
                {"name": name, "shape": list(parameter.shape), "dtype": dtype_name(parameter)}
                for name, parameter in zip(self.names, self.parameters)
            ],
        }

    def check_model(self):
        if not isinstance(self.model, torch.nn.Module):
            raise Refusal(f"`Model` must be a torch.nn.Module; got a {type(self.model).__name__}.")
        if not callable(getattr(self.model, "losses", None)):
            raise Refusal("`Model` must have a method `losses(batch)`, which returns a dict of one scalar per term.")
        terms = getattr(self.model, "terms", None)
        is_list = isinstance(terms, (list, tuple)) and all(isinstance(term, str) and term for term in terms)
        if not is_list or len(terms) == 0 or len(set(terms)) != len(terms):
            raise Refusal("`Model.terms` must be a list of the names of the loss terms, each once.")
        self.terms = list(terms)
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if not trained:
            raise Refusal("`Model` must have a parameter that requires a gradient.")
        device = trained[0][1].device
        where = "the CPU" if self.kind.device_type == "cpu" else "one CUDA device"
        for name, parameter in trained:
            right = parameter.device == device and device.type == self.kind.device_type
            if dtype_name(parameter) not in ("float32", "float16", "bfloat16") or not right:
                raise Refusal(
                    f"The parameter `{name}` must be float32, float16 or bfloat16 on {where}; "
                    f"got {dtype_name(parameter)} on {parameter.device}."
                )
        others = [(name, p) for name, p in self.model.named_parameters() if not p.requires_grad]
        check_apart(trained, others + list(self.model.named_buffers()))
        self.names = [name for name, _ in trained]
        self.parameters = [parameter for _, parameter in trained]

    def map(self, size, parameters, gradients):
        self.memory = self.kind(size, self.parameters[0].device)
        os.close(MEMORY)
        for parameter, offset in zip(self.parameters, parameters):
            shared = self.tensor(parameter, offset)
            with torch.no_grad():
                shared.copy_(parameter)
            parameter.data = shared
        self.places = [parameter.data_ptr() for parameter in self.parameters]
        self.shared = [
            [self.tensor(parameter, offset) for parameter, offset in zip(self.parameters, offsets)]
            for offsets in gradients
        ]
        self.reached = [set() for _ in self.terms]
        self.memory.wait()
        return self.memory.handle

    def tensor(self, parameter, offset):
        """Like the parameter, in the shared memory."""
        if parameter.numel() == 0:
            return torch.empty_like(parameter)
        return self.memory.flat(parameter.numel(), offset, parameter.dtype).view(parameter.shape)

    def gradients(self, batch, terms, parameters, add):
        self.check_places()
        if not add:
            self.come.difference_update(terms)
            for term in terms:
                self.reached[term].difference_update(parameters)
        with self.interruptible:
            losses = self.losses(batch, terms)
            present = [term for term in terms if losses[term] is not None]
            trained = [parameter for parameter in self.parameters if parameter.requires_grad]  # not frozen just now
            wanted = [self.parameters[k] for k in parameters if self.parameters[k].requires_grad]
            for term in present:
                self.forget_gradients()
                if wanted:
                    # torch.autograd.grad does not enter a reentrant checkpoint and, in PyTorch 1, runs no hooks.
                    losses[term].backward(
                        retain_graph=term != present[-1],  # one forward pass serves all terms
                        inputs=None if len(wanted) == len(trained) else wanted,
                    )
                self.come.add(term)
                for k in parameters:
                    gradient = self.parameters[k].grad
                    if gradient is None:
                        continue
                    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
                    shared = self.shared[term][k]
                    if k in self.reached[term]:
                        shared.add_(dense)
                    else:
                        shared.copy_(dense)
                        self.reached[term].add(k)
            self.forget_gradients()
            values = {self.terms[k]: None if loss is None else loss.item() for k, loss in losses.items()}
            self.memory.wait()
        absent = [
            [k for k in parameters if k not in self.reached[term]] if term in self.come else None for term in terms
        ]
        return {"losses": values, "absent": absent}

    def forget_gradients(self):
        for parameter in self.parameters:
            parameter.grad = None

    def losses(self, batch, terms):
        """The losses by the term's index, checked; None where the term is absent."""
        losses = self.model.losses(batch)
        if not isinstance(losses, dict):
            raise Refusal(f"`losses` must return a dict of one scalar per term; got a {type(losses).__name__}.")
        for name in losses:
            if name not in self.terms:
                raise Refusal(f"`losses` must return the terms of `Model.terms` only; got {name!r}.")
        for term in terms:
            loss = losses.get(self.terms[term])
            if loss is None:
                continue
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
                raise Refusal(f"The loss `{self.terms[term]}` must be a tensor of one element, or None; got {got}.")
            if not loss.requires_grad:
                raise Refusal(f"The loss `{self.terms[term]}` must depend on a parameter, or be None.")
        return {term: losses.get(self.terms[term]) for term in terms}

    def call(self, name, args):
        method = getattr(self.model, name, None)
        if name.startswith("_") or not callable(method):
            raise Refusal(f"`Model` has no method `{name}`.")
        with self.interruptible:
            result = method(**args) if isinstance(args, dict) else method(*args)
            self.memory.wait()
            return None if result is self.model else result  # as train() and eval() return it

    def check_places(self):
        others = {id(parameter): (name, parameter) for name, parameter in self.model.named_parameters()}
        for name, parameter, place in zip(self.names, self.parameters, self.places):
            if others.pop(id(parameter), None) is None or parameter.data_ptr() != place:
                raise Refusal(
                    f"The parameter `{name}` must keep its memory; it was moved, replaced or removed after the model "
                    "was opened."
                )
        for name, parameter in others.values():
            if parameter.requires_grad:
                raise Refusal(
                    f"The parameter `{name}` must require a gradient when the model is opened; it was added or "
                    "unfrozen later. Freeze it only once the model is open."
                )


if __name__ == "__main__":  # not in the processes that multiprocessing starts anew
    interruptible = Interruptible()
    obey(interruptible)
    try:
        import torch  # after the line above, since it takes seconds

        torch_error = None if hasattr(torch, "frombuffer") else f"it has {torch.__version__}"
        keep_graphs()
    except ImportError as error:
        torch_error = str(error)
    Host(interruptible).serve()
