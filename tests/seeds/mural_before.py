# Every stats request did this expensive operation:
user_pixels = sum(1 for pixel in canvas_data.values() 
                 if pixel.get('user_id') == user_id)  # O(n) operation!
