"""Fuzzes encoding, then decoding: ``python tests/fuzz/fuzz_round_trip.py -max_total_time=60``."""

from harness import main

if __name__ == "__main__":
    main("round_trip")
