/* VideoCache: videos by the cards they were made from. Under the GIL. */
#ifndef REDLANE_TYPES_VIDEO_CACHE_H
#define REDLANE_TYPES_VIDEO_CACHE_H

#include "py/python.h"

int redlane_video_cache_setup(PyObject *module);

#endif
