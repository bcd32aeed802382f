/* Ties the background thread to the module and to the interpreter's exit. */
#ifndef REDLANE_STORE_BACKGROUND_SETUP_H
#define REDLANE_STORE_BACKGROUND_SETUP_H

#include "py/python.h"

/* Makes the thread's owner (the thread itself starts on first need) and registers its
 * end with atexit. RAISES_NEG */
int redlane_background_setup(PyObject *module);

#endif
