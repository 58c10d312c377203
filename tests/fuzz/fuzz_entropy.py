"""Fuzzes the entropy layer: ``python tests/fuzz/fuzz_entropy.py -max_total_time=60``."""

from harness import main

if __name__ == "__main__":
    main("entropy")
