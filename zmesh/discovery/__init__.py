"""How peers find each other: hints about addresses, from several sources, never proof that anybody is there."""

from zmesh.discovery.ladder import Discovery
from zmesh.discovery.sighting import Sighting, Source

__all__ = ["Discovery", "Sighting", "Source"]
