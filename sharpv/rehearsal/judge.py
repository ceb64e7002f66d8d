"""A stand-in for the judge: an OpenAI-compatible endpoint on this machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Reply = Callable[[str], str | None]
"""From what is asked to what is answered; None fails, as a busy server does (503)."""


def yes(asked: str) -> str:
    return '{"pred": "yes", "score": 5}'


@contextmanager
def stand_in(reply: Reply = yes) -> Iterator[str]:
    """The address of a judge that answers as long as the context lasts, several requests at a time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
            if (said := reply(asked)) is None:
                self.send_error(503)
                return
            message = {"role": "assistant", "content": said}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "stand-in", "choices": choices}
            body = json.dumps(whole).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the output of whoever asks is what is read."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
