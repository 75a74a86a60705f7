"""One slide, one id, however files and tables spell it."""

from __future__ import annotations

import re

# Slide files that openslide, bio-formats and the vendors' programs read, and the feature files made of them.
_ENDINGS = re.compile(
    r"\.(ome\.tiff?|svs|tiff?|ndpi|mrxs|scn|vms|vmu|bif|czi|qptiff|isyntax|svslide|dcm|h5|pt)$", re.IGNORECASE
)


def without_ending(slide: str) -> str:
    """A slide id without the ending of a slide file (``BRACS_264.svs``) or of a feature file."""
    return _ENDINGS.sub("", slide)
