"""Google Cloud Storage as gcp-storage-emulator plays it, in a process of its own.

The emulator ignores `ifGenerationMatch`, so every writer of a name "wins". With `--honours` it is
made to honour it, as Google does; it answers one request at a time, so looking and writing are one
step.
"""

import functools
import http.server
import sys
from http import HTTPStatus
from typing import Any, Final

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage

_TAKEN: Final = {
    "error": {
        "code": 412,
        "message": "At least one of the pre-conditions you specified did not hold.",
        "errors": [{"reason": "conditionNotMet"}],
    }
}


class _Server(http.server.HTTPServer):
    # Of sixteen who connect at once, most would wait a second for their next try.
    request_queue_size = 128


def _insert_if_absent(request: Any, response: Any, storage: Any) -> None:  # noqa: ANN401 - the emulator's own
    if request.query.get("ifGenerationMatch") == ["0"]:
        bucket, name = request.params["bucket_name"], request.data["meta"]["name"]
        try:
            storage.get_file_obj(bucket, name)
        except NotFound:
            pass
        else:
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json(_TAKEN)
            return
    objects.insert(request, response, storage)


def _honouring(handlers: dict[str, Any]) -> dict[str, Any]:
    return {
        method: _insert_if_absent if handler is objects.insert else handler
        for method, handler in handlers.items()
    }


def main() -> None:
    """Serve on a port of its own choice, and print which one that is."""
    if "--honours" in sys.argv[1:]:
        server.HANDLERS = tuple((path, _honouring(of)) for path, of in server.HANDLERS)
    storage = Storage(use_memory_fs=True)
    # A list of all objects, written anew with each of them, that nobody reads here.
    storage._write_config_to_file = lambda: None
    serving = _Server(("127.0.0.1", 0), functools.partial(server.RequestHandler, storage))
    print(f"http://127.0.0.1:{serving.server_port}")
    serving.serve_forever()


main()
