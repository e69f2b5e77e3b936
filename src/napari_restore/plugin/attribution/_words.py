"""What an attribution says, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHECK = "insertion-deletion"
"""The check that there is, by its name in the record."""
FAR = 128
"""Pixels from the box beyond which a share is told."""
TOLD = 0.01
"""Share of the unchanged input from which on it is worth a line."""


def measures(record: Mapping[str, Any]) -> str:
    """How far the map can be trusted, how spread it is, and what it is of."""
    told, model = record["attribution"], record["model"]
    complete = told["completeness"]
    gap, steps = complete["relative_gap"], len(told["nodes"])
    if complete["sum"] is None:
        trust = "This method claims no completeness"
    elif gap is None:
        trust = "Completeness undefined: what is asked about hardly differs along the path"
    else:
        word = "Complete" if complete["reached"] else "NOT COMPLETE"
        after = f" after {steps} points" if steps else ""
        trust = f"{word}: gap {gap:.2%}{after} (asked {complete['goal']:.2%})"
    y0, x0, y1, x1 = told["box"]
    index, near = told["diffusion_index"], told["window"]["diffusion_index"]
    rings = told["rings"]
    far = sum(
        share
        for name, share in rings.items()
        if name != "box" and int(name.partition("-")[0]) >= FAR
    )
    scale = told["scale"]
    pixels = "pixels" if scale == 1 else f"pixels of the overview 1:{scale}"
    lines = [trust]
    if complete["sum"] is not None:
        told_of = f"{complete['difference']:.4g}, shares add up to {complete['sum']:.4g}"
        lines.append(f"Difference {told_of}")
    if complete["free_difference"] is not None:
        free = f"{complete['free_difference']:.4g}"
        lines.append(f"Choices {told['choices']}; made on the way, the difference is {free}")
    within = "a polygon in " if told["polygon"] else ""
    lines.append(f"{told['objective']} of {within}{x1 - x0} × {y1 - y0} {pixels} at x {x0}, y {y0}")
    way = "" if told["path"] is None else f": {told['path']} path"
    start = "" if told["baseline"] is None else f" from {told['baseline']}"
    lines.append(f"{told['method']}{way}{start}; facts {told['facts']}")
    if index is not None:
        spread = f"Diffusion index {index:.2f}"
        if near is not None and tuple(told["window"]["region"]) != tuple(told["region"]):
            spread += f" (within 512 px of the box {near:.2f})"
        lines.append(f"{spread}; 95 % in {told['area_95']} pixels; beyond {FAR} px {far:.1%}")
    if (told["identity_share"] or 0) >= TOLD:
        lines.append(f"The input passing unchanged makes {told['identity_share']:.0%} of the map")
    checked = told.get("checks", {}).get(CHECK)
    if checked is not None and checked["insertion"]["area"] is None:
        lines.append("Check undefined: image and baseline hardly differ in what is asked about")
    elif checked is not None:
        lines.append(f"Checked from {checked['baseline']}")
    weights = model["weights_sha256"]
    lines.append(
        f"{model['id']}{f', weights {weights[:12]}' if weights else ''}. Where it looked, not why."
    )
    return "\n".join(lines)
