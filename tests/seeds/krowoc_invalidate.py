from redlane import invalidate_cache

# Invalidate cache for a specific pattern
invalidate_cache("cache:expensive_function:*")
