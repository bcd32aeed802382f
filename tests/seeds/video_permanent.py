# Cache winning combination forever
video_cache.set(
    black_card=winner_black,
    white_cards=winner_whites,
    video_url=generated_url,
    permanent=True  # Never expires
)
