/* ToolHandle: what the tools that are written in Python need of a client. Under the
 * GIL. */
#ifndef REDLANE_TYPES_TOOL_HANDLE_H
#define REDLANE_TYPES_TOOL_HANDLE_H

#include "py/state.h"

int redlane_tool_handle_setup(PyObject *module);

#endif
