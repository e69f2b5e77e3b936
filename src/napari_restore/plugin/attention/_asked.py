"""What is prepared, asked and answered: what the parts of the tab share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_restore.explain.attention import AttentionSession, QueryMaps
    from napari_restore.models import AttentionSite
    from napari_restore.plugin.attention._prepare_task import AttentionRequest


@dataclass
class Asked:
    """The prepared network and image, and the last answer."""

    session: AttentionSession | None = None
    request: AttentionRequest | None = None
    """What `session` was prepared from."""
    query: QueryMaps | None = None
    """The last answer, of all layers that are computed."""

    def forget(self) -> None:
        """Close the session and forget the answer."""
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
