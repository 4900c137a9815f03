#!/usr/bin/env python3
"""Shows what Hookline delivers to this machine: python3 receiver.py PORT SECRET"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verify import verify

if len(sys.argv) != 3 or not sys.argv[1].isdecimal():
    sys.exit("usage: python3 receiver.py PORT SECRET")
port, secret = int(sys.argv[1]), sys.argv[2]
printing = threading.Lock()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        genuine = verify(secret, self.headers, body)
        self.send_response(204 if genuine else 401)
        self.end_headers()
        # Each request has a thread, and their lines must not mix.
        with printing:
            print("genuine" if genuine else "forged", self.headers["webhook-id"], body.decode(), flush=True)

    def log_message(self, *_):
        pass


try:
    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
except (OSError, OverflowError) as why:
    sys.exit(f"receiver.py cannot listen on port {port}: {why}")
except KeyboardInterrupt:
    pass
