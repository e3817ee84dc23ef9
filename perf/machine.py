"""What the figures depend on besides the allocators: processor, memory, kernel, settings, and how
busy the machine was with other work while a measurement ran."""

import os
import platform
import resource
import time

SETTINGS = ("BERTH_CONF", "MALLOC_CONF", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX")


def first_line(path, default=""):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return default


def field_of(path, key):
    """The value after `key:` in a file of such lines."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return ""


def describe():
    info = field_of("/proc/cpuinfo", "model name") or platform.machine()
    caches = {}
    base = "/sys/devices/system/cpu/cpu0/cache"
    for index in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        level = first_line(f"{base}/{index}/level")
        kind = first_line(f"{base}/{index}/type")
        if level and kind != "Instruction":
            caches[f"L{level}"] = first_line(f"{base}/{index}/size")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "processor": info,
        "cores": len(os.sched_getaffinity(0)),
        "caches": caches,
        "virtual": "hypervisor" in field_of("/proc/cpuinfo", "flags").split(),
        "memory_mib": int((field_of("/proc/meminfo", "MemTotal") or "0").split()[0]) // 1024,
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "huge_pages": first_line("/sys/kernel/mm/transparent_hugepage/enabled", "unknown"),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "unknown"),
        "python": platform.python_version(),
        "environment": {name: os.environ[name] for name in SETTINGS if name in os.environ},
    }


def busy_s():
    """Processor seconds used by everyone since boot, and those that the hypervisor took."""
    words = first_line("/proc/stat").split()
    ticks = [int(word) for word in words[1:9]] if len(words) > 8 else [0] * 8
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    per_second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / per_second, steal / per_second


def own_s():
    """Processor seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class Others:
    """Measures the share of the machine that was not ours between its making and share(). The
    measured process has ended, and has been waited for, when share() is asked."""

    def __init__(self):
        self.began = time.monotonic()
        self.taken = sum(busy_s()) - own_s()

    def share(self):
        """0 to 1: what other programs and the hypervisor took of all processors."""
        passed = (time.monotonic() - self.began) * (os.cpu_count() or 1)
        taken = sum(busy_s()) - own_s() - self.taken
        return round(min(max(taken / passed, 0), 1), 3)
