"""Found by every Python of a page in docs/guide/: whatever machine this is, it is one and the same.

Tables are as wide as the names in them, so a page with the name of this machine and of who works
here would be another page elsewhere.
"""

import os
import pwd

_found = os.uname()
os.uname = lambda: os.uname_result((_found[0], "trainer-1", *_found[2:]))
_entry = pwd.getpwuid


def _ada(user: int) -> pwd.struct_passwd:
    entry = _entry(user)
    return pwd.struct_passwd(("ada", *entry[1:])) if user == os.geteuid() else entry


pwd.getpwuid = _ada
