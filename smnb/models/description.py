"""A network shown: its layers, what comes out of each, and its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from torch import nn


def describe(model: nn.Module, *inputs: Any, depth: int = 2) -> pd.DataFrame:
    """Show a network's layers, in the order in which they run where an example is given.

    Parameters
    ----------
    model : torch.nn.Module
    *inputs : Tensor
        An example of what it takes, such as ``samples.train[np.arange(2)][0]``; without it there are no shapes.
    depth : int
        How far layers within layers are opened: ``encoder.0.conv`` is 3 deep. What lies deeper counts with the layer above.

    Returns
    -------
    DataFrame
        One row a layer: ``layer`` (its name), ``kind``, ``output`` (shape without the batch, as text) and ``parameters``;
        a last row ``total``, with the trainable parameters.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> describe(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(2, 4))
       layer    kind output  parameters
    0      0  Linear      3          15
    1      1    ReLU      3           0
    2      2  Linear      1           4
    3  total                         19
    """
    import torch

    shown = {
        name: layer
        for name, layer in model.named_modules()
        if name and (name.count(".") + 1 == depth or (name.count(".") + 1 < depth and not list(layer.children())))
    }
    shapes: dict[str, str] = {}

    def keep(name: str, result: Any) -> None:
        first = next((one for one in (result if isinstance(result, tuple | list) else [result])), None)
        if isinstance(first, torch.Tensor):
            shapes[name] = " × ".join(map(str, first.shape[1:])) or "1"

    if inputs:
        hooks = [one.register_forward_hook(lambda _m, _i, made, n=n: keep(n, made)) for n, one in shown.items()]
        training = model.training
        try:
            with torch.inference_mode():
                model.eval()(*inputs)
        finally:
            model.train(training)
            for hook in hooks:
                hook.remove()
    order = [*shapes, *(name for name in shown if name not in shapes)] if inputs else list(shown)
    rows = [
        {
            "layer": name,
            "kind": type(shown[name]).__name__,
            "output": shapes.get(name, ""),
            "parameters": sum(p.numel() for p in shown[name].parameters()),
        }
        for name in order
    ]
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return pd.DataFrame([*rows, {"layer": "total", "kind": "", "output": "", "parameters": total}])
