# Set video (automatic Redis or memory)
video_cache.set(
    black_card="What's the secret to happiness?",
    white_cards=["Cats with opposable thumbs"],
    video_url="https://video.url/abc123.mp4",
    permanent=True  # No expiration
)

# Get video (checks Redis first, then memory)
url = video_cache.get(
    black_card="What's the secret to happiness?",
    white_cards=["Cats with opposable thumbs"]
)
