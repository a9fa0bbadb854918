"""Batch normalisation folded into the convolution before it: the same function in evaluation, in fewer passes over memory."""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(net: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode with each batch normalisation folded into its convolution.

    A normalisation is folded where it is known to follow a convolution and nothing else: as the next layer of a
    ``Sequential``, or where a module calls ``x_norm`` right behind its convolution ``x``, as
    `smnb.models.xception.SeparableConv` does, or ``norm`` behind ``convolution``, as the small encoder's blocks do.

    Parameters
    ----------
    net : Module

    Returns
    -------
    Module
        Its outputs are those of `net` up to rounding.
    """
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        children = dict(module.named_children())
        names = list(children)
        if isinstance(module, nn.Sequential):
            pairs = list(itertools.pairwise(names))
        else:
            pairs = [(name, f"{name}_norm") for name in names if f"{name}_norm" in children]
            pairs += [("convolution", "norm")] if names[:2] == ["convolution", "norm"] else []
        for name, norm in pairs:
            if isinstance(children[name], nn.Conv2d) and isinstance(children[norm], nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(children[name], children[norm]))
                setattr(module, norm, nn.Identity())
    return net
