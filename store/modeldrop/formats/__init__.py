"""What kind of model a file is, read from its header, never by loading it.

`recognition.recognise` says by the first bytes and the name which reader is asked, `look` has it
read the file through a bounded source, whatever that stands for: an open file in staging, a cached
copy, ranges of a stored file. A reader answers with a `Description`. No reader imports, unpickles
or executes anything of a file, and what a file says of its own lengths is never believed.
"""

from __future__ import annotations

from modeldrop.formats.kinds import ALLOW, KINDS, PARK, VERDICTS, WARN

# No more than that: the settings of every command need these names.
__all__ = ["ALLOW", "KINDS", "PARK", "VERDICTS", "WARN"]
