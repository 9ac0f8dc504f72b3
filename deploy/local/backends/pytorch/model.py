"""The `pytorch` backend of the local Triton: serves TorchScript through Triton's Python backend.

It takes the same model.pt and config.pbtxt as Triton's own libtorch backend: inputs are passed in
the order INPUT__0, INPUT__1, ..., outputs are returned as OUTPUT__0, OUTPUT__1, ...

The parameter INTRA_OP_THREAD_COUNT sets the threads of one operation (default: all cores).
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Triton's embedded Python has PYTHONPATH in its environment and ignores it.
sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)

import torch  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

# The profiling executor compiles on the second call, which then takes several times as long.
torch._C._jit_set_profiling_executor(False)
torch._C._jit_set_profiling_mode(False)

Tensors = list[torch.Tensor]


class TritonPythonModel:
    """One instance of a TorchScript model; the names are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads `<model directory>/<version>/model.pt` onto the instance's device."""
        config = json.loads(args["model_config"])
        torch.set_num_threads(_threads(config))
        # TorchScript in int8 goes through constructors that later releases of PyTorch take away.
        warnings.filterwarnings("ignore", message="torch.quantize_per")
        directory = Path(args["model_repository"]) / args["model_version"]
        file_name = config.get("default_model_filename") or "model.pt"
        self._device = torch.device(
            f"cuda:{args['model_instance_device_id']}"
            if args["model_instance_kind"] == "GPU"
            else "cpu"
        )
        _check_precision(_parameter(config, "precision", args["model_version"]), self._device.type)
        self._inputs = sorted((tensor["name"] for tensor in config["input"]), key=_number)
        self._outputs = sorted((tensor["name"] for tensor in config["output"]), key=_number)
        self._module = torch.jit.load(  # type: ignore[no-untyped-call]
            str(directory / file_name), map_location=self._device
        ).eval()
        gc.collect()
        gc.freeze()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers each request; those of equal shapes run as one batch."""
        responses: list[Any] = [None] * len(requests)
        groups: dict[Any, list[tuple[int, Tensors]]] = defaultdict(list)
        for place, request in enumerate(requests):
            try:
                tensors = self._read(request)
            except Exception as error:  # Triton wants every failure as a response
                responses[place] = _failure(error)
                continue
            groups[tuple(tensor.shape[1:] for tensor in tensors)].append((place, tensors))
        for group in groups.values():
            answers = self._answer([tensors for _, tensors in group])
            for (place, _), answer in zip(group, answers, strict=True):
                responses[place] = answer
        return responses

    def finalize(self) -> None:
        """Frees the model."""
        del self._module

    def _read(self, request: Any) -> Tensors:
        return [
            torch.from_numpy(pb_utils.get_input_tensor_by_name(request, name).as_numpy())
            for name in self._inputs
        ]

    def _answer(self, batch: list[Tensors]) -> list[Any]:
        """Runs requests of equal shapes together; if that fails, each alone."""
        try:
            return self._run(batch)
        except Exception as error:
            if len(batch) == 1:
                return [_failure(error)]
        return [self._answer([tensors])[0] for tensors in batch]

    @torch.inference_mode()
    def _run(self, batch: list[Tensors]) -> list[Any]:
        joined = (
            batch[0] if len(batch) == 1 else [torch.cat(same) for same in zip(*batch, strict=True)]
        )
        result = self._module(*(tensor.to(self._device) for tensor in joined))
        outputs = [result] if isinstance(result, torch.Tensor) else list(result)
        arrays = [output.cpu().contiguous().numpy() for output in outputs]
        responses, start = [], 0
        for tensors in batch:
            end = start + len(tensors[0])
            slices = zip(self._outputs, arrays, strict=True)
            responses.append(
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor(name, array[start:end]) for name, array in slices]
                )
            )
            start = end
        return responses


def _threads(config: dict[str, Any]) -> int:
    return int(_parameter(config, "INTRA_OP_THREAD_COUNT") or 0) or len(os.sched_getaffinity(0))


def _parameter(config: dict[str, Any], key: str, version: str = "") -> str:
    """A parameter of config.pbtxt: `key@version` if that is there, else `key`, else ""."""
    parameters = config.get("parameters", {})
    found = parameters.get(f"{key}@{version}") or parameters.get(key) or {}
    return str(found.get("string_value", ""))


def _check_precision(precision: str, device: str) -> None:
    """Refuses what the device has no kernels for, or none that are faster than fp32."""
    remedies = {
        ("fp16", "cpu"): "serve it on a GPU, or export it in fp32 or int8",
        ("bf16", "cpu"): "serve it on a GPU, or export it in fp32 or int8",
        ("int8", "cuda"): "serve it with KIND_CPU, or export it in fp16",
    }
    remedy = remedies.get((precision, device))
    if remedy:
        where = "a CPU" if device == "cpu" else "a GPU"
        raise pb_utils.TritonModelException(f"{precision} does not run on {where}; {remedy}")


def _number(name: str) -> int:
    return int(name.rpartition("__")[2])


def _failure(error: Exception) -> Any:
    """An error response; TorchScript puts a long trace before the line that says what is wrong."""
    lines = str(error).strip().splitlines() or [""]
    message = f"{type(error).__name__}: {lines[-1]}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
