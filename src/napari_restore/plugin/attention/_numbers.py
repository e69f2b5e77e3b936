"""The numbers of a head as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.explain.attention import QueryMaps


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
        names = ("low", "middle", "high")
        shares = [f"{name} {value:.2f}" for name, value in zip(names, omega, strict=False)]
        lines.append(f"bands: {', '.join(shares)}")
    return "\n".join(lines)
