"""Runs one load under one allocator and returns its figures as a dictionary. Which loads, how often
and in what order is not decided here."""

import json
import os
import subprocess
import tempfile

import machine

TIMEOUT_S = 180


class Programs:
    """The built programs, in the folder of the perf build."""

    def __init__(self, folder):
        self.loads = os.path.join(folder, "loads")
        self.launch = os.path.join(folder, "launch")
        self.recorder = os.path.join(folder, "trace", "recorder.so")
        self.finish = os.path.join(folder, "trace", "finish")
        self.replay = os.path.join(folder, "trace", "replay")
        for path in (self.loads, self.launch, self.recorder, self.finish, self.replay):
            if not os.access(path, os.X_OK):
                raise ValueError(
                    f"{path} is not built: cmake --preset release -DBERTH_PERF=ON && "
                    "cmake --build --preset release")


def environment_for(allocator):
    """The caller's environment without a preload, with the allocator's own settings."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    environment.update(allocator.environment)
    return environment


def launcher_command(programs, allocator, out, timeout_s, count_calls=False):
    command = [programs.launch, "-o", out, "-t", str(timeout_s)]
    if allocator.path:
        command += ["-p", allocator.path]
    return command + (["-s"] if count_calls else []) + ["--"]


def read_json(text):
    try:
        return json.loads(text)
    except ValueError:
        return {}


def why_not(figures, allocator, errors):
    """What went wrong, or an empty text."""
    if figures.get("timed_out"):
        return f"took longer than {TIMEOUT_S} s"
    if figures.get("signal"):
        return f"ended by signal {figures['signal']}: {errors}"
    if figures.get("exit") != 0 or "load" not in figures:
        return f"exit status {figures.get('exit')}: {errors}"
    used = os.path.realpath(figures["malloc"])
    if allocator.path and used != os.path.realpath(allocator.path):
        return f"malloc came from {used}: the preload did not take"
    return ""


def run_program(programs, allocator, arguments, count_calls=False):
    """The figures of a program's own report and of the launcher's, in one dictionary."""
    with tempfile.TemporaryDirectory(prefix="berth-bench.") as folder:
        out = os.path.join(folder, "launch.json")
        command = launcher_command(programs, allocator, out, TIMEOUT_S, count_calls)
        others = machine.Others()
        done = subprocess.run(command + arguments, env=environment_for(allocator),
                              capture_output=True, text=True, check=False)
        figures = read_json(done.stdout)
        with open(out, encoding="ascii") as file:
            figures.update(read_json(file.read()))
    figures["others"] = others.share()
    figures["failure"] = why_not(figures, allocator, done.stderr.strip()[-300:])
    return figures


def run_load(programs, allocator, row, work_percent, count_calls=False):
    return run_program(programs, allocator, [programs.loads] + row.arguments(work_percent),
                       count_calls)


def count_calls(programs, allocator, row, work_percent):
    """System calls of the measured part for each 1000 operations, by kind; {} if not allowed."""
    figures = run_load(programs, allocator, row, work_percent, count_calls=True)
    if figures["failure"] or "calls" not in figures or not figures["operations"]:
        return {}
    return {kind: 1000 * count / figures["operations"] for kind, count in figures["calls"].items()}
