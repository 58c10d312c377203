"""Fuzzes the header and the sections: ``python tests/fuzz/fuzz_header.py -max_total_time=60``."""

from harness import main

if __name__ == "__main__":
    main("header")
