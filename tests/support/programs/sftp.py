"""A server of files over SSH, with asyncssh, in a process of its own.

    sftp.py FOLDER HOST_KEY AUTHORIZED_KEYS [--without-links]

Whoever has one of the keys sees FOLDER as the root.
"""

import asyncio
import sys

import asyncssh


class _Files(asyncssh.SFTPServer):
    def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel, chroot=sys.argv[1].encode())


class _WithoutLinks(_Files):
    def link(self, oldpath: bytes, newpath: bytes) -> None:
        """Say what servers say whose file system has no hard links."""
        del oldpath, newpath
        raise asyncssh.SFTPFailure("no links here")


async def main() -> None:
    """Serve on a port of its own choice, and print which one that is."""
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[sys.argv[2]],
        authorized_client_keys=sys.argv[3],
        sftp_factory=_WithoutLinks if "--without-links" in sys.argv[4:] else _Files,
    )
    print(f"ssh://127.0.0.1:{server.get_port()}")
    await server.wait_closed()


asyncio.run(main())
