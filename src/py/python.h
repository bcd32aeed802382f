/* Python.h as every file above core/ includes it, and the ownership words of
 * prototypes, which compile to nothing:
 *
 *   BORROWED    the result or argument is not owned
 *   STEALS      the callee takes over the caller's reference
 *   RAISES_NEG  returns -1 with an exception set on failure */
#ifndef REDLANE_PY_PYTHON_H
#define REDLANE_PY_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define BORROWED
#define STEALS
#define RAISES_NEG

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

#ifndef Py_NO_INLINE /* Python 3.10 */
#define Py_NO_INLINE __attribute__((noinline))
#endif

typedef struct RedlaneState RedlaneState;

#endif
