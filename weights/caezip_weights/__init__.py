"""Weight files and their manifest, nothing else. Read through `caezip.pretrained`."""
