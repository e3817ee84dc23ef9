"""The part of the demonstration with servers: static files over HTTP from pool memory, with the
pool's metrics beside them; and one message for 64 connections, shared and copied."""

import json
import os
import re
import shutil
import subprocess

import server

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = os.path.join(ROOT, "perf", "servers")
SHOWN = ("berth_pool_allocations_total", "berth_pool_count", "berth_pool_used_bytes",
         "berth_pool_file_bytes", "berth_pool_capacity_bytes")


def compiled(build, folder, name, *sources):
    program = os.path.join(folder, name)
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O2", "-D_GNU_SOURCE",
                    f"-I{ROOT}/include", *(os.path.join(SOURCES, source) for source in sources),
                    f"-L{build}", "-lberth", f"-Wl,-rpath,{build}", "-o", program], check=True)
    return program


def curl(*words):
    return subprocess.run(["curl", "-s", *words], capture_output=True, timeout=60,
                          check=False).stdout


def metrics_of(base):
    """The figures of the server's own pool."""
    text = curl(f"{base}/-/metrics").decode()
    found = re.findall(r'^(\w+)\{pool="files"\} (\d+)', text, re.M)
    return {name: int(value) for name, value in found}


def fetch(report, base, directory):
    names = sorted(name for name in os.listdir(directory)
                   if os.path.isfile(os.path.join(directory, name)))
    same = 0
    for name in names:
        with open(os.path.join(directory, name), "rb") as file:
            same += file.read() == curl(f"{base}/{name}")
    report.expect(names and same == len(names), f"curl gets all {len(names)} files as they are")
    with open(os.path.join(directory, names[0]), "rb") as file:
        part = file.read()[100:200]
    report.expect(curl("-r", "100-199", f"{base}/{names[0]}") == part, "and a range of one")
    report.expect(b"200 OK" in curl("-I", f"{base}/{names[0]}"), "and a head")
    missing = curl("-o", "/dev/null", "-w", "%{http_code}", f"{base}/is-not-there")
    report.expect(missing == b"404", "what is not there is not found")
    return max(names, key=lambda name: os.path.getsize(os.path.join(directory, name)))


def load(report, base, name):
    report.say(f"$ wrk -t2 -c64 -d2s {base}/{name}")
    said = subprocess.run(["wrk", "-t2", "-c64", "-d2s", f"{base}/{name}"], capture_output=True,
                          text=True, timeout=60, check=True).stdout
    done = re.search(r"(\d+) requests in", said)
    report.expect(done and not re.search(r"Non-2xx|Socket errors", said), "every answer is in order")
    report.figure("requests a second", re.search(r"Requests/sec:\s+(\S+)", said)[1])
    report.figure("bytes a second", re.search(r"Transfer/sec:\s+(\S+)", said)[1])
    return int(done[1])


def compiled_files(build, folder):
    return compiled(build, folder, "files", "files_server.c", "files.c", "http.c", "loop.c",
                    "loop_chain.c", "port.c", "watches.c")


def compiled_fanout(build, folder):
    return compiled(build, folder, "fanout", "fanout.c", "queue.c")


def files(report, build, folder):
    directory = os.path.join(ROOT, "docs")
    program = compiled_files(build, folder)
    report.say(f"$ files {os.path.relpath(directory)}")
    process = subprocess.Popen([program, directory], stdout=subprocess.PIPE, text=True,
                               env=server.environment())
    try:
        base = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        largest = fetch(report, base, directory)
        before = metrics_of(base)
        requests = load(report, base, largest)
        after = metrics_of(base)
        for name in SHOWN:
            report.figure(name, f"{before.get(name, 0):,} before the load, "
                                f"{after.get(name, 0):,} after")
        blocks = after["berth_pool_allocations_total"] - before["berth_pool_allocations_total"]
        report.figure("blocks that the pool lent, per response", f"{blocks / requests:.4f}")
        report.expect(blocks < requests / 20, "a response allocates nothing; connections do")
    finally:
        process.terminate()
        last, _ = process.communicate(timeout=20)
    said = json.loads(last.splitlines()[-1])
    report.expect(process.returncode == 0 and said["pool_live"] == 0,
                  "at its end nothing is left in the pool")


def fanout(report, build, folder):
    program = compiled_fanout(build, folder)
    for size, times in ((4096, 10), (65536, 100)):
        done = subprocess.run([program, str(size)], capture_output=True, text=True, check=True,
                              timeout=120, env=server.environment())
        found = json.loads(done.stdout)
        faster = found["copied_ns"] / max(found["shared_ns"], 1)
        less = found["copied_held"] / max(found["shared_held"], 1)
        report.line("")
        report.figure(f"{size // 1024} KiB, shared", f"{found['shared_ns'] / 1000:.1f} us, "
                      f"{found['shared_held'] / (1 << 20):.1f} MiB held while 64 wait")
        report.figure(f"{size // 1024} KiB, copied", f"{found['copied_ns'] / 1000:.1f} us, "
                      f"{found['copied_held'] / (1 << 20):.1f} MiB")
        report.expect(faster >= times, f"sharing is {faster:.0f} times faster ({times} at least)")
        report.expect(less >= 40, f"and holds 1/{less:.0f} of the memory (1/40 at most)")


def show(report, build, folder):
    report.begin("Buffers: a server of files, and one message for 64 connections")
    report.line("""
      A response is a reference to the file and to a head that is made once a second: nothing is
      allocated or copied for it, and a slow client holds no memory of its own.
""")
    if shutil.which("curl") and shutil.which("wrk"):
        files(report, build, folder)
    else:
        report.say("left out: curl and wrk are not installed")
    report.line("""
      A message for many is one block with as many references, however long it waits for the
      slowest; with malloc each connection gets a copy. Processor time of both, without the kernel:""")
    fanout(report, build, folder)
