"""Attention over all tokens of an image: exact, or in blocks of tokens with similar hashes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._steps import Routing, Tick
from napari_restore.models.inf_dehaze.config import InfDehazeConfig

Norm = Callable[[Tensor], Tensor]

_CHUNK_VALUES = 1 << 21
"""Values of tokens that are normalised at once (8 MiB in float32)."""
_HASHED = 1 << 14
"""Tokens that are hashed at once."""
_BLOCKS_CPU, _BLOCKS_GPU = 64, 512
"""Blocks of queries at once."""
_SCORES = 1 << 23
"""Scores of exact attention at once, where the backend forms them (32 MiB in float32)."""
_QUERIES_CPU, _QUERIES_GPU = 256, 1 << 14
"""Queries at once that keep a device busy, whatever the number of keys."""
_SEED = 2024


class HeadwiseAttention(nn.Module):
    """Attention computed head by head, so that only one head's q, k and v exist.

    Tokens are (L, C). A `norm` is applied to chunks of them, never to all at once. In training, and
    where a gradient is needed, everything is computed in one piece instead.
    """

    def __init__(self, heads: int, key_width: int, value_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.key_width = key_width
        """Channels of a query or key of one head."""
        self.value_width = value_width

    def head_weights(self, head: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights (width, C) of q, k and v of `head`."""
        raise NotImplementedError

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, buckets: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield tokens (n,) and values (n, width) of parts of a head's output; `buckets` as of `choose`."""
        return exact(q, k, v)

    def is_exact(self, length: int) -> bool:
        """Return whether each of so many tokens attends to all others."""
        return True

    def choose(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the buckets of one head's queries and keys, (L, 2), where it is not exact."""
        raise NotImplementedError

    def project(self, gathered: Tensor) -> Tensor:
        """Return (n, C) of all heads → (n, C)."""
        return gathered

    def forward(
        self,
        x: Tensor,
        norm: Norm | None = None,
        tick: Tick | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """Return the attention output (L, C) for tokens (L, C), the residual not added."""
        if learns(x, self, norm):
            return self._in_one_piece(norm(x) if norm is not None else x, routing)
        out = torch.empty_like(x)
        by_head = out.view(len(x), self.heads, self.value_width)
        done = 0
        for head in range(self.heads):
            q, k, v = project(x, self.head_weights(head), norm)
            for tokens, values in self.attend(q, k, v, self._buckets(head, q, k, routing)):
                by_head[:, head].index_copy_(0, tokens, values.to(out.dtype))
                done += len(tokens)
                if tick is not None:
                    tick(done / (len(x) * self.heads))
                del tokens, values
            del q, k, v
        for rows in chunks(x):
            out[rows] = self.project(out[rows])
        return out

    def _buckets(self, head: int, q: Tensor, k: Tensor, routing: Routing | None) -> Tensor | None:
        if routing is None or self.is_exact(len(q)):
            return None
        return routing.fixed(("buckets", head), lambda: self.choose(q, k))

    def _in_one_piece(self, x: Tensor, routing: Routing | None) -> Tensor:
        heads = []
        for head in range(self.heads):
            weights = self.head_weights(head)
            q, k, v = (functional.linear(x.to(weight.dtype), weight) for weight in weights)
            buckets = self._buckets(head, q, k, routing)
            tokens, values = zip(*self.attend(q, k, v, buckets), strict=True)
            heads.append(torch.cat(values)[torch.cat(tokens).argsort()])
        return self.project(torch.cat(heads, dim=1))

    def peak_bytes(self, length: int, channels: int, size: int) -> int:
        """Return the peak bytes beside tokens and output, `size` of them per value."""
        head = (2 * self.key_width + self.value_width) * (length + channels) * size
        chunk = 2 * 4 * min(length * channels, _CHUNK_VALUES)
        return head + max(chunk, self.attend_bytes(length, size))

    def attend_bytes(self, length: int, size: int) -> int:
        """Return the peak bytes of `attend` beside q, k and v."""
        width = max(self.key_width, self.value_width)
        padded = length if self.value_width != self.key_width else 0
        queries = min(length, _queries("cpu", length))
        return (padded + 3 * queries) * width * size


class FullAttention(HeadwiseAttention):
    """Exact attention over all tokens, with an output projection; quadratic in their number."""

    def __init__(self, config: InfDehazeConfig) -> None:
        width = config.widths[-1]
        head = width // config.bottleneck_heads
        super().__init__(config.bottleneck_heads, head, head)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def head_weights(self, head: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv.weight.view(3, self.heads, self.key_width, -1)[:, head]
        return q, k, v

    def project(self, gathered: Tensor) -> Tensor:
        return self.proj(gathered.to(self.proj.weight.dtype))  # type: ignore[no-any-return]


class IBSSA(HeadwiseAttention):
    """Inter-block sparse self-attention: a token attends to those with similar hashes.

    Queries and keys are each sorted by the signs of their products with a few random directions,
    read as a reflected Gray code, so that neighbouring buckets differ in one sign. A block of
    sorted queries attends to the block of keys at its position, the one before (`neighbours`), and
    `samples` keys drawn from all, each of which represents L / samples of them in the softmax. They
    are sampled by the tokens' own numbers, so that a changed hash changes few tokens' results.
    Memory grows linearly with the tokens; with fewer than `exact_below` the attention is exact.
    Source: Inf-Dehaze; the sorting is HyperAttention's (Han et al. 2023).
    """

    directions: Tensor

    def __init__(self, config: InfDehazeConfig, seed: int = 0) -> None:
        width, heads = config.widths[-1], config.bottleneck_heads
        super().__init__(heads, config.qk_width // heads, width // heads)
        self.exact_below = config.exact_below
        self.block_size = config.block_size
        self.neighbours = config.neighbours
        self.samples = config.samples
        self.to_q = nn.Linear(width, config.qk_width, bias=False)
        self.to_k = nn.Linear(width, config.qk_width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        # Saved with the weights: other directions are another network.
        self.register_buffer("directions", directions_of(config, seed))

    def head_weights(self, head: int) -> tuple[Tensor, Tensor, Tensor]:
        keys = slice(head * self.key_width, (head + 1) * self.key_width)
        values = slice(head * self.value_width, (head + 1) * self.value_width)
        return self.to_q.weight[keys], self.to_k.weight[keys], self.to_v.weight[values]

    @torch.no_grad()
    def buckets(self, tokens: Tensor) -> Tensor:
        """Return buckets (L,) int16 of one head's queries or keys (L, width), in Gray code."""
        buckets = tokens.new_empty(len(tokens), dtype=torch.int16)
        bits = 1 << torch.arange(len(self.directions), device=tokens.device, dtype=torch.int32)
        for start in range(0, len(tokens), _HASHED):
            rows = slice(start, start + _HASHED)
            # Autocast would take the product to half precision, where signs differ.
            with torch.autocast(tokens.device.type, enabled=False):
                signs = tokens[rows].float() @ self.directions.float().T > 0
            code = (signs * bits).sum(1, dtype=torch.int32)
            shift = 1
            while shift < len(bits):
                code = code ^ (code >> shift)
                shift *= 2
            buckets[rows] = code
        return buckets

    def is_exact(self, length: int) -> bool:
        return length < self.exact_below

    def choose(self, q: Tensor, k: Tensor) -> Tensor:
        """Return buckets (L, 2) int16 of one head's queries and keys."""
        return torch.stack([self.buckets(q), self.buckets(k)], dim=1)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, buckets: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if self.is_exact(len(q)):
            yield from exact(q, k, v)
            return
        keys = order(self.buckets(k) if buckets is None else buckets[:, 1])
        drawn = self.drawn(keys)
        queries = order(self.buckets(q) if buckets is None else buckets[:, 0])
        at_once = self._blocks_at_once()
        for first in range(0, len(q), at_once * self.block_size):
            tokens = queries[first : first + at_once * self.block_size]
            yield tokens, self._blocks(q[tokens], k, v, keys, drawn, first // self.block_size)

    def drawn(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sampled tokens and their blocks of the sorted `keys`, (samples,) each."""
        if not self.samples:
            return keys[:0], keys[:0]
        generator = torch.Generator().manual_seed(_SEED)
        drawn = torch.randint(len(keys), (self.samples,), generator=generator, device="cpu")
        drawn = drawn.to(keys.device)
        place = torch.empty_like(keys)
        place[keys] = torch.arange(len(keys), device=keys.device)
        return drawn, place[drawn] // self.block_size

    def _blocks(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        keys: Tensor,
        drawn: tuple[Tensor, Tensor],
        first: int,
    ) -> Tensor:
        """Return values for the sorted queries `q`, which fill the blocks from `first` on."""
        length = len(q)
        count = -(-length // self.block_size)
        q = functional.pad(q, (0, 0, 0, count * self.block_size - length))
        q = q.view(count, self.block_size, -1)
        attended, bias = self.attended(keys, drawn, first, count)
        values = _softmax_attention(q, k[attended], v[attended], bias[:, None].to(q.dtype))
        return values.reshape(-1, self.value_width)[:length]

    def attended(
        self, keys: Tensor, drawn: tuple[Tensor, Tensor], first: int, count: int
    ) -> tuple[Tensor, Tensor]:
        """Return the keys of `count` blocks of queries, (count, K), and the addends of scores.

        `keys` are the sorted ones. −inf is added where a position is empty, and to samples that are
        in the block anyway.
        """
        length, device = len(keys), keys.device
        blocks = torch.arange(first, first + count, device=device)[:, None]
        before = int(self.neighbours)
        offsets = torch.arange(-before * self.block_size, self.block_size, device=device)
        place = blocks * self.block_size + offsets
        empty = (place < 0) | (place >= length)
        attended = keys[place.clamp_(0, length - 1)]
        bias = torch.zeros_like(empty, dtype=torch.float32).masked_fill_(empty, -math.inf)
        if not self.samples:
            return attended, bias
        tokens, home = drawn
        ahead = blocks - home
        is_duplicate = (ahead >= 0) & (ahead <= before)
        stands_for = torch.full_like(
            is_duplicate, math.log(length / self.samples), dtype=torch.float32
        )
        return (
            torch.cat([attended, tokens.expand(count, -1)], dim=1),
            torch.cat([bias, stands_for.masked_fill_(is_duplicate, -math.inf)], dim=1),
        )

    def _blocks_at_once(self) -> int:
        return _BLOCKS_CPU if self.to_q.weight.device.type == "cpu" else _BLOCKS_GPU

    def attend_bytes(self, length: int, size: int) -> int:
        if self.is_exact(length):
            return super().attend_bytes(length, size)
        count = min(self._blocks_at_once(), -(-length // self.block_size))
        rows = count * self.block_size
        keys = count * (self.block_size * (1 + self.neighbours) + self.samples)
        both = self.key_width + self.value_width
        width = max(self.key_width, self.value_width)
        # As gathered, the narrower ones widened, and the output.
        padded = width if self.value_width != self.key_width else 0
        blocks = rows * (self.key_width + padded + width) + keys * (both + padded)
        # Two int64 orders remain; while the second is computed there are buckets and a sorted copy,
        # before that the keys' positions and numbers if samples are used.
        orders = (24 if self.samples else 20) * length
        return max(orders, 16 * length + blocks * size + keys * (8 + 4))


def order(buckets: Tensor) -> Tensor:
    """Return tokens (L,) sorted by their buckets."""
    return buckets.argsort(stable=True)


def directions_of(config: InfDehazeConfig, seed: int) -> Tensor:
    """Return the directions (bits, key width) float32 of an `IBSSA` made with `seed`."""
    # Their values are exact in half precisions as well, so that a network in half precision uses
    # the same ones.
    generator = torch.Generator().manual_seed(seed)
    shape = config.lsh_bits, config.qk_width // config.bottleneck_heads
    return torch.randn(shape, generator=generator, device="cpu").bfloat16().float()


def exact(q: Tensor, k: Tensor, v: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the softmax attention of one head over all keys, for some queries after the others."""
    step = _queries(q.device.type, len(k))
    scale, width = q.shape[1] ** -0.5, max(q.shape[1], v.shape[1])
    k, v, narrow = _widened(k, width), _widened(v, width), v.shape[1]
    for start in range(0, len(q), step):
        rows = q[start : start + step]
        tokens = torch.arange(start, start + len(rows), device=q.device)
        yield tokens, _softmax_attention(rows[None], k[None], v[None], scale=scale)[0, :, :narrow]


def _queries(device: str, keys: int) -> int:
    return max(_QUERIES_CPU if device == "cpu" else _QUERIES_GPU, _SCORES // keys)


def _softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Return softmax(scale · q kᵀ + bias) v for batches (N, n, width); bias (N, 1, K).

    `scale` belongs to the width of q as it is given.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    width = max(k.shape[-1], v.shape[-1])
    out = functional.scaled_dot_product_attention(
        _widened(q, width)[:, None],
        _widened(k, width)[:, None],
        _widened(v, width)[:, None],
        attn_mask=None if bias is None else bias[:, None],
        scale=scale,
    )
    return out[:, 0, :, : v.shape[-1]]


def _widened(x: Tensor, width: int) -> Tensor:
    """Return the tensor with zeros appended to the channels."""
    # Some backends need one width for all.
    missing = width - x.shape[-1]
    return functional.pad(x, (0, missing)) if missing > 0 else x


def chunks(x: Tensor) -> Iterator[slice]:
    """Yield slices of the tokens (L, C), few enough to be processed at once."""
    step = max(1, _CHUNK_VALUES // x.shape[1])
    for start in range(0, len(x), step):
        yield slice(start, start + step)


def project(x: Tensor, weights: Sequence[Tensor], norm: Norm | None = None) -> list[Tensor]:
    """Return ``norm(x) @ weight.T`` (L, width) for each of `weights`, chunk by chunk."""
    widths = [len(weight) for weight in weights]
    weight = torch.cat(list(weights))
    made = [weight.new_empty(len(x), width) for width in widths]
    for rows in chunks(x):
        chunk = norm(x[rows]) if norm is not None else x[rows]
        chunk = functional.linear(chunk.to(weight.dtype), weight)
        for whole, part in zip(made, torch.split(chunk, widths, dim=1), strict=True):
            whole[rows] = part
        del chunk, part
    return made


def learns(x: Tensor, *modules: object) -> bool:
    """Return whether a gradient of the outputs of `modules` for `x` may be needed."""
    # Where it is false, they may work in pieces and overwrite `x`.
    parts = [module for module in modules if isinstance(module, nn.Module)]
    # Checkpointing runs a first pass without gradients, and needs its input once more.
    if any(part.training for part in parts):
        return True
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(p.requires_grad for part in parts for p in part.parameters())
