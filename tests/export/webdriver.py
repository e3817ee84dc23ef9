"""A headless Chromium, driven through chromedriver by the W3C's WebDriver protocol."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

START_S = 60


class Failed(Exception):
    """The browser does not do what it is told."""


def missing():
    """The first program that is not there, or None."""
    return next((name for name in ("chromium", "chromedriver") if not shutil.which(name)), None)


class Browser:
    """A context. Its logs and its profile go with it."""

    def __init__(self, width=1280, height=900, dark=False):
        self.size, self.dark = (width, height), dark
        self.session = self.driver = None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="berth-browser.")
        log = os.path.join(self.folder.name, "chromedriver.log")
        with open(log, "w", encoding="utf-8") as output:
            self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=output,
                                           stderr=output, stdin=subprocess.DEVNULL,
                                           env=dict(os.environ, HOME=self.folder.name))
        try:
            self.url = f"http://127.0.0.1:{self.await_port(log)}"
            self.session = self.call("POST", "/session", self.wishes())["sessionId"]
            self.devtools("Emulation.setDeviceMetricsOverride", width=self.size[0],
                          height=self.size[1], deviceScaleFactor=1, mobile=False)
            self.devtools("Emulation.setEmulatedMedia", features=[
                {"name": "prefers-color-scheme", "value": "dark" if self.dark else "light"}])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        except Failed:
            pass
        self.driver.terminate()
        self.driver.wait(timeout=START_S)
        self.folder.cleanup()

    @staticmethod
    def await_port(log):
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with open(log, encoding="utf-8") as file:
                found = re.search(r"started successfully on port (\d+)", file.read())
            if found:
                return found[1]
            time.sleep(0.05)
        raise Failed("chromedriver does not start")

    def wishes(self):
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", "--hide-scrollbars",
                 f"--user-data-dir={os.path.join(self.folder.name, 'profile')}",
                 f"--window-size={self.size[0]},{self.size[1]}"]
        return {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": flags, "binary": shutil.which("chromium")}}}}

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=START_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: {error.read().decode(errors='replace')[:600]}") from error
        except OSError as error:
            raise Failed(f"{path}: {error}") from error

    def devtools(self, command, **parameters):
        return self.call("POST", f"/session/{self.session}/goog/cdp/execute",
                         {"cmd": command, "params": parameters})

    def open(self, url):
        self.call("POST", f"/session/{self.session}/url", {"url": url})

    def run(self, script, *arguments):
        """What a function body in the page returns."""
        return self.call("POST", f"/session/{self.session}/execute/sync",
                         {"script": script, "args": list(arguments)})

    def wait_for(self, script, *arguments, seconds=60):
        """Until a function body in the page returns something true, which comes back."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.run(script, *arguments)
            if found:
                return found
            time.sleep(0.1)
        raise Failed(f"in vain: {script}")

    def point_at(self, x, y):
        """Moves the mouse there."""
        self.call("POST", f"/session/{self.session}/actions", {"actions": [{
            "type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
            "actions": [{"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}]}]})

    def complaints(self):
        """What the page's console has: errors of the script, what the policy forbade."""
        return [entry["message"] for entry in
                self.call("POST", f"/session/{self.session}/se/log", {"type": "browser"})]

    def picture(self, path):
        """The whole page, as a PNG."""
        height = self.run("return document.documentElement.scrollHeight")
        self.devtools("Emulation.setDeviceMetricsOverride", width=self.size[0],
                      height=max(height, self.size[1]), deviceScaleFactor=1, mobile=False)
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("GET", f"/session/{self.session}/screenshot")))
        self.devtools("Emulation.setDeviceMetricsOverride", width=self.size[0],
                      height=self.size[1], deviceScaleFactor=1, mobile=False)
