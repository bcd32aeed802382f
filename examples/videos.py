"""Videos by the cards that they were made from."""

from redlane import VideoCache

videos = VideoCache()  # finds Redis, or says that it runs in memory

videos.set("Why?", ["Because."], "https://example.org/1.mp4", permanent=True)
print(videos.get("Why?", ["Because."]))
print(videos.get_stats())
