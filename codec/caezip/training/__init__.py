"""Training: never imported by encoding or decoding. See `caezip.training.trainer`."""
