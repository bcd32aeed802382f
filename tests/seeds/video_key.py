# Generates consistent hash from card combination
key = "video:a3f5e8d9c2b1..."  # SHA256 hash
