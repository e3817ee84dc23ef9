"""The allocators that are compared: berth, glibc's own, the distribution's packages, and what the
command line names. This file finds them and says which version each is; it runs nothing."""

import glob
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

# Name, file names to look for, and Debian's package of it.
PACKAGED = (
    ("jemalloc", ("libjemalloc.so.2",), "libjemalloc2"),
    ("mimalloc", ("libmimalloc.so.3", "libmimalloc.so.2", "libmimalloc.so.2.*"), "libmimalloc2.0"),
    ("tcmalloc", ("libtcmalloc_minimal.so.4",), "libtcmalloc-minimal4"),
)
FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")

BERTH = "berth"
GLIBC = "glibc"


@dataclass
class Allocator:
    """A malloc that can be preloaded. path is None for glibc's, which is there anyway."""

    name: str
    path: str | None
    version: str = ""
    environment: dict = field(default_factory=dict)

    def is_peer(self):
        """Whether berth is measured against it."""
        return self.name != BERTH and not self.name.startswith(BERTH + "-")

    def describe(self):
        return {"name": self.name, "path": self.path, "version": self.version,
                "environment": self.environment, "peer": self.is_peer(),
                "sha256": sha256(self.path) if self.path else None}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def output_of(*command):
    """What a command prints, or nothing if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def package_version(path):
    """The version by the package manager, or what the file's name tells."""
    for candidate in dict.fromkeys((path, os.path.realpath(path))):
        for alias in (candidate, candidate.removeprefix("/usr")):
            owner = output_of("dpkg-query", "-S", alias)
            if owner:
                package = owner.split(":")[0]
                version = output_of("dpkg-query", "-W", "-f", "${Version}\n", package)
                return f"{package} {version.splitlines()[0]}" if version else package
    named = re.search(r"\.so\.([0-9.]+)$", os.path.realpath(path))
    return named.group(1) if named else "unknown"


def find_packaged():
    """(found allocators, [(name, package)] of those that are missing)."""
    found, missing = [], []
    for name, patterns, package in PACKAGED:
        paths = [path for pattern in patterns for folder in FOLDERS
                 for path in sorted(glob.glob(os.path.join(folder, pattern)))]
        if paths:
            found.append(Allocator(name, paths[0], package_version(paths[0])))
        else:
            missing.append((name, package))
    return found, missing


def glibc():
    version = output_of("getconf", "GNU_LIBC_VERSION").strip().removeprefix("glibc ")
    return Allocator(GLIBC, None, version or "unknown")


def berth(path):
    named = re.search(r"\.so\.([0-9.]+)$", os.path.realpath(path))
    return Allocator(BERTH, os.path.abspath(path), named.group(1) if named else "unknown")


def from_argument(text):
    """name=path, as on the command line."""
    name, equals, path = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{text}: write NAME=PATH")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: no such file")
    path = os.path.abspath(path)
    return Allocator(name, path, package_version(path))


def apply_environment(allocators, settings):
    """Adds NAME:VARIABLE=VALUE settings to the allocators they name."""
    by_name = {allocator.name: allocator for allocator in allocators}
    for text in settings:
        name, colon, setting = text.partition(":")
        variable, equals, value = setting.partition("=")
        if not colon or not equals or name not in by_name:
            raise ValueError(f"{text}: write NAME:VARIABLE=VALUE, NAME one of {', '.join(by_name)}")
        by_name[name].environment[variable] = value


def choose(build, named, settings, without):
    """berth from its build folder, glibc, what is installed, and what is named as NAME=PATH."""
    library = os.path.join(build, "libberth-malloc.so")
    if not os.path.isfile(library):
        raise ValueError(f"{library} is not built: run `make`, or name its folder with --build")
    packaged, missing = find_packaged()
    for name, package in missing:
        print(f"{name} is not installed (Debian: {package}); going on without", file=sys.stderr)
    found = [berth(library), glibc(), *packaged, *(from_argument(text) for text in named)]
    if len({one.name for one in found}) < len(found):
        raise ValueError("two allocators have the same name")
    apply_environment(found, settings)
    return [one for one in found if one.name not in without]
