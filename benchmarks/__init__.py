"""redlane measured beside its peers: `python -m benchmarks`, README.md."""
