"""What an elastic cache holds and moves: policy, numbers as they are stored, float64 oracle, bytes of a launch."""
