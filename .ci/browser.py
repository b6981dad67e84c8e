#!/usr/bin/env python3
"""Serves a folder to headless Chromium, opens its index.html and prints the lines that the page posts, until it ends.

usage: .ci/browser.py FOLDER [SECONDS]

The page prints a line by a POST to /say and ends by a POST of `ok` or an error to /end. WebGPU runs on SwiftShader, the software adapter
bundled with Chromium, on every machine. Fails if the page posts an error, posts nothing for SECONDS (300), or if Chromium exits.
"""
import functools
import http.server
import queue
import subprocess
import sys
import tempfile
import threading

FLAGS = [
    "--headless",
    "--no-sandbox",  # the sandbox refuses to run as root, as in a container
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
]


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm"}
    said = queue.Queue()

    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.said.put((self.path, line))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def main(folder, seconds=300):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile("w+") as log:
        address = f"http://127.0.0.1:{server.server_port}/"
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        threading.Thread(target=lambda: Handler.said.put(("/died", f"chromium ended with {browser.wait()}")), daemon=True).start()
        try:
            end, why = listen(float(seconds))
        finally:
            browser.terminate()
            browser.wait()
        if end == "/end" and why == "ok":
            return 0
        print(f"{folder}: {why}", file=sys.stderr)
        if end != "/end":
            log.seek(0)
            print(*log.readlines()[-20:], sep="", file=sys.stderr)
        return 1


def listen(seconds):
    while True:
        try:
            path, line = Handler.said.get(timeout=seconds)
        except queue.Empty:
            return "/silent", f"the page said nothing for {seconds:.0f} seconds"
        if path != "/say":
            return path, line
        print(line, flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
