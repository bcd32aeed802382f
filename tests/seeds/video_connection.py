from redlane import video_cache

# Check if using Redis
stats = video_cache.get_stats()
print(stats["cache_type"])  # "redis" or "memory"
