"""Measures what speculative decoding gains: runs `foretoken generate` without and with drafts in turn, one prompt at a time
and all together. Prints tokens/s, their ratio to decoding without drafts, the drafts' acceptance, and whether greedy texts
are the same.

    tests/benchmarks/speculation.py build/cuda-release/bin/foretoken RUN PROMPT_FILE... [--device cuda] [--tokens 1000]
"""

import argparse
import re
import statistics
import subprocess
import sys

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("program")
p.add_argument("run")
p.add_argument("prompts", nargs="+")
p.add_argument("--device", default="auto")
p.add_argument("--tokens", type=int, default=1000)
p.add_argument("--singles", type=int, default=3, help="prompts that are also timed one by one")
p.add_argument("--temperatures", type=float, nargs="+", default=[0, 0.8])
p.add_argument("--drafts", nargs="+", default=["1", "2", "3", "5", "auto"], help="K, auto, or a tree such as 3,2,2")
a = p.parse_args()


def generate(prompts, temperature, drafts):
    """Returns the tokens/s, the line about acceptance, and the text."""
    how = [] if drafts is None else ["--tree" if "," in drafts else "--speculate", drafts]
    command = [a.program, "generate", a.run, "--device", a.device, "--max-tokens", str(a.tokens),
               "--temperature", str(temperature), *how]
    for prompt in prompts:
        command += ["--prompt-file", prompt]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    speed = re.search(r"([\d.]+) tokens/s", done.stderr)
    if done.returncode or not speed:
        sys.exit(f"{' '.join(command)}: code {done.returncode}\n{done.stderr}")
    told = re.search(r"acceptance rate.*", done.stderr)
    return float(speed[1]), told[0] if told else "", done.stdout


for temperature in a.temperatures:
    for batches in ([[prompt] for prompt in a.prompts[:a.singles]], [a.prompts]):
        print(f"{len(batches[0])} together, temperature {temperature:g}")
        plain = [generate(batch, temperature, None) for batch in batches]
        print(f"  {'plain':8} {statistics.median(r[0] for r in plain):9.0f} tokens/s")
        for drafts in a.drafts:
            drafted = [generate(batch, temperature, drafts) for batch in batches]
            ratio = statistics.median(d[0] / r[0] for d, r in zip(drafted, plain))
            same = ""
            if temperature == 0:
                same = "; same text" if all(d[2] == r[2] for d, r in zip(drafted, plain)) else "; ANOTHER TEXT"
            print(f"  {drafts:8} {statistics.median(d[0] for d in drafted):9.0f} tokens/s, {ratio:.2f} of plain{same}; "
                  f"{drafted[0][1]}", flush=True)
