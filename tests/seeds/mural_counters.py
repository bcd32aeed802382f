# Cached counters updated incrementally:
user_pixels = cache.get(f"user_pixels:{user_id}")  # O(1) operation!

# When pixel placed:
if new_pixel:
    cache.increment("total_pixels")
    cache.increment(f"user_pixels:{user_id}")
