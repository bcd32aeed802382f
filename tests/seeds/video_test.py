# Set a test video
video_cache.set("test", ["card"], "http://test.mp4", permanent=False)

# Get it back
url = video_cache.get("test", ["card"])
print(url)  # "http://test.mp4"

# Check stats
stats = video_cache.get_stats()
print(f"Total entries: {stats['total_entries']}")
