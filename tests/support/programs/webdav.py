"""A WebDAV server, WsgiDAV on cheroot, in a process of its own.

    webdav.py FOLDER USER PASSWORD

It shows FOLDER as the root, to one user.
"""

import sys

from cheroot import wsgi
from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp


def main() -> None:
    """Serve on a port of its own choice, and print which one that is."""
    folder, user, password = sys.argv[1:4]
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": FilesystemProvider(folder)},
            "simple_dc": {"user_mapping": {"*": {user: {"password": password}}}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
            "property_manager": None,
            "lock_storage": True,
        }
    )
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=16)
    server.prepare()
    print(f"http://127.0.0.1:{server.bind_addr[1]}")
    server.serve()


main()
