"""How long `lungwatch --help` takes, with warm file caches: at most half a second."""

from __future__ import annotations

import subprocess
import sys
import time

LIMIT_SECONDS = 0.5
RUNS = 9


def run_once() -> float:
    begun = time.perf_counter()
    command = [sys.executable, "-m", "worker.cli.main", "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    run_once()
    seconds = sorted(run_once() for _ in range(RUNS))
    median = seconds[RUNS // 2]
    verdict = "PASS" if median <= LIMIT_SECONDS else "FAIL"
    print(
        f"{verdict} lungwatch --help: median {median:.2f} s of {RUNS} runs "
        f"({seconds[0]:.2f} to {seconds[-1]:.2f}), limit {LIMIT_SECONDS} s"
    )


if __name__ == "__main__":
    main()
