"""The numbers of a head as text, and its shares for bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.explain.attention import QueryMaps

BANDS = ("low", "middle", "high")


def numbers_text(query: QueryMaps, site: str, head: str) -> str:
    """Return what is known of one head, in a few lines."""
    maps = query.maps[site]
    number = maps.index(head)
    measured = query.measures[site][number]
    lines = [f"{maps.site.title}, head {head} · {query.query.label}"]
    if maps.site.kind in ("routing", "gate"):
        lines.append(f"share {float(maps.weights[number, 0]):.2f} in the query's own cell")
    elif maps.site.kind == "channel":
        lines.append(
            "It mixes channels, not places: the map is likeness to the query, derived. Entropy of "
            f"its matrix {measured['entropy']:.3f}, contribution here {measured['contribution']:.3g}"
        )
    elif measured["entropy"] is not None:
        lines.append(
            f"entropy {measured['entropy']:.3f} (1: equal weights), as "
            f"{measured['effective_cells']:.1f} cells; mean distance {measured['distance_px']:.0f} px"
        )
        shares = [
            f"{measured[name]:.0%} in its own {what}"
            for name, what in (("window_share", "window"), ("tile_share", "tile"))
            if measured[name] is not None
        ]
        lines += [", ".join(shares)] if shares else []
    if "band_weights" in maps.numbers:
        omega: Any = maps.numbers["band_weights"]
        shares = [f"{name} {value:.2f}" for name, value in zip(BANDS, omega, strict=False)]
        lines.append(f"bands: {', '.join(shares)}")
    return "\n".join(lines)


def shares_of(query: QueryMaps, site: str, head: str) -> dict[str, dict[str, float]]:
    """Return the shares of one head for bars by their title, by name; none where it has no places."""
    maps = query.maps[site]
    measured = query.measures[site][maps.index(head)]
    found: dict[str, dict[str, float]] = {}
    if measured.get("rings"):
        found["Weights by distance"] = dict(
            zip(_distances(measured["rings"]), measured["rings"].values(), strict=True)
        )
    if "band_weights" in maps.numbers:
        omega = maps.numbers["band_weights"].tolist()
        found["Share ω of each band"] = dict(zip(BANDS, omega, strict=False))
    if maps.site.kind == "routing":
        shares = maps.weights[:, 0].astype(float).tolist()
        found["Share of each expert"] = dict(zip(maps.site.heads, shares, strict=True))
    return found


def _distances(rings: Iterable[str]) -> list[str]:
    """Return names like "8–32 px" of rings that are called by their outer radius."""
    names, inner = [], "0"
    for ring in rings:
        word, radius, _ = ring.split("_")
        names.append(f"> {radius} px" if word == "beyond" else f"{inner}–{radius} px")
        inner = radius
    return names
