/* The key of content that is addressed by what it was made from. */
#ifndef REDLANE_TYPES_CONTENT_KEY_H
#define REDLANE_TYPES_CONTENT_KEY_H

#include "py/python.h"

int redlane_content_key_setup(PyObject *module);

#define REDLANE_CONTENT_KEY_HEX 64

/* Writes the hex digits of SHA-256([black,[white…]]). RAISES_NEG */
int redlane_content_key_hex(RedlaneState *state, PyObject *black_card,
                            PyObject *white_cards, char hex[REDLANE_CONTENT_KEY_HEX]);

#endif
