"""What is prepared, asked and answered: what the parts of the tab share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_restore.explain.attention import AttentionSession, QueryMaps
    from napari_restore.models import AttentionSite
    from napari_restore.plugin.attention._prepare_task import AttentionRequest


@dataclass(frozen=True)
class Reference:
    """An answer that is kept, to be compared with others."""

    query: QueryMaps
    title: str
    """Of its network."""
    image: str
    """`unique_id` of the layer that was asked about."""

    def missing(self, site: str, heads: Sequence[str]) -> str:
        """Return why it has not these heads of a layer of the network, "" where it has."""
        maps = self.query.maps.get(site)
        if maps is None:
            return f"The reference has no layer {site}, or it was not computed yet."
        absent = [head for head in heads if head not in maps.site.heads]
        return f"Its layer {site} has no head {', '.join(absent)}." if absent else ""


@dataclass
class Asked:
    """The prepared network and image, and the last answer."""

    session: AttentionSession | None = None
    request: AttentionRequest | None = None
    """What `session` was prepared from."""
    query: QueryMaps | None = None
    """The last answer, of all layers that are computed."""
    reference: Reference | None = None
    """An earlier answer, perhaps of another network."""

    @property
    def kept(self) -> QueryMaps | None:
        """The maps of the reference."""
        return None if self.reference is None else self.reference.query

    def forget(self) -> None:
        """Close the session and forget the answer; the reference stays."""
        session, self.session = self.session, None
        self.request = self.query = None
        if session is not None:
            session.source.close()

    def site(self, name: str) -> AttentionSite:
        """Return a layer of the network by its name."""
        assert self.session is not None
        return next(each for each in self.session.sites if each.name == name)

    def title(self, name: str) -> str:
        """Return the title of a layer of the network by its name."""
        return self.site(name).title
