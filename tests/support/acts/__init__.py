"""What is done while the power may go, and what has to hold afterwards.

An act begins with a world of its own, a folder with a home in it. What it does tells the caller one
fact after another; each is a list that begins with its kind. Its check is run on what a power loss
has left: it looks whether what was told is there, does the same once more, as a user would, and has
`verify --deep` read the whole store.
"""

from typing import Final

from support.acts.copies import COPIES
from support.acts.homes import HOMES
from support.acts.journals import JOURNALS
from support.acts.naming import NAMING
from support.acts.staging import STAGING
from support.acts.storing import STORING
from support.acts.vouching import VOUCHING
from support.acts.world import Act

ACTS: Final[dict[str, Act]] = {
    **JOURNALS,
    **HOMES,
    **STORING,
    **STAGING,
    **NAMING,
    **COPIES,
    **VOUCHING,
}
"""Everything that writes to a home, a local backend, staging or a target."""
