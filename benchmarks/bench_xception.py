"""Training steps of the multi-source network against this machine's matrix-product rate: ``python -m benchmarks.bench_xception``.

What is the limit: nearly all arithmetic of a step is in convolutions, so the rate at which the machine multiplies matrices
bounds it. Dense convolutions come near that rate; the full encoders' depthwise ones and their normalisations move more bytes
than they multiply, and stay below it. Measured in one run, with the same clock: that rate, and forward, backward and SGD

- on a CPU: the network with small encoders (64 images of 64 x 64 pixels), and the paper's encoders on a single image;
- on a GPU: the paper's network at its batch of 64 in bf16 and channels-last, as it is and compiled, and in float32.

Operations are counted by ``torch.utils.flop_counter``: matrix products and convolutions, two to a multiply-add. In float32
a CPU may do 3 x 3 convolutions by Winograd's algorithm, with less than half of these multiplications, so that a share of the
matrix rate can exceed 100%.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import best_of, matrix_rate
from smnb.models.encoders import Xception
from smnb.models.multisource import MultiSourceConfig, MultiSourceNet
from smnb.training import choose_device
from smnb.training.losses import huber_loss

#: Table 7: steps of 64 images.
PAPER_STEPS, PAPER_BATCH = 600_000, 64
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def network(kind: str) -> MultiSourceNet:
    """The paper's network, or the one with small encoders."""
    torch.manual_seed(0)
    small = {"high_encoder": "small", "low_encoder": "small", "output_stride_high": 16, "output_stride_low": 4}
    return MultiSourceNet(MultiSourceConfig(**(small if kind == "small" else {}))).train()


def training_step(
    model: MultiSourceNet, batch: int, size: int, device: torch.device, precision: str, *, compiled: bool = False
) -> Callable[[], None]:
    """A step on one batch that stays on the device: forward, backward and SGD with momentum."""
    model = model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-5)
    inputs = (
        torch.randn(batch, 10, size, size, device=device).to(memory_format=torch.channels_last),
        torch.randn(batch, 4, size // 16, size // 16, device=device).to(memory_format=torch.channels_last),
        0.4 * torch.rand(batch, 2, device=device),
    )
    target = 0.4 * torch.rand(batch, device=device)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            prediction = forward(*inputs)
        huber_loss(prediction.float(), target).backward()
        optimizer.step()

    return step


def backward_operations(
    gradient: list[int], _images: list[int], weight: list[int], *options: object, out_shape: object = None
) -> int:
    """Operations of a convolution's backward pass; torch's own count of a depthwise one is that of a dense one."""
    of_images, of_weights, _ = options[-1]  # what is asked for
    return (of_images + of_weights) * 2 * math.prod(weight) * gradient[0] * math.prod(gradient[2:])


def operations(function: Callable[[], object]) -> int:
    """Floating-point operations of a call, forward and backward."""
    corrected = {torch.ops.aten.convolution_backward: backward_operations}
    with FlopCounterMode(display=False, custom_mapping=corrected) as counter:
        function()
    return counter.get_total_flops()


def best_rates(
    function: Callable[[], object], device: torch.device, dtype: torch.dtype, rounds: int
) -> tuple[float, float]:
    """Shortest seconds of a call, and the best matrix rate, measured in turn: others may use the machine too."""
    seconds, rate = float("inf"), 0.0
    for _ in range(rounds):
        seconds = min(seconds, best_of(function, 4, device=device)[0])
        # on a CPU products short enough to run undisturbed
        rate = max(
            rate, matrix_rate(device, dtype, 512, repeats=60) if device.type == "cpu" else matrix_rate(device, dtype)
        )
    return seconds, rate


def report(name: str, flops: int, images: int, seconds: float, rate: float) -> None:
    days = PAPER_STEPS * PAPER_BATCH / (images / seconds) / 86_400
    print(
        f"{name}: {flops / images / 1e9:,.3f} GFLOP an image; {images / seconds:,.1f} images a second, "
        f"{flops / seconds / 1e9:,.1f} of {rate / 1e9:,.1f} GFLOP/s ({flops / seconds / rate:.0%}); "
        f"{PAPER_STEPS:,} steps of {PAPER_BATCH} in {days:,.1f} days",
        flush=True,
    )


def on_cpu(rounds: int, batch: int, size: int) -> None:
    """The small network's step; the paper's encoders, forward and backward, on one image."""
    cpu = torch.device("cpu")
    for precision, dtype in DTYPES.items():
        step = training_step(network("small"), batch, size, cpu, precision)
        flops = operations(step)
        report(
            f"small encoders, {batch} of {size} px, {precision}", flops, batch, *best_rates(step, cpu, dtype, rounds)
        )
    for depth, channels, side, stride in ((65, 10, 256, 32), (41, 4, 16, 16)):
        # a single image has no batch statistics at 1 x 1
        encoder = Xception(depth, in_channels=channels, output_stride=stride).eval()
        image = torch.randn(1, channels, side, side).to(memory_format=torch.channels_last)

        def there_and_back(encoder: Xception = encoder, image: torch.Tensor = image) -> None:
            encoder.zero_grad()
            encoder(image).square().mean().backward()

        flops = operations(there_and_back)
        rates = best_rates(there_and_back, cpu, torch.float32, rounds if depth == 41 else 1)
        report(f"Xception-{depth}, 1 of {side} px, float32", flops, 1, *rates)


def on_gpu(device: torch.device, rounds: int, batch: int, size: int, kind: str, compile_too: bool) -> None:
    """The paper's network: eager and compiled, bf16 and float32."""
    torch.backends.cudnn.benchmark = True
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "a rehearsal of the GPU's runs on a CPU")
    flops = operations(training_step(network(kind), batch, size, device, "bf16"))
    for precision, compiled in (("bf16", False), ("bf16", True), ("float32", False)):
        if compiled and not compile_too:
            continue
        with torch_memory(device):
            step = training_step(network(kind), batch, size, device, precision, compiled=compiled)
            for _ in range(3):
                step()
            rates = best_rates(step, device, DTYPES[precision], rounds)
            name = f"{kind} network, {batch} of {size} px, {precision}, {'compiled' if compiled else 'eager'}"
            report(name, flops, batch, *rates)


@contextlib.contextmanager
def torch_memory(device: torch.device):
    """Print the peak of a GPU's memory within, and empty its cache after."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.reset_peak_memory_stats(device)
    yield
    print(f"  peak GPU memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")
    torch.cuda.empty_cache()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=None, help="pixels of a side; default 64 on a CPU, 256 on a GPU")
    parser.add_argument("--rehearse", action="store_true", help="the GPU's runs with the small network, on a CPU")
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    device = choose_device("cpu" if args.rehearse else args.device)
    print(f"device {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if device.type == "cpu" and not args.rehearse:
        on_cpu(args.rounds, args.batch, args.size or 64)
    else:
        kind = "small" if args.rehearse else "paper"
        on_gpu(device, args.rounds, args.batch, args.size or (64 if args.rehearse else 256), kind, not args.no_compile)


if __name__ == "__main__":
    main()
