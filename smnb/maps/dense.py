"""The exact dense form of a patch network, which predicts every pixel without cutting out a single patch.

Neighbouring patches share all but one column, so a fully convolutional form of the network computes each feature once.
The second pooling's stride of 2 becomes stride 1 with dilation 2 in what follows; the fully connected layers become
convolutions. The result equals the patch network's to rounding (a test says 1e-5 at every pixel, the date line included).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from smnb.contract import ParameterError
from smnb.maps.forms import Outside
from smnb.models.amsre_cnn import AmsreCNN

Planes = list[list[torch.Tensor]]
#: Row groups (of four rows) that the fast form works on at a time.
_CHUNK = 8


class WinogradConv(nn.Module):
    """A 2×2 convolution with dilation 2 by Winograd's scheme F(2×2, 2×2): 9 products instead of 16.

    Parameters
    ----------
    weight : Tensor, shape (out, in, 2, 2)
    bias : Tensor, shape (out,)
    in_padding : int
        Channels of zeros that the input carries after its own.

    Notes
    -----
    With dilation 2, rows come in pairs: plane 0 holds pairs 0, 2, 4, …, plane 1 the pairs between. Output plane 0 is
    ``d0 g0 + d1 g1`` and plane 1 ``d1 g0 + d2 g1``, where d0 is plane 0, d1 plane 1, d2 plane 0 one pair on, and g0, g1 the
    rows of the kernel. Three products do for four::

        plane 0 = d1 (g0 + g1) + (d0 - d1) g0,     plane 1 = d1 (g0 + g1) + (d2 - d1) g1

    and the same for columns, so there are 2×2 planes. A plane is flattened to ``(pixel, channel)`` with its columns' pairs
    in place, so "one pair on" is a slice, in rows and in columns; the last pair of columns mixes with the next row and is
    meaningless. Coefficients are 0 and ±1, so rounding stays at that of a direct convolution.

    References
    ----------
    Lavin, A., Gray, S. (2016). Fast algorithms for convolutional neural networks. CVPR. doi:10.1109/CVPR.2016.435
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, *, in_padding: int = 0) -> None:
        super().__init__()
        kernel = weight.detach().permute(2, 3, 1, 0)  # (kernel row, kernel column, in, out)
        rows = torch.stack([kernel[0], kernel[0] + kernel[1], kernel[1]])
        filters = torch.stack([rows[:, 0], rows[:, 0] + rows[:, 1], rows[:, 1]], dim=1)
        # channels are padded with zeros to whole cache lines, which matrix products are about a tenth faster on
        more = -filters.shape[3] % 16
        self.register_buffer(
            "filters", functional.pad(filters, (0, more, 0, in_padding)).contiguous()
        )  # (3, 3, in, out)
        self.register_buffer("bias", functional.pad(bias.detach(), (0, more)))

    def forward(self, planes: Planes, line: int, out: Planes) -> None:
        """Convolve.

        Parameters
        ----------
        planes : Planes
            ``planes[u][v]``, u for rows and v for columns, each ``(m * line, in)``.
        line : int
            Pixels of one pair of rows of a plane.
        out : Planes
            Each ``((m - 1) * line, out)``; overwritten. Memory that is used again spares the system's page faults.
        """
        g = self.filters
        n = planes[0][0].shape[0] - line - 2
        left, right = ([planes[u][v][: n + 2 - 2 * v] for u in (0, 1)] for v in (0, 1))  # by column plane
        below = [planes[0][v][line : line + n + 2 - 2 * v] for v in (0, 1)]
        even = (left[0] - left[1], left[1], below[0] - left[1])  # the row transform, on n + 2 pixels
        odd = (right[0] - right[1], right[1], below[1] - right[1])
        common = torch.addmm(self.bias, odd[1], g[1, 1])
        west = torch.addmm(common, even[1][:n] - odd[1], g[1, 0])
        east = common.addmm_(even[1][2:] - odd[1], g[1, 2])
        for u, i in enumerate((0, 2)):
            middle = odd[i] @ g[i, 1]
            for v, j, side in ((0, 0, west), (1, 2, east)):
                out[u][v][n:] = 0.0  # the last pair has no right neighbour
                result = torch.add(side, middle, out=out[u][v][:n])
                result.addmm_(even[i][2 * v : 2 * v + n] - odd[i], g[i, j])


class DenseAmsreCNN(nn.Module):
    """The exactly equivalent fully convolutional form of a trained 9×9 `AmsreCNN`.

    Parameters
    ----------
    network : AmsreCNN
        With ``patch_size`` 9.
    fast : bool
        Use `WinogradConv` for the two dilated convolutions, which hold nearly all of the arithmetic; without it plain
        convolutions run, which is what a GPU wants.
    wrap : bool
        Whether columns go round the globe. Other edges repeat the image's outermost pixel.

    Notes
    -----
    A patch takes 1.03 million multiplications; a pixel 0.49 million, or 0.28 million with `fast`, in a few large matrix
    products that run near the processor's peak instead of many small ones that do not.
    """

    halo = 4

    def __init__(self, network: AmsreCNN, *, fast: bool = True, wrap: bool = False) -> None:
        super().__init__()
        self.around = "wrap" if wrap else "edge"
        config = network.config
        if config.patch_size != 9:
            raise ParameterError("DenseAmsreCNN", "patch_size", got=config.patch_size, expected=9)
        self.conv1, self.conv2, self.conv3 = network.conv1, network.conv2, network.conv3
        self.fc1, self.output, self.activation = network.fc1, network.fc2, network.activation
        # (500, 800) -> (500, 200, 2, 2)
        self.hidden_shape = (config.hidden, config.conv_channels[2], 2, 2)
        self.fast = fast
        if fast:
            self.fast3 = WinogradConv(network.conv3.weight, network.conv3.bias)
            padding = self.fast3.bias.numel() - config.conv_channels[2]
            hidden = network.fc1.weight.view(self.hidden_shape)
            self.fast4 = WinogradConv(hidden, network.fc1.bias, in_padding=padding)
            self.last = nn.Parameter(functional.pad(network.fc2.weight[0].detach(), (0, -config.hidden % 16)), False)

    def forward(self, images: torch.Tensor, outside: Outside | None = None) -> torch.Tensor:
        """Predict every pixel whose 9×9 neighbourhood lies inside.

        Parameters
        ----------
        images : Tensor, shape (channel, row, col)
            Scaled and filled.
        outside : tuple of int, optional
            As a `TileForm` is called; the halo already holds what lies around the image.

        Returns
        -------
        Tensor, shape (row - 8, col - 8)
            Scaled soil moisture; pixel (i, j) is what the patch network says of ``images[:, i:i+9, j:j+9]``.
        """
        x = images[None].contiguous(memory_format=torch.channels_last)
        x = functional.max_pool2d(self.activation(self.conv1(x)), 2, stride=1)  # (1, 20, row - 2, col - 2)
        # stride 1 where the patch network has 2: features at every offset, so what follows looks at every other pixel
        x = functional.max_pool2d(self.activation(self.conv2(x)), 2, stride=1)  # (1, 100, row - 4, col - 4)
        if self.fast:
            return self._on_planes(x[0].permute(1, 2, 0))
        x = self.activation(
            functional.conv2d(x, self.conv3.weight, self.conv3.bias, dilation=2)
        )  # (1, 200, row - 6, …)
        hidden = self.fc1.weight.view(self.hidden_shape)
        x = self.activation(functional.conv2d(x, hidden, self.fc1.bias, dilation=2))  # (1, 500, row - 8, col - 8)
        return self.output(x[0].permute(1, 2, 0)).squeeze(-1)

    def _on_planes(self, x: torch.Tensor) -> torch.Tensor:
        """Do the last three layers of ``(row, col, channel)`` features on 2×2 planes of row and column pairs."""
        height, width, channels = x.shape
        # groups of four output rows and columns; each convolution uses up one more group
        tall, wide = -(-(height - 4) // 4), -(-(width - 4) // 4)
        x = functional.pad(x, (0, 0, 0, 4 * (wide + 2) - width, 0, 4 * (tall + 2) - height))
        x = x.reshape(tall + 2, 2, 2, wide + 2, 2, 2, channels)  # (row group, u, row, column group, v, column, channel)
        planes = [[x[:, u, :, :, v].reshape(-1, channels) for v in (0, 1)] for u in (0, 1)]
        line = 4 * (wide + 2)
        hidden = _empty_planes(x, (tall + 1) * line, self.fast3.bias.numel())
        for _ in self._chunks(self.fast3, planes, hidden, line):
            pass  # each chunk lands in its place of `hidden`
        result = x.new_empty(tall, 2, 2, wide + 2, 2, 2)
        scratch = _empty_planes(x, min(_CHUNK, tall) * line, self.last.numel())
        for start, stop, part in self._chunks(self.fast4, hidden, scratch, line):
            for u in (0, 1):
                for v in (0, 1):
                    result[start:stop, u, :, :, v] = torch.mv(part[u][v], self.last).view(stop - start, 2, -1, 2)
        return result.view(4 * tall, -1)[: height - 4, : width - 4] + self.output.bias

    def _chunks(self, layer: WinogradConv, planes: Planes, out: Planes, line: int) -> Iterator[tuple[int, int, Planes]]:
        """Apply a convolution and the activation a few row groups at a time, so that what is written is still in cache.

        `out` holds all row groups or is scratch for one chunk. Yields the groups done and where they are.
        """
        groups, scratch = planes[0][0].shape[0] // line - 1, out[0][0].shape[0] // line
        for start in range(0, groups, _CHUNK):
            stop = min(start + _CHUNK, groups)
            first = start if scratch == groups else 0
            part = [[p[first * line : (first + stop - start) * line] for p in row] for row in out]
            layer([[p[start * line : (stop + 1) * line] for p in row] for row in planes], line, part)
            for row in part:
                for plane in row:
                    plane.copy_(self.activation(plane))  # no copy where the activation works in place, as ReLU does
            yield start, stop, part


def _empty_planes(like: torch.Tensor, pixels: int, channels: int) -> Planes:
    return [[like.new_empty(pixels, channels) for _ in (0, 1)] for _ in (0, 1)]
