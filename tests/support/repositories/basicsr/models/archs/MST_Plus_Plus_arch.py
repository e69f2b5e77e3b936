"""MST++: attention among bands; reflects to multiples of 8 within."""

from torch import nn
from torch.nn.functional import pad

from .arch_util import ChannelAttention, conv


class MST(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding, self.mapping = conv(width, width), conv(width, width)
        self.near = ChannelAttention(width, 1)
        self.down = nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)
        self.deep = ChannelAttention(2 * width, 2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, 2)

    def forward(self, x):
        y = self.embedding(x)
        y = y + self.near(y)
        z = self.down(y)
        return self.mapping(self.up(z + self.deep(z)) + y) + x


class MST_Plus_Plus(nn.Module):
    def __init__(self, in_channels=3, out_channels=3, n_feat=6, stage=2):
        super().__init__()
        self.conv_in, self.conv_out = conv(in_channels, n_feat), conv(n_feat, out_channels)
        self.body = nn.Sequential(*(MST(n_feat) for _ in range(stage)))

    def forward(self, x):
        h, w = x.shape[2:]
        x = pad(x, [0, (8 - w % 8) % 8, 0, (8 - h % 8) % 8], mode="reflect")
        x = self.conv_in(x)
        return self.conv_out(self.body(x) + x)[:, :, :h, :w]
