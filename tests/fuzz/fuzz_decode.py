"""Fuzzes decoding as a whole: ``python tests/fuzz/fuzz_decode.py -max_total_time=60``."""

from harness import main

if __name__ == "__main__":
    main("decode")
