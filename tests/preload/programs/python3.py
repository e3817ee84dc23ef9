"""Work of many kinds with a result that is always the same. PYTHONMALLOC=malloc is set for a part of
it, so that every object is a block."""
import concurrent.futures
import decimal
import functools
import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import zlib


def texts(seed):
    words = [f"word{i * seed % 977}" for i in range(20000)]
    text = " ".join(words)
    counts = {}
    for word in re.findall(r"\w+", text):
        counts[word] = counts.get(word, 0) + 1
    packed = zlib.compress(json.dumps(counts, sort_keys=True).encode(), 6)
    return hashlib.sha256(zlib.decompress(packed)).hexdigest()


def numbers(seed):
    decimal.getcontext().prec = 500
    root = decimal.Decimal(seed + 2).sqrt()
    return hashlib.sha256(f"{root} {7 ** (seed + 3000)}".encode()).hexdigest()


def objects(seed):
    tree = functools.reduce(lambda left, i: {"i": i, "left": left, "s": "x" * (i % 300)},
                            range(400), None)
    grown = []
    for i in range(100000):
        grown.append(bytes(i * seed % 90))
        if i % 3 == 0:
            grown[i // 2] = None
    return f"{len(json.dumps(tree))} {sum(len(g) for g in grown if g)}"


def work(seed):
    return texts(seed), numbers(seed), objects(seed)


def in_threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(work, range(1, 5)))


def in_processes():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(work, range(1, 5))


def main():
    threads = in_threads()
    assert threads == in_processes()
    print(hashlib.sha256(repr(threads).encode()).hexdigest())
    short = [threading.Thread(target=objects, args=(3,)) for _ in range(4)]
    for thread in short:
        thread.start()
    for thread in short:
        thread.join()
    if len(sys.argv) == 1:
        again = subprocess.run([sys.executable, __file__, "again"], capture_output=True, check=True,
                               env=dict(os.environ, PYTHONMALLOC="malloc"))
        print(again.stdout.decode().strip())


if __name__ == "__main__":
    main()
